//! Where the store gives files itself.

use http::Method;
use rhizome_media::{Place, testing};

use super::world::{PNG, Settings, World, download, each_with, old_download, request, told};
use crate::asking::User;

fn in_bucket(settings: &mut Settings) {
    let Place::Disk(folder) = &settings.media.stores[0].place else {
        panic!("{:?}", settings.media.stores);
    };
    let bucket = testing::bucket(folder, &testing::prefix());
    settings.media.stores[0].place = Place::S3(bucket);
}

/// What is larger than what is read at once.
fn large() -> Vec<u8> {
    vec![b'l'; 100_000]
}

/// Where a client is sent.
async fn location(world: &World, user: &User, path: &str) -> String {
    let answer = world.get(user, path).await;
    assert_eq!((answer.status.as_u16(), answer.bytes.len()), (307, 0));
    assert_eq!(told(&answer.headers, "cache-control"), "no-store");
    assert_eq!(told(&answer.headers, "access-control-allow-origin"), "*");
    told(&answer.headers, "location").to_owned()
}

#[tokio::test]
async fn a_large_file_is_had_from_the_store() {
    each_with(in_bucket, async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "image/png", "Größe.png", &large()).await;
        let path = download(&id);
        let address = location(&world, &ada, &path).await;
        let client = testing::client();
        let got = client.get(&address).send().await.unwrap();
        assert_eq!(told(got.headers(), "content-type"), "image/png");
        let disposition = "inline; filename=\"Gr__e.png\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.png";
        assert_eq!(told(got.headers(), "content-disposition"), disposition);
        assert_eq!(*got.bytes().await.unwrap(), *large());
        let part = client.get(&address).header("range", "bytes=1-2");
        assert_eq!(*part.send().await.unwrap().bytes().await.unwrap(), *b"ll");
        // It is for this file alone.
        let other = world
            .upload(&ada, "image/png", "b.png", &[1].repeat(100_000))
            .await;
        let other = location(&world, &ada, &download(&other)).await;
        let (place, _) = other.split_once('?').unwrap();
        let (_, signature) = address.split_once('?').unwrap();
        let got = client.get(format!("{place}?{signature}")).send().await;
        assert_eq!(got.unwrap().status(), 403);
        // What browsers may not show isn't shown there either.
        let page = world.upload(&ada, "text/html", "a.html", &large()).await;
        let got = client.get(location(&world, &ada, &download(&page)).await);
        let got = got.send().await.unwrap();
        let disposition = "attachment; filename=a.html";
        assert_eq!(told(got.headers(), "content-disposition"), disposition);
    })
    .await;
}

#[tokio::test]
async fn who_needs_no_bytes_or_few_or_did_not_ask_for_it_is_sent_nowhere() {
    each_with(in_bucket, async |world| {
        let ada = world.register("ada").await;
        let small = world.upload(&ada, "image/png", "a.png", PNG).await;
        let answer = world.get(&ada, &download(&small)).await;
        assert_eq!((answer.status.as_u16(), &*answer.bytes), (200, PNG));
        let id = world.upload(&ada, "image/png", "a.png", &large()).await;
        let head = request(Method::HEAD, &download(&id), Some(&ada), &[]);
        let head = world.raw(head).await;
        assert_eq!(head.status, 200);
        let known = [("if-none-match", told(&head.headers, "etag"))];
        let answer = world.get_with(&ada, &download(&id), &known).await;
        assert_eq!(answer.status, 304);
        let old = old_download(&id);
        assert_eq!(world.get(&ada, &old).await.bytes, large());
        location(&world, &ada, &format!("{old}?allow_redirect=true")).await;
    })
    .await;
}
