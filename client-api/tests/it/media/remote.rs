//! Files of other servers.

use std::time::Duration;

use bytes::Bytes;
use rhizome_media::FetchError;
use ruma::server_name;

use super::world::{PNG, Stranger, World, each, each_with, told};
use crate::asking::User;

fn theirs(id: &str) -> String {
    format!("/_matrix/client/v1/media/download/elsewhere.test/{id}")
}

fn picture(id: &str) -> String {
    format!("/_matrix/client/v1/media/thumbnail/elsewhere.test/{id}?width=32&height=32")
}

fn file(pieces: &[&'static [u8]]) -> Stranger {
    Stranger {
        content_type: Some("image/png"),
        name: Some("their picture.png"),
        length: Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
        pieces: pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece)))
            .collect(),
    }
}

async fn kept(world: &World, user: &User, id: &str) -> Bytes {
    let answer = world.get(user, &theirs(id)).await;
    assert_eq!(answer.status, 200);
    answer.bytes
}

#[tokio::test]
async fn a_file_is_fetched_once() {
    each(async |world| {
        let ada = world.register("ada").await;
        world.strangers.have("a", Ok(file(&[PNG, b" and more"])));
        let bytes = [PNG, b" and more"].concat();
        let answer = world.get(&ada, &theirs("a")).await;
        assert_eq!(answer.bytes, bytes);
        let length = bytes.len().to_string();
        assert_eq!(told(&answer.headers, "content-length"), length);
        assert_eq!(
            told(&answer.headers, "content-disposition"),
            "inline; filename=\"their picture.png\""
        );
        assert_eq!(kept(&world, &ada, "a").await, bytes);
        let answer = world.get(&ada, &picture("a")).await;
        assert_eq!(answer.bytes, "32x32 scale false Plain");
        let part = world
            .get_with(&ada, &theirs("a"), &[("range", "bytes=1-3")])
            .await;
        assert_eq!((part.status.as_u16(), &*part.bytes), (206, &b"PNG"[..]));
        assert_eq!(world.strangers.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_file_of_unknown_length_is_given_as_it_comes() {
    each(async |world| {
        let ada = world.register("ada").await;
        let unknown = Stranger {
            length: None,
            ..file(&[PNG])
        };
        world.strangers.have("a", Ok(unknown));
        let asked = [("range", "bytes=0-1")];
        let answer = world.get_with(&ada, &theirs("a"), &asked).await;
        assert_eq!((answer.status.as_u16(), &*answer.bytes), (200, PNG));
        assert!(!answer.headers.contains_key("accept-ranges"));
        assert!(!answer.headers.contains_key("etag"));
    })
    .await;
}

#[tokio::test]
async fn a_file_that_breaks_off_is_not_kept() {
    each(async |world| {
        let ada = world.register("ada").await;
        let broken = Stranger {
            pieces: vec![
                Ok(Bytes::from_static(PNG)),
                Err(FetchError::Failed("it has gone".into())),
            ],
            ..file(&[PNG, PNG])
        };
        world.strangers.have("a", Ok(broken));
        let answer = world.get(&ada, &theirs("a")).await;
        answer.fails(502, "M_UNKNOWN");
        let origin = server_name!("elsewhere.test");
        let gone = world.media.row(origin.as_str(), "a").await.unwrap();
        assert!(gone.is_none());
        world.strangers.have("a", Ok(file(&[PNG])));
        // For a while it is known to fail.
        world.get(&ada, &theirs("a")).await.fails(502, "M_UNKNOWN");
        world.clock.advance(Duration::from_mins(10));
        assert_eq!(kept(&world, &ada, "a").await, PNG);
    })
    .await;
}

#[tokio::test]
async fn what_others_do_wrong_is_theirs() {
    each_with(
        |settings| settings.media.remote.max_size = 2_000,
        async |world| {
            let ada = world.register("ada").await;
            let strangers = &world.strangers;
            strangers.have("gone", Err(FetchError::NotFound));
            strangers.have("large", Err(FetchError::TooLarge));
            strangers.have("dead", Err(FetchError::Failed("no answer".into())));
            for (id, status, code) in [
                ("gone", 404, "M_NOT_FOUND"),
                ("large", 502, "M_TOO_LARGE"),
                ("dead", 502, "M_UNKNOWN"),
            ] {
                world.get(&ada, &theirs(id)).await.fails(status, code);
                world.get(&ada, &picture(id)).await.fails(status, code);
            }
            let large = Stranger {
                length: Some(2_001),
                ..file(&[PNG])
            };
            strangers.have("larger", Ok(large));
            world
                .get(&ada, &theirs("larger"))
                .await
                .fails(502, "M_TOO_LARGE");
            // Kept, though no picture is made of it.
            strangers.have("wide", Ok(file(&[PNG, &[0; 1_000]])));
            world
                .get(&ada, &picture("wide"))
                .await
                .fails(502, "M_TOO_LARGE");
            kept(&world, &ada, "wide").await;
            world
                .get(&ada, &picture("wide"))
                .await
                .fails(502, "M_TOO_LARGE");
        },
    )
    .await;
}
