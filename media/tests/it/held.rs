//! Of other servers' files: what isn't given, and what is remembered of that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rhizome_media::{FetchError, MediaConfig, MediaError, NoPictures};
use rhizome_storage::testing::eventually;

use crate::remote::{LONG, fetch_whole, given, never};
use crate::world::{each, each_with, noise, there};

#[tokio::test]
async fn what_is_forbidden_is_given_to_nobody_while_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    // SHA-256 of "abc".
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    std::fs::write(&list, format!("{abc}\n")).unwrap();
    let settings = |config: &mut MediaConfig| config.forbidden_hashes = Some(list.clone());
    each_with(settings, Arc::new(NoPictures), async |world| {
        let (sender, fetched) = given(Some(3));
        sender.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        drop(sender);
        let refused = world
            .media
            .remote(there(), "bad", LONG, || async { Ok(fetched) })
            .await;
        let absent = |refused| matches!(refused, Err(MediaError::Remote(FetchError::NotFound)));
        assert!(absent(refused));
        // That is known for long.
        world.clock.advance(Duration::from_mins(30));
        let again = world.media.remote(there(), "bad", LONG, never).await;
        assert!(absent(again));
        fetch_whole(world, "good", b"abcd").await;
    })
    .await;
}

#[tokio::test]
async fn what_breaks_off_is_remembered_and_what_takes_time_isnt() {
    let settings = |config: &mut MediaConfig| config.remote.max_size = 1_000;
    each_with(settings, Arc::new(NoPictures), async |world| {
        let (sender, fetched) = given(None);
        sender.send(Ok(Bytes::from(noise(1_001, 8)))).unwrap();
        let large = world
            .media
            .remote(there(), "large", LONG, || async { Ok(fetched) })
            .await
            .unwrap();
        let all: Result<Vec<Bytes>, _> = large.read(None).await.unwrap().try_collect().await;
        assert!(all.is_err());
        let again = async || {
            let again = world.media.remote(there(), "large", LONG, never).await;
            matches!(again, Err(MediaError::Remote(FetchError::TooLarge)))
        };
        eventually("it is over", again).await;
        world.clock.advance(Duration::from_mins(30));
        assert!(again().await);
        for error in [FetchError::NotYet, FetchError::Unasked] {
            let given = error.clone();
            let refused = world
                .media
                .remote(there(), "later", LONG, || async { Err(given) })
                .await;
            assert!(matches!(refused, Err(MediaError::Remote(told)) if told == error));
        }
        fetch_whole(world, "later", b"now").await;
    })
    .await;
}

#[tokio::test]
async fn pictures_of_quarantined_bytes_are_not_given_under_a_new_name() {
    each(async |world| {
        let id = world.upload(b"bytes").await;
        let done = world.media.quarantine(("here.example", &id), true).await;
        assert!(done.unwrap());
        let (sender, fetched) = given(Some(5));
        let content = world
            .media
            .remote(there(), "same", LONG, || async { Ok(fetched) })
            .await
            .unwrap();
        sender.send(Ok(Bytes::from_static(b"bytes"))).unwrap();
        drop(sender);
        let wanted = world.media.config().thumbnails[0];
        let picture = world.media.thumbnail(&content, wanted).await;
        assert!(matches!(picture, Err(MediaError::NotFound)), "{picture:?}");
    })
    .await;
}
