//! What is told of a file that is downloaded.

use http::Method;

use super::world::{PNG, World, download, each, request, told};
use crate::asking::{HttpAnswer, User};
use crate::harness::esc;

const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";

#[tokio::test]
async fn a_file_is_told_so_that_it_does_no_harm() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a picture.png", PNG).await;
        let answer = world.get(&ada, &download(&id)).await;
        for (name, value) in [
            ("content-type", "image/png"),
            ("content-disposition", "inline; filename=\"a picture.png\""),
            ("content-security-policy", POLICY),
            ("cross-origin-resource-policy", "cross-origin"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "private, max-age=31536000, immutable"),
            ("accept-ranges", "bytes"),
            ("content-length", &PNG.len().to_string()),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(told(&answer.headers, name), value, "{name}");
        }
        let exposed = told(&answer.headers, "access-control-expose-headers");
        assert!(exposed.contains("Content-Range"), "{exposed}");
    })
    .await;
}

async fn disposition(world: &World, user: &User, path: &str) -> String {
    let answer = world.get(user, path).await;
    assert_eq!(answer.status, 200, "{path}");
    told(&answer.headers, "content-disposition").to_owned()
}

#[tokio::test]
async fn a_file_has_the_name_that_it_was_given_or_is_asked_for_by() {
    each(async |world| {
        let ada = world.register("ada").await;
        for (name, expected) in [
            ("", "inline"),
            ("ascii", "inline; filename=ascii"),
            (
                "name;with;semicolons",
                "inline; filename=\"name;with;semicolons\"",
            ),
            (
                "🐔",
                "inline; filename=\"_\"; filename*=UTF-8''%F0%9F%90%94",
            ),
        ] {
            let id = world.upload(&ada, "image/png", name, PNG).await;
            let path = download(&id);
            assert_eq!(disposition(&world, &ada, &path).await, expected);
            let other = format!("{path}/{}", esc("☕ 1.png"));
            let expected = "inline; filename=\"_ 1.png\"; filename*=UTF-8''%E2%98%95%201.png";
            assert_eq!(disposition(&world, &ada, &other).await, expected);
        }
        let id = world
            .upload(&ada, "text/html", "page.html", b"<script>")
            .await;
        let saved = disposition(&world, &ada, &download(&id)).await;
        assert_eq!(saved, "attachment; filename=page.html");
        // Another name makes it nothing else.
        let path = format!("{}/picture.png", download(&id));
        let saved = disposition(&world, &ada, &path).await;
        assert_eq!(saved, "attachment; filename=picture.png");
    })
    .await;
}

async fn head(world: &World, user: &User, path: &str, headers: &[(&str, &str)]) -> HttpAnswer {
    let asked = request(Method::HEAD, path, Some(user), headers);
    world.raw(asked).await
}

#[tokio::test]
async fn a_head_is_told_what_a_get_is() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        let path = download(&id);
        let whole = world.get(&ada, &path).await;
        let told = head(&world, &ada, &path, &[]).await;
        assert_eq!((told.status, told.bytes.len()), (whole.status, 0));
        assert_eq!(told.headers, whole.headers);
        // HTTP has parts for GET alone.
        let part = head(&world, &ada, &path, &[("range", "bytes=1-2")]).await;
        assert_eq!((part.status, part.headers), (whole.status, whole.headers));
        let nothing = head(&world, &ada, &download("nothing"), &[]).await;
        assert_eq!(nothing.status, 404);
    })
    .await;
}

#[tokio::test]
async fn who_has_a_file_is_told_so() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        let path = download(&id);
        let whole = world.get(&ada, &path).await;
        let tag = told(&whole.headers, "etag");
        assert!(
            tag.len() > 10 && tag.starts_with('"') && tag.ends_with('"'),
            "{tag}"
        );
        let weak = format!("\"other\", W/{tag}");
        for known in [tag, weak.as_str(), "*"] {
            let answer = world
                .get_with(&ada, &path, &[("if-none-match", known)])
                .await;
            assert_eq!((answer.status.as_u16(), answer.bytes.len()), (304, 0));
            assert_eq!(told(&answer.headers, "etag"), tag);
            assert!(told(&answer.headers, "cache-control").starts_with("private"));
        }
        let other = [("if-none-match", "\"other\"")];
        let answer = world.get_with(&ada, &path, &other).await;
        assert_eq!((answer.status.as_u16(), &*answer.bytes), (200, PNG));
        // The same bytes are the same file, under whichever name.
        let again = world.upload(&ada, "image/png", "b.png", PNG).await;
        let again = world.get(&ada, &download(&again)).await;
        assert_eq!(told(&again.headers, "etag"), tag);
        let changed = world.upload(&ada, "image/png", "b.png", b"other").await;
        let changed = world.get(&ada, &download(&changed)).await;
        assert_ne!(told(&changed.headers, "etag"), tag);
    })
    .await;
}

#[tokio::test]
async fn downloads_are_for_users() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        let gone = world.login("ada").await;
        gone.post("/logout", serde_json::json!({})).await.ok();
        let thumbnail = "/_matrix/client/v1/media/thumbnail/here.test/x?width=1&height=1";
        let named = format!("{}/name", download(&id));
        for path in [&download(&id), &named, thumbnail] {
            world.anybody(path).await.fails(401, "M_MISSING_TOKEN");
            world.get(&gone, path).await.fails(401, "M_UNKNOWN_TOKEN");
        }
        world
            .get(&ada, &download("nothing"))
            .await
            .fails(404, "M_NOT_FOUND");
    })
    .await;
}
