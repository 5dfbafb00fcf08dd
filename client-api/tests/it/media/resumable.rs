//! Uploads that break off and go on.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request};
use rhizome_client_api::Files;
use serde_json::json;

use super::world::{CREATE, PNG, UPLOAD, World, download, each, each_with, id_of, told, with_body};
use crate::asking::{HttpAnswer, SERVER, Server, User, config};

const PLACE: &str = "/_matrix/client/unstable/org.rhizome.upload/";
const PROBLEMS: &str = "https://iana.org/assignments/http-problem-types#";

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn incomplete(path: &str, user: &User, body: impl Into<Body>) -> Request<Body> {
    let headers = [("upload-complete", "?0"), ("content-type", "text/plain")];
    let method = if path.starts_with(UPLOAD) && path.len() > UPLOAD.len() && !path.contains('?') {
        Method::PUT
    } else {
        Method::POST
    };
    with_body(method, path, Some(user), &headers, body)
}

/// Begins an upload; gives its path.
async fn begin(world: &World, user: &User, path: &str) -> String {
    let begun = world.raw(incomplete(path, user, "")).await;
    assert_eq!(begun.status, 201, "{:?}", begun.body);
    let place = told(&begun.headers, "location").to_owned();
    assert!(place.starts_with(PLACE), "{place}");
    assert_eq!(state(&begun), ("?0", "0"));
    place
}

fn patch(user: &User, place: &str, at: u64, end: bool, body: impl Into<Body>) -> Request<Body> {
    let at = at.to_string();
    let headers = [
        ("content-type", "application/partial-upload"),
        ("upload-complete", if end { "?1" } else { "?0" }),
        ("upload-offset", at.as_str()),
    ];
    with_body(Method::PATCH, place, Some(user), &headers, body)
}

fn head(user: &User, place: &str) -> Request<Body> {
    with_body(Method::HEAD, place, Some(user), &[], "")
}

fn state(answer: &HttpAnswer) -> (&str, &str) {
    let told = |name| told(&answer.headers, name);
    (told("upload-complete"), told("upload-offset"))
}

#[tokio::test]
async fn a_file_comes_little_by_little() {
    each(async |world| {
        let ada = world.register("ada").await;
        let bob = world.register("bob").await;
        let bytes = noise(300_000);
        let begun = world.raw({
            let path = format!("{UPLOAD}?filename=long.txt");
            let mut first = incomplete(&path, &ada, bytes[..100_000].to_vec());
            let length = "300000".parse().unwrap();
            first.headers_mut().insert("upload-length", length);
            first
        });
        let begun = begun.await;
        assert_eq!(
            (begun.status.as_u16(), state(&begun)),
            (201, ("?0", "100000"))
        );
        let limits = told(&begun.headers, "upload-limit");
        assert_eq!(
            limits,
            "max-size=52428800, min-append-size=65536, max-age=86400"
        );
        let place = told(&begun.headers, "location");

        let more = patch(
            &ada,
            place,
            100_000,
            false,
            bytes[100_000..200_000].to_vec(),
        );
        let more = world.raw(more).await;
        assert_eq!(
            (more.status.as_u16(), state(&more)),
            (204, ("?0", "200000"))
        );
        world.advance(std::time::Duration::from_secs(90));
        let far = world.raw(head(&ada, place)).await;
        assert_eq!((far.status.as_u16(), state(&far)), (204, ("?0", "200000")));
        assert_eq!(told(&far.headers, "upload-length"), "300000");
        assert_eq!(told(&far.headers, "cache-control"), "no-store");
        assert!(told(&far.headers, "upload-limit").ends_with("max-age=86310"));
        let far = world.get(&ada, place).await.ok();
        assert_eq!(
            far,
            json!({ "offset": 200_000, "complete": false, "length": 300_000 })
        );
        assert_eq!(world.raw(head(&bob, place)).await.status, 404);
        world.get(&bob, place).await.fails(404, "M_NOT_FOUND");
        world.anybody(place).await.fails(401, "M_MISSING_TOKEN");

        let last = patch(&ada, place, 200_000, true, bytes[200_000..].to_vec());
        let done = world.raw(last).await;
        assert_eq!(state(&done), ("?1", "300000"));
        let id = id_of(done);
        let file = world.get(&bob, &download(&id)).await;
        assert_eq!(file.bytes, bytes);
        assert_eq!(told(&file.headers, "content-type"), "text/plain");
        assert_eq!(
            told(&file.headers, "content-disposition"),
            "inline; filename=long.txt"
        );
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_was_lost_can_be_had_again() {
    each(async |world| {
        let ada = world.register("ada").await;
        let bytes = noise(100_000);
        let place = begin(&world, &ada, UPLOAD).await;
        let place = place.as_str();
        let last = || patch(&ada, place, 0, true, bytes.clone());
        let done = world.raw(last()).await;
        let location = told(&done.headers, "content-location").to_owned();
        let uri = done.ok()["content_uri"].clone();
        assert_eq!(uri, location.as_str());
        let far = world.raw(head(&ada, place)).await;
        assert_eq!(state(&far), ("?1", "100000"));
        assert_eq!(told(&far.headers, "content-location"), location);
        assert_eq!(world.get(&ada, place).await.ok()["content_uri"], uri);
        let again = world.raw(patch(&ada, place, 100_000, true, "")).await;
        assert_eq!(again.ok()["content_uri"], uri);
        let late = world.raw(last()).await;
        assert_eq!(state(&late), ("?1", "100000"));
        late.fails(409, "M_UNKNOWN");
        let more = world.raw(patch(&ada, place, 100_000, true, "more")).await;
        assert_eq!(
            more.body["type"],
            format!("{PROBLEMS}inconsistent-upload-length")
        );
        more.fails(400, "M_INVALID_PARAM");
    })
    .await;
}

/// The connection breaks, the server starts anew, and the client goes on.
#[tokio::test]
async fn what_broke_off_goes_on_after_a_restart() {
    each(async |world| {
        let ada = world.register("ada").await;
        let bytes = noise(200_000);
        let place = begin(&world, &ada, UPLOAD).await;
        let pieces = vec![
            Ok(Bytes::copy_from_slice(&bytes[..70_000])),
            Err(std::io::Error::other("the client has gone")),
        ];
        let body = Body::from_stream(stream::iter(pieces));
        let broken = world.raw(patch(&ada, &place, 0, true, body)).await;
        broken.fails(400, "M_NOT_JSON");

        let (store, media) = (world.app.store.clone(), &world.media);
        let pictures = Arc::new(rhizome_media::NoPictures);
        let media = rhizome_media::Media::open(store.clone(), media.config().clone(), pictures);
        let (files, folder) = (Files::alone(media.unwrap()), tempfile::tempdir().unwrap());
        let again = Server::with_files(
            store,
            world.clock.clone(),
            config(),
            (files, Arc::new(folder)),
        );
        let far = again.raw(head(&ada, &place)).await;
        assert_eq!((far.status.as_u16(), state(&far)), (204, ("?0", "70000")));
        // Who doesn't ask is told.
        let wrong = again.raw(patch(&ada, &place, 200_000, true, "")).await;
        assert_eq!(state(&wrong), ("?0", "70000"));
        assert_eq!(
            told(&wrong.headers, "content-type"),
            "application/problem+json"
        );
        assert_eq!(
            wrong.body["type"],
            format!("{PROBLEMS}mismatching-upload-offset")
        );
        assert_eq!(wrong.body["expected-offset"], 70_000);
        assert_eq!(wrong.body["provided-offset"], 200_000);
        wrong.fails(409, "M_UNKNOWN");
        let rest = patch(&ada, &place, 70_000, true, bytes[70_000..].to_vec());
        let id = id_of(again.raw(rest).await);
        assert_eq!(world.get(&ada, &download(&id)).await.bytes, bytes);
    })
    .await;
}

#[tokio::test]
async fn an_id_that_was_given_is_filled() {
    each(async |world| {
        let ada = world.register("ada").await;
        let create = with_body(Method::POST, CREATE, Some(&ada), &[], "{}");
        let id = id_of(world.raw(create).await);
        let path = format!("{UPLOAD}/{SERVER}/{id}");
        let place = begin(&world, &ada, &path).await;
        let other = begin(&world, &ada, &path).await;
        let done = world.raw(patch(&ada, &place, 0, true, "bytes")).await;
        assert_eq!(state(&done), ("?1", "5"));
        assert_eq!(done.ok(), json!({}));
        assert_eq!(world.get(&ada, &download(&id)).await.bytes, "bytes");
        // It is of no use to go on with another.
        let late = world.raw(patch(&ada, &other, 0, true, "other")).await;
        assert_eq!(told(&late.headers, "upload-complete"), "?1");
        late.fails(409, "M_CANNOT_OVERWRITE_MEDIA");
        world.get(&ada, &other).await.fails(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_upload_can_be_cancelled_and_what_is_wrong_is_told() {
    let few = |settings: &mut super::world::Settings| {
        settings.media.max_upload_size = 100_000;
        settings.media.most_pending = 1;
    };
    each_with(few, async |world| {
        let ada = world.register("ada").await;
        let place = begin(&world, &ada, UPLOAD).await;
        let second = world.raw(incomplete(UPLOAD, &ada, "")).await;
        assert_eq!(told(&second.headers, "retry-after"), "86400");
        second.fails(429, "M_LIMIT_EXCEEDED");
        let small = world.raw(patch(&ada, &place, 0, false, "small")).await;
        assert!(told(&small.headers, "upload-limit").contains("min-append-size=65536"));
        small.fails(400, "M_INVALID_PARAM");
        let pieces = (0..11).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7_u8; 10_000])));
        let large = Body::from_stream(stream::iter(pieces));
        let large = world.raw(patch(&ada, &place, 0, false, large)).await;
        large.fails(413, "M_TOO_LARGE");
        for (name, value, status, errcode) in [
            ("content-type", "text/plain", 415, "M_UNKNOWN"),
            ("upload-offset", "-1", 400, "M_MISSING_PARAM"),
            ("upload-complete", "1", 400, "M_MISSING_PARAM"),
        ] {
            let mut wrong = patch(&ada, &place, 0, true, "x");
            wrong.headers_mut().insert(name, value.parse().unwrap());
            world.raw(wrong).await.fails(status, errcode);
        }
        let nobody = with_body(Method::PATCH, &place, None, &[], "x");
        world.raw(nobody).await.fails(401, "M_MISSING_TOKEN");
        let cancel = || with_body(Method::DELETE, &place, Some(&ada), &[], "");
        assert_eq!(world.raw(cancel()).await.status, 204);
        world.raw(cancel()).await.fails(404, "M_NOT_FOUND");
        assert_eq!(world.raw(head(&ada, &place)).await.status, 404);

        let path = format!("{UPLOAD}?xyz.amorgan.generate_blurhash=true");
        let place = begin(&world, &ada, &path).await;
        let done = world.raw(patch(&ada, &place, 0, true, PNG)).await;
        let blur = done.ok()["xyz.amorgan.blurhash"].clone();
        assert_eq!(blur, "LEHV6nWB2yk8pyo0adR*.7kCMdnj");
    })
    .await;
}

#[tokio::test]
async fn pages_of_other_origins_may_upload_so() {
    each(async |world| {
        let ask = |path: &str| world.raw(with_body(Method::OPTIONS, path, None, &[], ""));
        for path in [
            UPLOAD,
            &format!("{UPLOAD}/{SERVER}/id"),
            &format!("{PLACE}id"),
        ] {
            let told_there = ask(path).await;
            let told = |name| told(&told_there.headers, name);
            assert!(
                told("access-control-allow-methods").contains("PATCH"),
                "{path}"
            );
            assert!(
                told("access-control-allow-headers").contains("Upload-Offset"),
                "{path}"
            );
            assert_eq!(told("accept-patch"), "application/partial-upload");
            assert!(told("upload-limit").starts_with("max-size=52428800,"));
        }
        let elsewhere = ask("/_matrix/client/v3/sync").await;
        assert!(!elsewhere.headers.contains_key("accept-patch"));
    })
    .await;
}
