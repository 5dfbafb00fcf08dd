//! Uploads that break off and go on.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use rhizome_media::{
    Append, Media, MediaConfig, MediaError, NewFile, NoPictures, Progress, Resumable, ResumeError,
    SealKey,
};
use rhizome_storage::testing::soon;

use crate::world::{ALICE, BOB, World, body, each, each_with, noise, ours, read};

pub fn file(announced: Option<u64>) -> Resumable<'static> {
    Resumable {
        file: NewFile {
            content_type: Some("text/plain"),
            name: Some("a name"),
            announced,
        },
        ..Resumable::default()
    }
}

pub fn at(offset: usize, completes: bool) -> Append {
    Append {
        offset: offset as u64,
        completes,
        ..Append::default()
    }
}

pub async fn begin(media: &Media) -> String {
    let begun = media.begin(ALICE, file(None), Some(0), body(b""));
    begun.await.unwrap().id
}

pub type Told = Result<Progress, ResumeError<Infallible>>;

pub async fn append(media: &Media, id: &str, what: Append, bytes: &[u8]) -> Told {
    media.append(ALICE, id, what, body(bytes)).await
}

async fn left(world: &World) -> [usize; 2] {
    // What is free goes by the second sweep: the first one sees it go.
    for _ in 0..2 {
        world.clock.advance(Duration::from_hours(2));
        world.media.sweep().await.unwrap().unwrap();
    }
    world.files().await.map(|files| files.len())
}

#[tokio::test]
async fn what_comes_in_parts_is_a_file_as_any_other() {
    let key = SealKey {
        id: "first".to_owned(),
        key: [7; 32],
    };
    for keys in [Vec::new(), vec![key]] {
        let settings = |config: &mut MediaConfig| config.keys = keys.clone();
        each_with(settings, Arc::new(NoPictures), async |world| {
            let bytes = noise(300_000, 71);
            let begun = world.media.begin(
                ALICE,
                file(Some(300_000)),
                Some(100_000),
                body(&bytes[..100_000]),
            );
            let begun = begun.await.unwrap();
            assert_eq!((begun.offset, begun.length), (100_000, Some(300_000)));
            assert!(!begun.complete);
            let id = begun.id.as_str();
            // Another process goes on with it.
            let config = world.media.config().clone();
            let other = Media::open(world.store.clone(), config, Arc::new(NoPictures)).unwrap();
            let more = append(&other, id, at(100_000, false), &bytes[100_000..200_000]).await;
            assert_eq!(more.unwrap().offset, 200_000);
            assert_eq!(
                world.media.progress(ALICE, id).await.unwrap().offset,
                200_000
            );
            assert!(world.find(&begun.media_id).await.is_none());
            let whole = append(&world.media, id, at(200_000, true), &bytes[200_000..]).await;
            let whole = whole.unwrap();
            assert!(whole.complete && whole.offset == 300_000);
            let found = world.find(&whole.media_id).await.unwrap();
            assert_eq!(read(&found).await, bytes);
            assert_eq!(found.info.name.as_deref(), Some("a name"));
            assert_eq!(found.info.content_type.as_deref(), Some("text/plain"));
            // Who missed the answer is told again, and only who brings nothing.
            for media in [&world.media, &other] {
                assert_eq!(media.progress(ALICE, id).await.unwrap(), whole);
                let again = append(media, id, at(300_000, true), b"").await.unwrap();
                assert_eq!(again, whole);
                let more = append(media, id, at(300_000, true), b"more").await;
                assert!(matches!(more, Err(ResumeError::WrongLength)), "{more:?}");
                let again = append(media, id, at(200_000, true), &bytes[200_000..]).await;
                let Err(ResumeError::WrongOffset {
                    expected: 300_000,
                    complete: true,
                }) = again
                else {
                    panic!("{again:?}");
                };
            }
            assert_eq!(left(world).await, [1, 0]);
            assert_eq!(
                read(&world.find(&whole.media_id).await.unwrap()).await,
                bytes
            );
        })
        .await;
    }
}

#[tokio::test]
async fn what_came_before_an_upload_broke_off_is_kept() {
    each(async |world| {
        let bytes = noise(200_000, 72);
        let id = begin(&world.media).await;
        let pieces = [
            Ok(Bytes::copy_from_slice(&bytes[..10_000])),
            Ok(Bytes::copy_from_slice(&bytes[10_000..11_000])),
            Err("the client has gone"),
        ];
        let broken = world
            .media
            .append(ALICE, &id, at(0, true), stream::iter(pieces));
        let broken = broken.await;
        assert!(
            matches!(broken, Err(ResumeError::Body("the client has gone"))),
            "{broken:?}"
        );
        let progress = world.media.progress(ALICE, &id).await.unwrap();
        assert_eq!((progress.offset, progress.complete), (11_000, false));
        let done = append(&world.media, &id, at(11_000, true), &bytes[11_000..]).await;
        let found = world.find(&done.unwrap().media_id).await.unwrap();
        assert_eq!(read(&found).await, bytes);

        // One that broke off where it began is gone: nobody knows of it.
        let pieces = [Ok(Bytes::from(noise(100_000, 73))), Err("gone")];
        let begun = world
            .media
            .begin(ALICE, file(None), None, stream::iter(pieces));
        assert!(matches!(begun.await, Err(ResumeError::Body("gone"))));
        assert_eq!(left(world).await, [1, 0]);
    })
    .await;
}

/// A client that has lost its connection doesn't wait until the server has seen that.
#[tokio::test]
async fn who_asks_how_far_it_is_ends_what_hangs() {
    each(async |world| {
        let bytes = noise(100_000, 74);
        let id = begin(&world.media).await;
        let first: Result<Bytes, Infallible> = Ok(Bytes::copy_from_slice(&bytes[..50_000]));
        let has_it = AtomicBool::new(false);
        let nothing = stream::poll_fn(|_| {
            has_it.store(true, Ordering::Relaxed);
            Poll::Pending
        });
        let hanging = stream::once(async { first }).chain(nothing);
        let hanging = world.media.append(ALICE, &id, at(0, true), hanging.boxed());
        let (ended, progress) = soon("it is told how far it is", async {
            let mut hanging = std::pin::pin!(hanging);
            while !has_it.load(Ordering::Relaxed) {
                assert!(hanging.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            tokio::join!(hanging, world.media.progress(ALICE, &id))
        })
        .await;
        let offset = progress.unwrap().offset;
        let Err(ResumeError::WrongOffset { expected, .. }) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!((expected, offset), (50_000, 50_000));
        let done = append(&world.media, &id, at(50_000, true), &bytes[50_000..]).await;
        let found = world.find(&done.unwrap().media_id).await.unwrap();
        assert_eq!(read(&found).await, bytes);
    })
    .await;
}

#[tokio::test]
async fn of_two_processes_one_goes_on() {
    each(async |world| {
        let bytes = noise(200_000, 75);
        let id = begin(&world.media).await;
        let config = world.media.config().clone();
        let other = Media::open(world.store.clone(), config, Arc::new(NoPictures)).unwrap();
        let both = tokio::join!(
            append(&world.media, &id, at(0, false), &bytes[..100_000]),
            append(&other, &id, at(0, false), &bytes[..100_000]),
        );
        let both = [both.0, both.1];
        assert_eq!(both.iter().filter(|one| one.is_ok()).count(), 1, "{both:?}");
        for one in both {
            let told = match one {
                Ok(progress) => progress.offset,
                Err(ResumeError::WrongOffset { expected, .. }) => expected,
                Err(error) => panic!("{error}"),
            };
            assert!([0, 100_000].contains(&told));
        }
        // Both may end it: it is one file.
        let end = |media| append(media, &id, at(100_000, true), &bytes[100_000..]);
        let both = tokio::join!(end(&world.media), end(&other));
        assert!(both.0.is_ok() || both.1.is_ok(), "{both:?}");
        let done = other.progress(ALICE, &id).await.unwrap();
        assert!(done.complete);
        assert_eq!(
            read(&world.find(&done.media_id).await.unwrap()).await,
            bytes
        );
        let again = tokio::join!(
            append(&world.media, &id, at(200_000, true), b""),
            append(&other, &id, at(200_000, true), b"")
        );
        assert_eq!(again.0.unwrap(), again.1.unwrap());
        assert_eq!(left(world).await, [1, 0]);
    })
    .await;
}

#[tokio::test]
async fn an_upload_is_its_users_and_goes_when_nobody_goes_on() {
    let settings = |config: &mut MediaConfig| {
        config.most_pending = 2;
        config.grace = Duration::from_hours(1);
    };
    each_with(settings, Arc::new(NoPictures), async |world| {
        let bytes = noise(100_000, 76);
        let id = begin(&world.media).await;
        append(&world.media, &id, at(0, false), &bytes)
            .await
            .unwrap();
        let theirs = world.media.append(BOB, &id, at(100_000, true), body(b""));
        assert!(matches!(
            theirs.await,
            Err(ResumeError::Media(MediaError::NotFound))
        ));
        assert!(matches!(
            world.media.progress(BOB, &id).await,
            Err(MediaError::NotFound)
        ));
        assert!(matches!(
            world.media.cancel(BOB, &id).await,
            Err(MediaError::NotFound)
        ));
        let cancelled = begin(&world.media).await;
        let third = world
            .media
            .begin(ALICE, file(None), Some(0), body(b""))
            .await;
        let Err(ResumeError::Media(MediaError::TooManyPending { retry_after_ms })) = third else {
            panic!("{third:?}");
        };
        assert_eq!(retry_after_ms, 24 * 3_600_000);
        world.media.cancel(ALICE, &cancelled).await.unwrap();
        let gone = world.media.progress(ALICE, &cancelled).await;
        assert!(matches!(gone, Err(MediaError::NotFound)));
        begin(&world.media).await;

        // A sweep leaves what is under way, however long it takes from part to part.
        world.clock.advance(Duration::from_hours(23));
        world.media.sweep().await.unwrap().unwrap();
        let more = append(&world.media, &id, at(100_000, false), &bytes).await;
        assert_eq!(more.unwrap().offset, 200_000);
        world.clock.advance(Duration::from_hours(23));
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.uploads, swept.orphans, swept.blobs), (1, 0, 0));
        assert_eq!(
            world.media.progress(ALICE, &id).await.unwrap().offset,
            200_000
        );
        world.clock.advance(Duration::from_hours(2));
        let late = append(&world.media, &id, at(200_000, true), b"").await;
        assert!(matches!(
            late,
            Err(ResumeError::Media(MediaError::NotFound))
        ));
        assert_eq!(left(world).await, [0, 0]);
    })
    .await;
}

#[tokio::test]
async fn an_id_that_was_given_is_filled_little_by_little() {
    each(async |world| {
        let media = &world.media;
        let created = media.create(ALICE).await.unwrap().media_id;
        let fills = |owner, id: &'static str| {
            let new = Resumable {
                fills: Some(id),
                ..file(None)
            };
            media.begin(owner, new, Some(0), body(b""))
        };
        let created: &'static str = created.leak();
        let theirs = fills(BOB, created).await;
        assert!(matches!(
            theirs,
            Err(ResumeError::Media(MediaError::NotTheirs))
        ));
        let nothing = fills(ALICE, "nothing").await;
        assert!(matches!(
            nothing,
            Err(ResumeError::Media(MediaError::NotFound))
        ));
        let id = fills(ALICE, created).await.unwrap().id;
        let other = fills(ALICE, created).await.unwrap().id;
        let bytes = noise(150_000, 78);
        world.clock.advance(Duration::from_hours(20));
        append(media, &id, at(0, false), &bytes[..100_000])
            .await
            .unwrap();
        append(media, &other, at(0, false), &bytes[..100_000])
            .await
            .unwrap();
        // The id waits for as long as its bytes come.
        world.clock.advance(Duration::from_hours(20));
        media.sweep().await.unwrap().unwrap();
        let waiting = media.find(ours(), created, Duration::from_secs(50));
        let filling = append(media, &id, at(100_000, true), &bytes[100_000..]);
        let (found, filled) = soon("it is filled", async { tokio::join!(waiting, filling) }).await;
        assert!(filled.unwrap().fills);
        assert_eq!(read(&found.unwrap()).await, bytes);
        let late = append(media, &other, at(100_000, true), b"").await;
        assert!(
            matches!(late, Err(ResumeError::Refused(MediaError::AlreadyUploaded))),
            "{late:?}"
        );
        assert!(media.progress(ALICE, &other).await.is_err());
        assert_eq!(left(world).await, [1, 0]);
    })
    .await;
}

/// What comes at once is durable little by little.
#[tokio::test]
async fn a_long_body_is_stored_in_several_parts() {
    let settings = |config: &mut MediaConfig| config.max_upload_size = 100 << 20;
    each_with(settings, Arc::new(NoPictures), async |world| {
        let bytes = noise(40 << 20, 79);
        let id = begin(&world.media).await;
        let pieces: Vec<Result<Bytes, &str>> = bytes
            .chunks(1 << 20)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .chain([Err("gone")])
            .collect();
        let broken = world
            .media
            .append(ALICE, &id, at(0, true), stream::iter(pieces));
        assert!(broken.await.is_err());
        assert_eq!(world.files().await.map(|files| files.len()), [3, 0]);
        let done = append(&world.media, &id, at(40 << 20, true), b"")
            .await
            .unwrap();
        let found = world.find(&done.media_id).await.unwrap();
        assert!(read(&found).await == bytes);
    })
    .await;
}
