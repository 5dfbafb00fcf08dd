//! Ids that are given before there are bytes.

use std::time::Duration;

use http::Method;
use rhizome_media::FetchError;

use super::world::{
    CREATE, World, download, each, each_with, id_of, old_download, request, told, with_body,
};
use crate::asking::{HttpAnswer, START_MS, User};

/// The path at which an id gets its bytes.
fn place(id: &str) -> String {
    format!("/_matrix/media/v3/upload/here.test/{id}")
}

async fn create(world: &World, user: &User) -> HttpAnswer {
    world
        .raw(with_body(Method::POST, CREATE, Some(user), &[], "{}"))
        .await
}

async fn fill(world: &World, user: &User, id: &str, bytes: &'static str) -> HttpAnswer {
    let headers = [("content-type", "text/plain")];
    let path = format!("{}?filename=note.txt", place(id));
    let request = with_body(Method::PUT, &path, Some(user), &headers, bytes);
    world.raw(request).await
}

#[tokio::test]
async fn an_id_is_given_and_filled_once() {
    each(async |world| {
        let ada = world.register("ada").await;
        let eve = world.register("eve").await;
        let created = create(&world, &ada).await;
        let expires = created.body["unused_expires_at"].as_i64().unwrap();
        assert_eq!(expires, START_MS + 24 * 3_600_000);
        let id = id_of(created);

        for path in [format!("{}?", download(&id)), thumbnail(&id)] {
            let early = world.get(&ada, &format!("{path}timeout_ms=0")).await;
            early.fails(504, "M_NOT_YET_UPLOADED");
        }
        fill(&world, &eve, &id, "hers")
            .await
            .fails(403, "M_FORBIDDEN");
        let long = with_body(Method::POST, CREATE, Some(&ada), &[], vec![b' '; 100_000]);
        world.raw(long).await.fails(413, "M_TOO_LARGE");
        let nobody = request(Method::PUT, &place(&id), None, &[]);
        world.raw(nobody).await.fails(401, "M_MISSING_TOKEN");
        assert_eq!(world.files(), 0);
        fill(&world, &ada, &id, "mine").await.ok();
        let again = fill(&world, &ada, &id, "other").await;
        again.fails(409, "M_CANNOT_OVERWRITE_MEDIA");
        // As the conformance suite asks: without anything.
        let empty = request(Method::PUT, &place(&id), Some(&ada), &[]);
        world
            .raw(empty)
            .await
            .fails(409, "M_CANNOT_OVERWRITE_MEDIA");

        let answer = world.get(&eve, &download(&id)).await;
        assert_eq!(answer.bytes, "mine");
        assert_eq!(told(&answer.headers, "content-type"), "text/plain");
        assert_eq!(
            told(&answer.headers, "content-disposition"),
            "inline; filename=note.txt"
        );
    })
    .await;
}

fn thumbnail(id: &str) -> String {
    format!("/_matrix/client/v1/media/thumbnail/here.test/{id}?width=32&height=32&")
}

#[tokio::test]
async fn who_asks_early_gets_the_file_when_it_comes() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = id_of(create(&world, &ada).await);
        let path = format!("{}?timeout_ms=60000", download(&id));
        let asking = world.get(&ada, &path);
        let filling = async {
            tokio::task::yield_now().await;
            fill(&world, &ada, &id, "at last").await.ok()
        };
        let (answer, _) = tokio::join!(asking, filling);
        assert_eq!(answer.bytes, "at last");
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_answered_when_the_server_stops() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = id_of(create(&world, &ada).await);
        let path = format!("{}?timeout_ms=60000", download(&id));
        let stopping = async {
            tokio::task::yield_now().await;
            world.app.shutdown.cancel();
        };
        let (answer, ()) = tokio::join!(world.get(&ada, &path), stopping);
        answer.fails(504, "M_NOT_YET_UPLOADED");
    })
    .await;
}

#[tokio::test]
async fn ids_that_wait_are_few_and_not_for_ever() {
    each_with(
        |settings| settings.media.most_pending = 2,
        async |world| {
            let ada = world.register("ada").await;
            let bob = world.register("bob").await;
            let first = id_of(create(&world, &ada).await);
            let second = id_of(create(&world, &ada).await);
            let third = create(&world, &ada).await;
            assert!(third.headers.contains_key("retry-after"));
            let body = third.fails(429, "M_LIMIT_EXCEEDED");
            assert_eq!(body["retry_after_ms"], 24 * 3_600_000);
            id_of(create(&world, &bob).await);
            // One that is filled waits no more.
            fill(&world, &ada, &first, "bytes").await.ok();
            id_of(create(&world, &ada).await);
            create(&world, &ada).await.fails(429, "M_LIMIT_EXCEEDED");
            world.advance(Duration::from_hours(24));
            fill(&world, &ada, &second, "late")
                .await
                .fails(404, "M_NOT_FOUND");
            world
                .get(&ada, &download(&second))
                .await
                .fails(404, "M_NOT_FOUND");
            id_of(create(&world, &ada).await);
        },
    )
    .await;
}

#[tokio::test]
async fn ids_that_nobody_was_given_take_nothing() {
    each(async |world| {
        let ada = world.register("ada").await;
        fill(&world, &ada, "unknown", "bytes")
            .await
            .fails(404, "M_NOT_FOUND");
        for (server, status, code) in [
            ("elsewhere.test", 404, "M_NOT_FOUND"),
            ("HERE.test", 400, "M_INVALID_PARAM"),
        ] {
            let path = format!("/_matrix/media/v3/upload/{server}/unknown");
            let request = with_body(Method::PUT, &path, Some(&ada), &[], "bytes");
            world.raw(request).await.fails(status, code);
        }
        assert_eq!(world.files(), 0);
        // Of another server.
        world.strangers.have("waits", Err(FetchError::NotYet));
        let path = "/_matrix/client/v1/media/download/elsewhere.test/waits?timeout_ms=5";
        world.get(&ada, path).await.fails(504, "M_NOT_YET_UPLOADED");
        let asked = world.strangers.asked.lock().unwrap().clone();
        let wait = Duration::from_millis(5);
        assert_eq!(asked, [("elsewhere.test/waits".to_owned(), wait)]);
        let path = format!("{}?timeout_ms=5", old_download("unknown"));
        world.anybody(&path).await.fails(404, "M_NOT_FOUND");
    })
    .await;
}
