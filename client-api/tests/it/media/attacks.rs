//! What strangers try.

use http::Method;

use super::world::{UPLOAD, download, each, each_with, id_of, request, told, with_body};
use crate::harness::esc;
use rhizome_client_api::config::Unauthenticated;

#[tokio::test]
async fn names_do_no_harm_wherever_they_come_from() {
    each(async |world| {
        let ada = world.register("ada").await;
        for (name, harmless) in [
            ("a\r\nSet-Cookie: x=y", "filename=\"aSet-Cookie: x=y\""),
            ("../../../etc/passwd", "filename=.._.._.._etc_passwd"),
            ("..\\..\\autoexec.bat", "filename=.._.._autoexec.bat"),
            ("x\u{202e}gnp.exe", "filename=xgnp.exe"),
            (
                "a\"; filename=\"b.exe",
                "filename=\"a_; filename=_b.exe\"; filename*=UTF-8''a%22%3B%20filename%3D%22b.exe",
            ),
            ("\0", ""),
            ("..", ""),
        ] {
            let id = world.upload(&ada, "x/y", name, b"bytes").await;
            let mut expected = "attachment".to_owned();
            if !harmless.is_empty() {
                expected = format!("attachment; {harmless}");
            }
            let stored = world.get(&ada, &download(&id)).await;
            assert_eq!(told(&stored.headers, "content-disposition"), expected);
            let asked = format!("{}/{}", download(&id), esc(name));
            let asked = world.get(&ada, &asked).await;
            assert_eq!(told(&asked.headers, "content-disposition"), expected);
            assert!(!asked.headers.contains_key("set-cookie"));
        }
        let long = "ä".repeat(3_000);
        let id = world.upload(&ada, "x/y", &long, b"bytes").await;
        let answer = world.get(&ada, &download(&id)).await;
        assert!(told(&answer.headers, "content-disposition").len() < 1_200);
    })
    .await;
}

#[tokio::test]
async fn types_that_browsers_would_run_are_saved() {
    each(async |world| {
        let ada = world.register("ada").await;
        for (said, kept) in [
            ("text/html", "text/html"),
            ("TEXT/HTML; charset=utf-8", "TEXT/HTML; charset=utf-8"),
            ("image/svg+xml", "image/svg+xml"),
            ("application/xhtml+xml", "application/xhtml+xml"),
            ("text/xml", "text/xml"),
            ("application/javascript", "application/javascript"),
            ("image/png, text/html", "application/octet-stream"),
            ("image/png;\ttext/html", "application/octet-stream"),
            ("text/html/../image/png", "application/octet-stream"),
            (" ", "application/octet-stream"),
            ("image", "application/octet-stream"),
        ] {
            let id = world.upload(&ada, said, "", b"<script>").await;
            let answer = world.get(&ada, &download(&id)).await;
            assert_eq!(told(&answer.headers, "content-type"), kept, "{said}");
            assert_eq!(told(&answer.headers, "content-disposition"), "attachment");
            assert_eq!(told(&answer.headers, "x-content-type-options"), "nosniff");
            let policy = told(&answer.headers, "content-security-policy");
            assert!(
                policy.starts_with("sandbox; default-src 'none'"),
                "{policy}"
            );
        }
        // What isn't text, and what is too long to be a type.
        let odd = with_body(Method::POST, UPLOAD, Some(&ada), &[], "x");
        let (mut parts, body) = odd.into_parts();
        let value = http::HeaderValue::from_bytes(b"image/\xff").unwrap();
        parts.headers.insert("content-type", value);
        let odd = http::Request::from_parts(parts, body);
        world.raw(odd).await.fails(400, "M_INVALID_PARAM");
        let long = format!("image/{}", "x".repeat(10_000));
        let id = world.upload(&ada, &long, "", b"x").await;
        let answer = world.get(&ada, &download(&id)).await;
        let kept = told(&answer.headers, "content-type");
        assert_eq!(kept, "application/octet-stream");
    })
    .await;
}

#[tokio::test]
async fn ids_and_servers_that_are_none() {
    let open = |settings: &mut super::world::Settings| {
        settings.client.unauthenticated_media = Unauthenticated::Open;
    };
    each_with(open, async |world| {
        let ada = world.register("ada").await;
        let ids = [
            "..",
            "%2e%2e",
            "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd",
            "..%2f..%2fetc%2fpasswd",
            "%252e%252e",
            "..%5c..%5cx",
            "%00",
            "a%00.png",
            "a.png",
            "%C3%A4",
            "%c0%ae%c0%ae",
            "a%20b",
        ];
        let servers = [
            "127.0.0.1%2Fx",
            "%2e%2e",
            "a%20b",
            "-%0d%0ax",
            "user@host",
            "[::1",
            ":8448",
        ];
        let names = ids.map(|id| format!("elsewhere.test/{id}"));
        let names = names
            .into_iter()
            .chain(ids.map(|id| format!("here.test/{id}")));
        let names = names.chain(servers.map(|server| format!("{server}/abc")));
        for name in names {
            for path in [
                format!("/_matrix/client/v1/media/download/{name}"),
                format!("/_matrix/client/v1/media/download/{name}/file"),
                format!("/_matrix/client/v1/media/thumbnail/{name}?width=1&height=1"),
                format!("/_matrix/media/v3/download/{name}"),
                format!("/_matrix/media/v3/thumbnail/{name}?width=1&height=1"),
            ] {
                let answer = world.get(&ada, &path).await;
                answer.fails(400, "M_INVALID_PARAM");
            }
            let path = format!("/_matrix/media/v3/upload/{name}");
            let put = with_body(Method::PUT, &path, Some(&ada), &[], "x");
            world.raw(put).await.fails(400, "M_INVALID_PARAM");
        }
        assert_eq!((world.strangers.count(), world.files()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn another_method_is_refused_and_others_pages_may_ask() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "x/y", "", b"x").await;
        for path in [download(&id), UPLOAD.to_owned()] {
            let wrong = request(Method::DELETE, &path, Some(&ada), &[]);
            world.raw(wrong).await.fails(405, "M_UNRECOGNIZED");
            let preflight = request(Method::OPTIONS, &path, None, &[]);
            let preflight = world.raw(preflight).await;
            assert!(preflight.status.is_success());
            assert_eq!(told(&preflight.headers, "access-control-allow-origin"), "*");
        }
        let again = with_body(Method::POST, UPLOAD, Some(&ada), &[], "x");
        id_of(world.raw(again).await);
    })
    .await;
}
