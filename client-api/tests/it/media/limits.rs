//! How much somebody may ask for.

use bytes::Bytes;
use http::Method;
use rhizome_client_api::config::{Rate, RateLimits, Unauthenticated};
use tower::ServiceExt as _;

use super::world::{
    CREATE, PNG, Settings, Stranger, UPLOAD, download, each_with, old_download, request, with_body,
};

fn three() -> Rate {
    Rate {
        per_second: 0.0001,
        burst: 3,
    }
}

#[tokio::test]
async fn uploads_and_ids_are_counted_together() {
    let few = |settings: &mut Settings| {
        settings.client.rate_limits = RateLimits {
            enabled: true,
            upload: three(),
            ..RateLimits::default()
        };
    };
    each_with(few, async |world| {
        let ada = world.register("ada").await;
        let bob = world.register("bob").await;
        world.upload(&ada, "x/y", "", b"1").await;
        world.upload(&ada, "x/y", "", b"2").await;
        let create = || with_body(Method::POST, CREATE, Some(&ada), &[], "{}");
        world.raw(create()).await.ok();
        world.raw(create()).await.fails(429, "M_LIMIT_EXCEEDED");
        let upload = with_body(Method::POST, UPLOAD, Some(&ada), &[], "3");
        world.raw(upload).await.fails(429, "M_LIMIT_EXCEEDED");
        world.upload(&bob, "x/y", "", b"3").await;
    })
    .await;
}

#[tokio::test]
async fn downloads_are_counted_by_user_or_address() {
    let few = |settings: &mut Settings| {
        settings.client.unauthenticated_media = Unauthenticated::Open;
        settings.client.rate_limits = RateLimits {
            enabled: true,
            download: three(),
            ..RateLimits::default()
        };
    };
    each_with(few, async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "", PNG).await;
        for _ in 0..3 {
            assert_eq!(world.get(&ada, &download(&id)).await.status, 200);
            assert_eq!(world.anybody(&old_download(&id)).await.status, 200);
        }
        for answer in [
            world.get(&ada, &download(&id)).await,
            world.anybody(&old_download(&id)).await,
        ] {
            answer.fails(429, "M_LIMIT_EXCEEDED");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_fetched_is_counted_and_what_is_here_is_not() {
    let few = |settings: &mut Settings| {
        settings.client.rate_limits = RateLimits {
            enabled: true,
            fetch: three(),
            ..RateLimits::default()
        };
    };
    each_with(few, async |world| {
        let ada = world.register("ada").await;
        let theirs = |n: usize| format!("/_matrix/client/v1/media/download/elsewhere.test/{n}");
        for n in 0..4 {
            let file = Stranger {
                pieces: vec![Ok(Bytes::from_static(PNG))],
                length: Some(PNG.len() as u64),
                ..Stranger::default()
            };
            world.strangers.have(&n.to_string(), Ok(file));
        }
        for n in 0..3 {
            assert_eq!(world.get(&ada, &theirs(n)).await.bytes, PNG);
        }
        world
            .get(&ada, &theirs(3))
            .await
            .fails(429, "M_LIMIT_EXCEEDED");
        for n in 0..3 {
            assert_eq!(world.get(&ada, &theirs(n)).await.bytes, PNG);
        }
        assert_eq!(world.strangers.count(), 3);
    })
    .await;
}

/// Pictures that can't be made here are asked for elsewhere: that counts, though the file is here.
#[tokio::test]
async fn pictures_that_are_fetched_are_counted() {
    let few = |settings: &mut Settings| {
        settings.client.rate_limits = RateLimits {
            enabled: true,
            fetch: three(),
            ..RateLimits::default()
        };
    };
    each_with(few, async |world| {
        let ada = world.register("ada").await;
        let film = Stranger {
            pieces: vec![Ok(Bytes::from_static(b"a film"))],
            length: Some(6),
            ..Stranger::default()
        };
        world.strangers.have("film", Ok(film));
        let file = "/_matrix/client/v1/media/download/elsewhere.test/film";
        let picture = "/_matrix/client/v1/media/thumbnail/elsewhere.test/film?width=1&height=1";
        assert_eq!(world.get(&ada, file).await.bytes, "a film");
        for _ in 0..2 {
            world.get(&ada, picture).await.fails(400, "M_UNKNOWN");
        }
        let more = world.get(&ada, picture).await;
        more.fails(429, "M_LIMIT_EXCEEDED");
        assert_eq!(world.get(&ada, file).await.bytes, "a film");
    })
    .await;
}

/// Files that nobody takes the bytes of would be open for ever.
#[tokio::test]
async fn downloads_under_way_are_counted_by_user_or_address() {
    let open = |settings: &mut Settings| {
        settings.client.unauthenticated_media = Unauthenticated::Open;
    };
    each_with(open, async |world| {
        let ada = world.register("ada").await;
        let bob = world.register("bob").await;
        let router = rhizome_client_api::router(world.app.clone());
        let large = vec![7; 1 << 20];
        let id = world.upload(&ada, "x/y", "", &large).await;
        let small = world.upload(&ada, "x/y", "", b"small").await;
        for (who, path) in [(Some(&ada), download(&id)), (None, old_download(&id))] {
            let ask = || request(Method::GET, &path, who, &[]);
            let mut under_way = Vec::new();
            for _ in 0..64 {
                let answer = router.clone().oneshot(ask()).await.unwrap();
                assert_eq!(answer.status(), 200);
                under_way.push(answer);
            }
            world.raw(ask()).await.fails(429, "M_LIMIT_EXCEEDED");
            // What is small holds nothing.
            let path = path.replace(&id, &small);
            let answer = world.raw(request(Method::GET, &path, who, &[])).await;
            assert_eq!(answer.bytes, "small");
            assert_eq!(world.get(&bob, &download(&id)).await.bytes, large);
            under_way.pop();
            assert_eq!(world.raw(ask()).await.bytes, large);
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_uploads_no_more_than_the_quota() {
    let day = std::time::Duration::from_hours(24);
    let quota = move |settings: &mut Settings| settings.media.quota = vec![(10, day)];
    each_with(quota, async |world| {
        let ada = world.register("ada").await;
        let bob = world.register("bob").await;
        world.upload(&ada, "x/y", "", b"12345678").await;
        let more = with_body(Method::POST, UPLOAD, Some(&ada), &[], "123");
        world.raw(more).await.fails(403, "M_FORBIDDEN");
        world.upload(&bob, "x/y", "", b"123").await;
        world.upload(&ada, "x/y", "", b"12").await;
        world.advance(day);
        world.upload(&ada, "x/y", "", b"1234567890").await;
    })
    .await;
}
