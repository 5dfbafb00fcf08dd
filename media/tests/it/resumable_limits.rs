//! How much of an upload may come, and how.

use std::sync::Arc;
use std::time::Duration;

use rhizome_media::{
    Append, MediaConfig, MediaError, NewFile, NoPictures, ResumeError, UploadError,
};

use crate::resumable::{append, at, begin, file};
use crate::world::{ALICE, body, each_with, noise};

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
