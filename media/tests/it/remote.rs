use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use rhizome_media::{FetchError, Fetched, MediaConfig, MediaError, NoPictures};
use rhizome_storage::testing::{eventually, soon};
use tokio::sync::mpsc;

use crate::world::{World, each, each_with, lay, noise, read, there};

pub const LONG: Duration = Duration::from_mins(1);

pub type Pieces = mpsc::UnboundedSender<Result<Bytes, FetchError>>;

/// What another server gives, piece by piece as the test says.
pub fn given(length: Option<u64>) -> (Pieces, Fetched) {
    let (sender, mut pieces) = mpsc::unbounded_channel();
    let body = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    let fetched = Fetched {
        content_type: Some("image/png".to_owned()),
        name: Some("theirs".to_owned()),
        length,
        body: body.boxed(),
    };
    (sender, fetched)
}

pub async fn never() -> Result<Fetched, FetchError> {
    panic!("it is kept")
}

pub async fn fetch_whole(world: &World, id: &str, bytes: &[u8]) {
    let (sender, fetched) = given(Some(bytes.len() as u64));
    sender.send(Ok(Bytes::copy_from_slice(bytes))).unwrap();
    drop(sender);
    let content = world
        .media
        .remote(there(), id, LONG, || async { Ok(fetched) })
        .await
        .unwrap();
    assert_eq!(read(&content).await, bytes);
}

#[tokio::test]
async fn many_who_ask_read_one_fetch_while_it_comes() {
    each(many_read_one).await;
}

#[tokio::test]
async fn sealed_files_are_read_while_they_come() {
    let settings = |config: &mut MediaConfig| {
        config.keys = vec![rhizome_media::SealKey {
            id: "first".to_owned(),
            key: [1; 32],
        }];
    };
    each_with(settings, Arc::new(NoPictures), many_read_one).await;
}

async fn many_read_one(world: &World) {
    let bytes = noise(200_000, 6);
    let (sender, fetched) = given(None);
    let first = world
        .media
        .remote(there(), "one", LONG, || async { Ok(fetched) });
    let first = soon("headers come", first).await.unwrap();
    assert_eq!(first.info.content_type.as_deref(), Some("image/png"));
    assert_eq!(first.info.size, None);
    let second = world
        .media
        .remote(there(), "one", LONG, never)
        .await
        .unwrap();
    let mut reading = first.read(None).await.unwrap();
    sender
        .send(Ok(Bytes::copy_from_slice(&bytes[..150_000])))
        .unwrap();
    let mut got = Vec::new();
    // Of a sealed file whole pieces can be read.
    while got.len() < 131_072 {
        let piece = soon("a piece comes", reading.next())
            .await
            .unwrap()
            .unwrap();
        assert!(piece.len() <= 65_536);
        got.extend_from_slice(&piece);
    }
    sender
        .send(Ok(Bytes::copy_from_slice(&bytes[150_000..])))
        .unwrap();
    drop(sender);
    let rest: Vec<Bytes> = soon("the rest comes", reading.try_collect()).await.unwrap();
    got.extend(rest.concat());
    assert_eq!(got, bytes);
    assert_eq!(read(&second).await, bytes);
    let third = world
        .media
        .remote(there(), "one", LONG, never)
        .await
        .unwrap();
    assert_eq!(
        (third.info.size, read(&third).await),
        (Some(200_000), bytes)
    );
    assert_eq!(world.files().await.map(|files| files.len()), [1, 0]);
}

#[tokio::test]
async fn a_fetch_goes_on_though_who_asked_has_gone() {
    each(async |world| {
        let (sender, fetched) = given(Some(3));
        let content = world
            .media
            .remote(there(), "one", LONG, || async { Ok(fetched) })
            .await;
        drop(content);
        sender.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        drop(sender);
        eventually("it is kept", async || {
            world
                .store
                .media("there.example", "one")
                .await
                .unwrap()
                .is_some()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_broken_fetch_is_an_error_for_all_and_nothing_is_kept() {
    each(async |world| {
        // It breaks off, gives fewer bytes than it said, or more than are taken.
        for (end, length) in [
            (Some(Err(FetchError::Failed("cut".to_owned()))), None),
            (None, Some(100_001)),
        ] {
            let (sender, fetched) = given(length);
            let first = world
                .media
                .remote(there(), "one", LONG, || async { Ok(fetched) })
                .await
                .unwrap();
            let second = world
                .media
                .remote(there(), "one", LONG, never)
                .await
                .unwrap();
            sender.send(Ok(Bytes::from(noise(100_000, 7)))).unwrap();
            if let Some(end) = end {
                sender.send(end).unwrap();
            }
            drop(sender);
            for content in [first, second] {
                let pieces = content.read(None).await.unwrap();
                let all: Result<Vec<Bytes>, _> = soon("it ends", pieces.try_collect()).await;
                assert!(matches!(
                    all,
                    Err(MediaError::Remote(FetchError::Failed(_)))
                ));
            }
            eventually("nothing is kept", async || {
                world.files().await.iter().all(Vec::is_empty)
            })
            .await;
            assert!(
                world
                    .store
                    .media("there.example", "one")
                    .await
                    .unwrap()
                    .is_none()
            );
            world.clock.advance(Duration::from_mins(2));
        }
        fetch_whole(world, "one", b"at last").await;
    })
    .await;
}

#[tokio::test]
async fn failures_are_remembered_for_a_while() {
    each(async |world| {
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = async || {
            let asked = asked.clone();
            let fetch = move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                Err(FetchError::NotFound)
            };
            world
                .media
                .remote(there(), "one", LONG, fetch)
                .await
                .unwrap_err()
        };
        for _ in 0..3 {
            let error = ask().await;
            assert!(matches!(error, MediaError::Remote(FetchError::NotFound)));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        world.clock.advance(Duration::from_mins(2));
        ask().await;
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn too_large_and_blocked_files_are_not_fetched() {
    let settings = |config: &mut MediaConfig| {
        config.remote.max_size = 1_000;
        config.remote.blocked_servers = vec!["bad.example".to_owned()];
    };
    each_with(settings, Arc::new(NoPictures), async |world| {
        let (_sender, fetched) = given(Some(1_001));
        let refused = world
            .media
            .remote(there(), "one", LONG, || async { Ok(fetched) })
            .await;
        let too_large = |error| matches!(error, MediaError::Remote(FetchError::TooLarge));
        assert!(too_large(refused.unwrap_err()));
        let (sender, fetched) = given(None);
        sender.send(Ok(Bytes::from(noise(1_001, 8)))).unwrap();
        let content = world
            .media
            .remote(there(), "two", LONG, || async { Ok(fetched) })
            .await
            .unwrap();
        let all: Result<Vec<Bytes>, _> = content.read(None).await.unwrap().try_collect().await;
        assert!(too_large(all.unwrap_err()));
        for server in ["bad.example", "bad.example:8448", "deep.bad.example"] {
            let server = server.try_into().unwrap();
            let refused = world.media.remote(server, "one", LONG, never).await;
            assert!(matches!(refused, Err(MediaError::NotFound)));
        }
        fetch_whole(world, "three", &noise(1_000, 9)).await;
    })
    .await;
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes_and_age_and_old_ones_go_first() {
    let settings = |config: &mut MediaConfig| {
        config.remote.cache_size = 2_500;
        config.remote.cache_age = Some(Duration::from_hours(24));
    };
    each_with(settings, Arc::new(NoPictures), async |world| {
        for (index, id) in ["one", "two", "three"].into_iter().enumerate() {
            fetch_whole(world, id, &noise(1_000, 10 + u32::try_from(index).unwrap())).await;
            eventually("it is kept", async || {
                world
                    .store
                    .media("there.example", id)
                    .await
                    .unwrap()
                    .is_some()
            })
            .await;
            world.clock.advance(Duration::from_hours(2));
        }
        // Somebody looks at the oldest.
        let seen = [("there.example", "one", world.clock.now_ms())];
        world.store.media_accessed(seen.into_iter()).await.unwrap();
        assert_eq!(world.media.sweep().await.unwrap().unwrap().remote, 1);
        let there = async |id| {
            world
                .store
                .media("there.example", id)
                .await
                .unwrap()
                .is_some()
        };
        assert!(there("one").await && !there("two").await && there("three").await);
        world.clock.advance(Duration::from_hours(23));
        assert_eq!(world.media.sweep().await.unwrap().unwrap().remote, 1);
        assert!(there("one").await && !there("three").await);
    })
    .await;
}

#[tokio::test]
async fn what_is_lost_of_the_cache_is_fetched_again() {
    each(async |world| {
        fetch_whole(world, "one", b"bytes").await;
        eventually("it is kept", async || !world.files().await[0].is_empty()).await;
        eventually("it is known", async || {
            world
                .store
                .media("there.example", "one")
                .await
                .unwrap()
                .is_some()
        })
        .await;
        lay(world.place(), &world.files().await[0][0].key, None).await;
        let content = world
            .media
            .remote(there(), "one", LONG, never)
            .await
            .unwrap();
        assert!(matches!(
            content.read(None).await,
            Err(MediaError::NotFound)
        ));
        fetch_whole(world, "one", b"bytes").await;
        // It has bytes again, and others of the same content have them, too.
        let again = async || {
            let row = world.store.media("there.example", "one").await.unwrap();
            row.is_some() && world.files().await.map(|files| files.len()) == [1, 0]
        };
        eventually("it is kept again", again).await;
        let content = world
            .media
            .remote(there(), "one", LONG, never)
            .await
            .unwrap();
        assert_eq!(read(&content).await, b"bytes");
        // So are bytes that are cut off.
        lay(world.place(), &world.files().await[0][0].key, Some(b"byt")).await;
        let id = world.upload(b"bytes").await;
        assert_eq!(read(&world.find(&id).await.unwrap()).await, b"bytes");
        let content = world
            .media
            .remote(there(), "one", LONG, never)
            .await
            .unwrap();
        assert_eq!(read(&content).await, b"bytes");
    })
    .await;
}
