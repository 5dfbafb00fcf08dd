//! A server whose store gives others the files itself.

use std::{path::Path, sync::Arc};

use axum::{Router, body::Body, extract::State, http::Request};
use http::Response;
use rhizome_media::{NoPictures, Place, S3Config, testing};

use super::{asked, bytes, get_file, some, upload};
use crate::world::each;

/// Where others reach the store.
const PUBLIC: &str = "store.example";

/// Passes on what it is asked, as who stands before a store does: what is signed holds its own name.
async fn pass(State(to): State<String>, request: Request<Body>) -> Response<Body> {
    let target = request.uri().path_and_query().unwrap();
    let answer = testing::client()
        .get(format!("{to}{target}"))
        .header("host", PUBLIC)
        .send();
    let answer = answer.await.unwrap();
    Response::builder()
        .status(answer.status())
        .header("content-type", answer.headers()["content-type"].clone())
        .body(answer.bytes().await.unwrap().into())
        .unwrap()
}

#[tokio::test]
async fn a_large_file_is_had_from_the_store_and_a_small_one_at_once() {
    each(2, async |world| {
        let (a, b) = world.two();
        let bucket = S3Config {
            public_endpoint: Some(format!("https://{PUBLIC}")),
            ..testing::bucket(Path::new(""), &testing::prefix())
        };
        let store = Router::new().fallback(pass);
        let store = store.with_state(bucket.endpoint.clone());
        world.network.attach(PUBLIC.try_into().unwrap(), store);
        let in_bucket = |config: &mut rhizome_media::MediaConfig| {
            let Place::Disk(folder) = &config.stores[0].place else {
                panic!("{:?}", config.stores);
            };
            let spool = folder.clone();
            config.stores[0].place = Place::S3(S3Config { spool, ..bucket });
        };
        let network = &world.network;
        let media = network.media_with(a.fed.rooms(), a.store(), Arc::new(NoPictures), in_bucket);
        let fed = a.with_media(network, media);
        for (length, visits) in [(1_000, 0), (300_000, 1)] {
            let file = some(length);
            let id = upload(&fed, "video/mp4", "Größe.mp4", &file).await;
            let got = get_file(b, &a.name, &id).await.unwrap();
            assert_eq!(got.info.content_type.as_deref(), Some("video/mp4"));
            assert!(bytes(&got).await.unwrap() == file);
            assert_eq!(asked(&world, PUBLIC.try_into().unwrap(), "GET"), visits);
        }
    })
    .await;
}
