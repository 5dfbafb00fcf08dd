//! Downloads by who doesn't say who they are.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rhizome_client_api::config::Unauthenticated;

use super::world::{PNG, Settings, Stranger, each, each_with, old_download, request, told};
use crate::asking::START_MS;

fn open(settings: &mut Settings) {
    settings.client.unauthenticated_media = Unauthenticated::Open;
}

fn thumbnail(server: &str, id: &str) -> String {
    format!("/_matrix/media/v3/thumbnail/{server}/{id}?width=32&height=32&method=crop")
}

fn theirs() -> Stranger {
    Stranger {
        length: Some(PNG.len() as u64),
        pieces: vec![Ok(Bytes::from_static(PNG))],
        ..Stranger::default()
    }
}

#[tokio::test]
async fn nothing_is_given_unless_the_operator_says_so() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        world.strangers.have("a", Ok(theirs()));
        for path in [
            old_download(&id),
            format!("{}/name.png", old_download(&id)),
            thumbnail("here.test", &id),
            "/_matrix/media/v3/download/elsewhere.test/a".to_owned(),
        ] {
            world.anybody(&path).await.fails(404, "M_NOT_FOUND");
            // Nor does a token that doesn't hold.
            for wrong in ["Bearer nobodys", "Bearer", "Basic YTpi", "nonsense"] {
                let wrong = request(Method::GET, &path, None, &[("authorization", wrong)]);
                world.raw(wrong).await.fails(404, "M_NOT_FOUND");
            }
        }
        assert_eq!(world.strangers.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn who_has_a_token_is_a_user_there_as_well() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        world.strangers.have("a", Ok(theirs()));
        let in_query = format!("{}?access_token={}", old_download(&id), ada.token);
        assert_eq!(world.anybody(&in_query).await.bytes, PNG);
        for path in [
            old_download(&id),
            format!("/_matrix/media/r0/download/here.test/{id}"),
            format!("/_matrix/media/v1/download/here.test/{id}"),
            format!("{}/name.png", old_download(&id)),
            thumbnail("here.test", &id),
            "/_matrix/media/v3/download/elsewhere.test/a".to_owned(),
            thumbnail("elsewhere.test", "a"),
        ] {
            let answer = world.get(&ada, &path).await;
            assert_eq!(answer.status, 200, "{path}");
            let cache = told(&answer.headers, "cache-control");
            assert_eq!(cache, "private, max-age=31536000, immutable");
        }
        assert_eq!(world.strangers.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_open_server_gives_everything_to_everybody() {
    each_with(open, async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        for path in [
            old_download(&id),
            format!("/_matrix/media/r0/download/here.test/{id}"),
            format!("/_matrix/media/v1/download/here.test/{id}"),
        ] {
            let answer = world.anybody(&path).await;
            assert_eq!(answer.bytes, PNG);
            let named = told(&answer.headers, "content-disposition");
            assert_eq!(named, "inline; filename=a.png");
            let cache = told(&answer.headers, "cache-control");
            assert_eq!(cache, "public, max-age=86400, immutable");
            let answer = world.anybody(&format!("{path}/b.png")).await;
            let named = told(&answer.headers, "content-disposition");
            assert_eq!(named, "inline; filename=b.png");
        }
        let picture = world.anybody(&thumbnail("here.test", &id)).await;
        assert_eq!(picture.bytes, "32x32 crop false Plain");
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_what_is_here_alone_has_nothing_fetched() {
    each_with(open, async |world| {
        world.strangers.have("a", Ok(theirs()));
        let path = "/_matrix/media/v3/download/elsewhere.test/a";
        let here = format!("{path}?allow_remote=false");
        world.anybody(&here).await.fails(404, "M_NOT_FOUND");
        assert_eq!(world.strangers.count(), 0);
        let redirected = format!("{path}?allow_redirect=true&allow_remote=true");
        assert_eq!(world.anybody(&redirected).await.bytes, PNG);
        assert_eq!(world.anybody(&here).await.bytes, PNG);
        let picture = format!("{}&allow_remote=false", thumbnail("elsewhere.test", "a"));
        assert_eq!(world.anybody(&picture).await.status, 200);
        assert_eq!(world.strangers.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_came_before_the_freeze_is_given_to_everybody() {
    let freeze = |settings: &mut Settings| {
        settings.client.unauthenticated_media = Unauthenticated::Before(START_MS + 1_000);
    };
    each_with(freeze, async |world| {
        let ada = world.register("ada").await;
        world.strangers.have("early", Ok(theirs()));
        world.strangers.have("late", Ok(theirs()));
        let theirs = |id: &str| format!("/elsewhere.test/{id}");
        let authed = |path: &str| format!("/_matrix/client/v1/media/download{path}");
        let old = |path: &str| format!("/_matrix/media/v3/download{path}");
        let id = world.upload(&ada, "image/png", "a.png", PNG).await;
        assert_eq!(world.get(&ada, &authed(&theirs("early"))).await.status, 200);
        world.advance(Duration::from_secs(1));
        let new = world.upload(&ada, "image/png", "a.png", PNG).await;
        assert_eq!(world.get(&ada, &authed(&theirs("late"))).await.status, 200);

        assert_eq!(world.anybody(&old_download(&id)).await.bytes, PNG);
        let picture = world.anybody(&thumbnail("here.test", &id)).await;
        assert_eq!(picture.status, 200);
        assert_eq!(world.anybody(&old(&theirs("early"))).await.bytes, PNG);
        for path in [
            old_download(&new),
            thumbnail("here.test", &new),
            old(&theirs("late")),
            // What would be fetched now is new as well.
            old(&theirs("unknown")),
        ] {
            world.anybody(&path).await.fails(404, "M_NOT_FOUND");
        }
        assert_eq!(world.strangers.count(), 2);
    })
    .await;
}
