//! Uploads, and what becomes of those that aren't whole.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body::{Frame, SizeHint};
use serde_json::json;

use super::world::{UPLOAD, download, each, each_with, id_of, request, told, with_body};

#[tokio::test]
async fn a_file_comes_back_as_it_went() {
    each(async |world| {
        let ada = world.register("ada").await;
        let bob = world.register("bob").await;
        let large: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        for (kind, name, bytes) in [
            ("image/png", "test.png", &b"a picture"[..]),
            ("img/png", "🐔", b"another"),
            ("text/plain", "", b""),
            ("application/x-large", "large", &large),
        ] {
            let id = world.upload(&ada, kind, name, bytes).await;
            let answer = world.get(&bob, &download(&id)).await;
            assert_eq!(answer.status, 200);
            assert_eq!(told(&answer.headers, "content-type"), kind);
            assert_eq!(
                told(&answer.headers, "content-length"),
                bytes.len().to_string()
            );
            assert_eq!(answer.bytes, bytes, "{kind}");
        }
        // What has no type has one all the same.
        let request = with_body(Method::POST, UPLOAD, Some(&ada), &[], "bytes");
        let id = id_of(world.raw(request).await);
        let answer = world.get(&ada, &download(&id)).await;
        assert_eq!(
            told(&answer.headers, "content-type"),
            "application/octet-stream"
        );
    })
    .await;
}

#[tokio::test]
async fn uploads_are_for_users() {
    each(async |world| {
        let ada = world.register("ada").await;
        let gone = world.login("ada").await;
        gone.post("/logout", json!({})).await.ok();
        for path in [
            UPLOAD,
            "/_matrix/media/v1/create",
            "/_matrix/media/r0/upload",
        ] {
            let nobody = request(Method::POST, path, None, &[]);
            world.raw(nobody).await.fails(401, "M_MISSING_TOKEN");
            let gone = with_body(Method::POST, path, Some(&gone), &[], "{}");
            world.raw(gone).await.fails(401, "M_UNKNOWN_TOKEN");
        }
        assert_eq!(world.files(), 0);
        let old = with_body(
            Method::POST,
            "/_matrix/media/r0/upload",
            Some(&ada),
            &[],
            "x",
        );
        id_of(world.raw(old).await);
    })
    .await;
}

#[tokio::test]
async fn what_may_be_uploaded_is_told_and_more_refused() {
    each_with(
        |settings| settings.media.max_upload_size = 100_000,
        async |world| {
            let ada = world.register("ada").await;
            for path in [
                "/_matrix/client/v1/media/config",
                "/_matrix/media/v3/config",
            ] {
                let told = world.get(&ada, path).await.ok();
                assert_eq!(told, json!({ "m.upload.size": 100_000 }));
                world.anybody(path).await.fails(401, "M_MISSING_TOKEN");
            }
            let whole = vec![7_u8; 100_000];
            world.upload(&ada, "x/y", "", &whole).await;
            let files = world.files();
            // One that says so beforehand, and one that doesn't.
            let announced = with_body(Method::POST, UPLOAD, Some(&ada), &[], vec![7_u8; 100_001]);
            world.raw(announced).await.fails(413, "M_TOO_LARGE");
            let pieces = (0..11).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7_u8; 10_000])));
            let body = Body::from_stream(stream::iter(pieces));
            let silent = with_body(Method::POST, UPLOAD, Some(&ada), &[], body);
            world.raw(silent).await.fails(413, "M_TOO_LARGE");
            assert_eq!(world.files(), files);
        },
    )
    .await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    each(async |world| {
        let ada = world.register("ada").await;
        let pieces = || {
            let piece = Ok(Bytes::from(vec![1_u8; 100_000]));
            let broken = Err(std::io::Error::other("the client has gone"));
            vec![piece, broken]
        };
        let body = Body::from_stream(stream::iter(pieces()));
        let broken = with_body(Method::POST, UPLOAD, Some(&ada), &[], body);
        world.raw(broken).await.fails(400, "M_NOT_JSON");
        assert_eq!(world.files(), 0);

        for announced in [1, 99_999, 100_001, 1 << 20] {
            let lie = Announced {
                left: vec![Bytes::from(vec![1_u8; 100_000])],
                bytes: announced,
            };
            let lie = with_body(Method::POST, UPLOAD, Some(&ada), &[], Body::new(lie));
            world.raw(lie).await.fails(400, "M_UNKNOWN");
            assert_eq!(world.files(), 0, "{announced}");
        }
    })
    .await;
}

/// A body that says how long it is.
struct Announced {
    left: Vec<Bytes>,
    bytes: u64,
}

impl http_body::Body for Announced {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.left.pop().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}
