//! How much of an upload may come, and how.

use std::sync::Arc;
use std::time::Duration;

use rhizome_media::{
    Append, MediaConfig, MediaError, NewFile, NoPictures, Resumable, ResumeError, UploadError,
};
use rhizome_storage::testing::eventually;
use tokio_util::sync::CancellationToken;

use crate::resumable::{append, at, begin, file};
use crate::world::{ALICE, body, each, each_with, lay, noise, read, taken};

const LEAST: usize = 64 << 10;

fn bounds(config: &mut MediaConfig) {
    config.max_upload_size = 300_000;
    config.quota = vec![(400_000, Duration::from_hours(48))];
}

#[tokio::test]
async fn neither_too_much_comes_nor_too_little_at_once() {
    each_with(bounds, Arc::new(NoPictures), async |world| {
        let bytes = noise(400_000, 77);
        let media = &world.media;
        let begun = media
            .begin(ALICE, file(Some(300_001)), Some(0), body(b""))
            .await;
        assert!(matches!(
            begun,
            Err(ResumeError::Media(MediaError::TooLarge { .. }))
        ));
        let id = begin(media).await;
        // Too little at once, said before or not.
        for announced in [None, Some(LEAST as u64 - 1)] {
            let what = Append {
                announced,
                ..at(0, false)
            };
            let small = append(media, &id, what, &bytes[..LEAST - 1]).await;
            assert!(
                matches!(small, Err(ResumeError::TooSmall { least: 65_536 })),
                "{small:?}"
            );
        }
        assert_eq!(
            append(media, &id, at(0, false), b"").await.unwrap().offset,
            0
        );
        append(media, &id, at(0, false), &bytes[..250_000])
            .await
            .unwrap();
        for announced in [None, Some(50_001)] {
            let what = Append {
                announced,
                ..at(250_000, true)
            };
            let large = append(media, &id, what, &bytes[..50_001]).await;
            assert!(
                matches!(large, Err(ResumeError::Media(MediaError::TooLarge { .. }))),
                "{large:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_said_of_the_length_must_agree() {
    each_with(bounds, Arc::new(NoPictures), async |world| {
        let bytes = noise(400_000, 77);
        let media = &world.media;
        let id = begin(media).await;
        append(media, &id, at(0, false), &bytes[..250_000])
            .await
            .unwrap();
        let length = |length| Append {
            length: Some(length),
            ..at(250_000, false)
        };
        append(media, &id, length(290_000), b"").await.unwrap();
        for what in [
            length(290_001),
            length(1),
            Append {
                announced: Some(2),
                ..at(250_000, true)
            },
        ] {
            let wrong = append(media, &id, what, b"xx").await;
            assert!(matches!(wrong, Err(ResumeError::WrongLength)), "{wrong:?}");
        }
        let early = append(media, &id, at(250_000, true), b"").await;
        assert!(matches!(early, Err(ResumeError::WrongLength)), "{early:?}");
        // More than was said: nobody knows which of it is the file.
        let id = begin(media).await;
        let what = Append {
            length: Some(70_000),
            ..at(0, false)
        };
        let beyond = append(media, &id, what, &bytes[..70_001]).await;
        assert!(
            matches!(beyond, Err(ResumeError::WrongLength)),
            "{beyond:?}"
        );
        assert!(media.progress(ALICE, &id).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn what_is_under_way_counts_to_the_quota() {
    each_with(bounds, Arc::new(NoPictures), async |world| {
        let bytes = noise(400_000, 77);
        let media = &world.media;
        let id = begin(media).await;
        append(media, &id, at(0, false), &bytes[..250_000])
            .await
            .unwrap();
        let upload = |size: usize| {
            let bytes = body(&bytes[..size]);
            media.upload(Some(ALICE), NewFile::default(), bytes)
        };
        let full = upload(150_001).await;
        assert!(matches!(
            full,
            Err(UploadError::Media(MediaError::QuotaReached { .. }))
        ));
        upload(150_000).await.unwrap();
        let full = append(media, &id, at(250_000, true), &bytes[250_000..290_000]).await;
        assert!(
            matches!(
                full,
                Err(ResumeError::Media(MediaError::QuotaReached { .. }))
            ),
            "{full:?}"
        );
        world.clock.advance(Duration::from_hours(23));
        assert_eq!(media.progress(ALICE, &id).await.unwrap().offset, 250_000);
        media.cancel(ALICE, &id).await.unwrap();
        // To the last byte: what has come isn't counted twice when it ends.
        let id = begin(media).await;
        append(media, &id, at(0, false), &bytes[..125_000])
            .await
            .unwrap();
        append(media, &id, at(125_000, true), &bytes[125_000..250_000])
            .await
            .unwrap();
        assert!(matches!(
            upload(1).await,
            Err(UploadError::Media(MediaError::QuotaReached { .. }))
        ));
    })
    .await;
}

/// Its beginning was answered, and nobody heard it: the client begins again, and again.
#[tokio::test]
async fn an_upload_that_nobody_has_heard_of_gives_way() {
    let few = |config: &mut MediaConfig| config.most_pending = 2;
    each_with(few, Arc::new(NoPictures), async |world| {
        let media = &world.media;
        let too_many = async || {
            let begun = media.begin(ALICE, file(None), Some(0), body(b"")).await;
            matches!(
                begun,
                Err(ResumeError::Media(MediaError::TooManyPending { .. }))
            )
        };
        let heard = begin(media).await;
        world.clock.advance(Duration::from_millis(5));
        let unheard = begin(media).await;
        assert!(too_many().await);
        media.progress(ALICE, &heard).await.unwrap();
        world.clock.advance(Duration::from_mins(11));
        let again = begin(media).await;
        assert!(media.progress(ALICE, &unheard).await.is_err());
        assert!(media.progress(ALICE, &heard).await.is_ok());
        assert!(too_many().await);
        // Nor does one give way that was gone on with.
        media.progress(ALICE, &again).await.unwrap();
        world.clock.advance(Duration::from_mins(11));
        assert!(too_many().await);
    })
    .await;
}

#[tokio::test]
async fn an_id_waits_as_long_as_the_upload_that_fills_it() {
    each(async |world| {
        let media = &world.media;
        let created = media.create(ALICE).await.unwrap().media_id;
        world.clock.advance(Duration::from_hours(23));
        let new = Resumable {
            fills: Some(&created),
            ..file(None)
        };
        let begun = media.begin(ALICE, new, Some(0), body(b"")).await.unwrap();
        world.clock.advance(Duration::from_hours(2));
        media.sweep().await.unwrap().unwrap();
        let done = append(media, &begun.id, at(0, true), b"bytes").await;
        assert!(done.unwrap().complete);
        assert_eq!(read(&world.find(&created).await.unwrap()).await, b"bytes");
    })
    .await;
}

/// A store that isn't mounted is no reason to throw away what has come.
#[tokio::test]
async fn an_upload_whose_part_is_missing_is_not_over() {
    each(async |world| {
        let (media, bytes) = (&world.media, noise(200_000, 82));
        let id = begin(media).await;
        append(media, &id, at(0, false), &bytes[..100_000])
            .await
            .unwrap();
        let key = world.files().await[0][0].key.clone();
        let part = taken(world.place(), &key).await;
        lay(world.place(), &key, None).await;
        let ended = append(media, &id, at(100_000, true), &bytes[100_000..]).await;
        assert!(
            matches!(ended, Err(ResumeError::Media(MediaError::Bytes(_)))),
            "{ended:?}"
        );
        lay(world.place(), &key, Some(&part)).await;
        let done = append(media, &id, at(200_000, true), b"").await.unwrap();
        assert!(read(&world.find(&done.media_id).await.unwrap()).await == bytes);
    })
    .await;
}

#[tokio::test]
async fn what_was_given_up_goes_in_a_moment_and_not_at_once() {
    each(async |world| {
        let (media, stop) = (world.media.clone(), CancellationToken::new());
        let sweeping = tokio::spawn({
            let stop = stop.clone();
            async move { media.sweep_now_and_then(stop).await }
        });
        let id = begin(&world.media).await;
        append(&world.media, &id, at(0, false), &noise(100_000, 83))
            .await
            .unwrap();
        let before = world.clock.now_ms();
        world.media.cancel(ALICE, &id).await.unwrap();
        eventually("its bytes go", async || {
            world.clock.advance(Duration::from_secs(1));
            world.files().await[0].is_empty()
        })
        .await;
        let took = world.clock.now_ms() - before;
        assert!((300_000..3_600_000).contains(&took), "{took}");
        stop.cancel();
        sweeping.await.unwrap();
    })
    .await;
}
