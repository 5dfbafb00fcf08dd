//! Thumbnails.

use http::Method;

use super::world::{LARGE, PNG, UPLOAD, each, request, told, with_body};
use crate::asking::SERVER;

fn thumbnail(id: &str, query: &str) -> String {
    format!("/_matrix/client/v1/media/thumbnail/{SERVER}/{id}?{query}")
}

#[tokio::test]
async fn a_picture_is_made_as_it_is_asked_for() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "mine.png", PNG).await;
        for (query, picture) in [
            ("width=32&height=32", "32x32 scale false Plain"),
            ("width=96&height=40&method=crop", "96x40 crop false Plain"),
            (
                "width=32&height=32&method=scale&animated=true",
                "32x32 scale true Plain",
            ),
            (
                "width=32&height=32&animated=false",
                "32x32 scale false Plain",
            ),
        ] {
            let answer = world.get(&ada, &thumbnail(&id, query)).await;
            assert_eq!(answer.bytes, picture, "{query}");
            assert_eq!(told(&answer.headers, "content-type"), "image/png");
            assert_eq!(
                told(&answer.headers, "content-disposition"),
                "inline; filename=thumbnail.png"
            );
            assert_eq!(told(&answer.headers, "vary"), "Accept");
            assert_eq!(told(&answer.headers, "x-content-type-options"), "nosniff");
        }
        // None is larger than the file's own.
        for size in [u64::from(LARGE), 9_007_199_254_740_991] {
            let query = format!("width={size}&height=1");
            let answer = world.get(&ada, &thumbnail(&id, &query)).await;
            assert_eq!(answer.bytes, PNG);
            assert_eq!(told(&answer.headers, "content-type"), "image/png");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_gets_what_it_can_read() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "", PNG).await;
        let path = thumbnail(&id, "width=32&height=32");
        for (accept, kind, name) in [
            (
                "image/avif,image/webp,*/*;q=0.8",
                "image/webp",
                "thumbnail.webp",
            ),
            ("image/png, */*", "image/png", "thumbnail.png"),
            ("image/webp;q=0, */*", "image/png", "thumbnail.png"),
        ] {
            let answer = world.get_with(&ada, &path, &[("accept", accept)]).await;
            assert_eq!(told(&answer.headers, "content-type"), kind, "{accept}");
            let expected = format!("inline; filename={name}");
            assert_eq!(told(&answer.headers, "content-disposition"), expected);
            let tag = told(&answer.headers, "etag");
            let has = [("accept", accept), ("if-none-match", tag)];
            let again = world.get_with(&ada, &path, &has).await;
            assert_eq!(again.status, 304);
            assert_eq!(told(&again.headers, "vary"), "Accept");
            let head = request(Method::HEAD, &path, Some(&ada), &[("accept", accept)]);
            let head = world.raw(head).await;
            assert_eq!((head.bytes.len(), told(&head.headers, "etag")), (0, tag));
        }
    })
    .await;
}

#[tokio::test]
async fn what_no_picture_can_be_made_of() {
    each(async |world| {
        let ada = world.register("ada").await;
        let size = "width=32&height=32";
        let text = world.upload(&ada, "image/png", "", b"no picture").await;
        let answer = world.get(&ada, &thumbnail(&text, size)).await;
        answer.fails(400, "M_UNKNOWN");
        let large = [PNG, &[0; 1_000]].concat();
        let large = world.upload(&ada, "image/png", "", &large).await;
        let answer = world.get(&ada, &thumbnail(&large, size)).await;
        answer.fails(413, "M_TOO_LARGE");
        let nothing = world.get(&ada, &thumbnail("nothing", size)).await;
        nothing.fails(404, "M_NOT_FOUND");

        let id = world.upload(&ada, "image/png", "", PNG).await;
        for query in [
            "width=0&height=32",
            "width=32&height=0",
            "width=-1&height=32",
            "width=1.5&height=32",
            "width=a&height=32",
            "width=99999999999999999999&height=32",
            "width=32&height=32&method=stretch",
            "width=32&height=32&animated=perhaps",
            "width=32&height=32&timeout_ms=-1",
        ] {
            let answer = world.get(&ada, &thumbnail(&id, query)).await;
            answer.fails(400, "M_INVALID_PARAM");
        }
        for query in ["", "width=32", "height=32"] {
            let answer = world.get(&ada, &thumbnail(&id, query)).await;
            answer.fails(400, "M_MISSING_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn who_uploads_a_picture_may_ask_for_its_blur() {
    each(async |world| {
        let ada = world.register("ada").await;
        let upload = async |query: &str, bytes: &'static [u8]| {
            let path = format!("{UPLOAD}{query}");
            let request = with_body(Method::POST, &path, Some(&ada), &[], bytes);
            world.raw(request).await.ok()["xyz.amorgan.blurhash"].clone()
        };
        let asks = "?xyz.amorgan.generate_blurhash=true&filename=a.png";
        assert_eq!(upload(asks, PNG).await, "LEHV6nWB2yk8pyo0adR*.7kCMdnj");
        for (query, bytes) in [
            ("", PNG),
            ("?xyz.amorgan.generate_blurhash=false", PNG),
            (asks, b"no picture"),
        ] {
            assert_eq!(upload(query, bytes).await, serde_json::Value::Null);
        }
    })
    .await;
}
