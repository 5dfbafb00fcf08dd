use bytes::Bytes;
use futures_util::stream;
use rhizome_media::{MediaError, NewFile, UploadError};
use std::time::Duration;

use crate::world::{ALICE, BOB, body, each, each_with, noise, ours, read};

#[tokio::test]
async fn what_is_uploaded_can_be_read_whole_and_in_parts() {
    each(async |world| {
        for size in [0, 1, 65_535, 65_536, 65_537, 300_000] {
            let bytes = noise(size, 1);
            let id = world.upload(&bytes).await;
            let found = world.find(&id).await.unwrap();
            assert_eq!(found.info.size, Some(size as u64));
            assert_eq!(found.info.content_type.as_deref(), Some("text/plain"));
            assert_eq!(found.info.name.as_deref(), Some("a name"));
            assert_eq!(read(&found).await, bytes);
            for part in [
                0..1,
                1..2,
                65_000..66_000,
                65_536..131_072,
                7..size as u64 + 5,
                9..9,
            ] {
                let pieces = found.read(Some(part.clone())).await.unwrap();
                let pieces: Vec<Bytes> = futures_util::TryStreamExt::try_collect(pieces)
                    .await
                    .unwrap();
                assert!(pieces.iter().all(|piece| piece.len() <= 65_536));
                let end = usize::try_from(part.end).unwrap().min(size);
                let start = usize::try_from(part.start).unwrap().min(end);
                assert_eq!(pieces.concat(), bytes[start..end], "{part:?} of {size}");
            }
        }
        assert!(world.find("nothing").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn the_same_bytes_are_stored_once() {
    each(async |world| {
        let bytes = noise(100_000, 2);
        let ids = tokio::join!(
            world.upload(&bytes),
            world.upload(&bytes),
            world.upload(&bytes)
        );
        assert_eq!(world.files().map(|files| files.len()), [1, 0]);
        let mut tags = Vec::new();
        for id in [&ids.0, &ids.1, &ids.2] {
            tags.push(world.find(id).await.unwrap().info.etag.unwrap());
        }
        assert_eq!(tags[0], tags[1]);
        assert_eq!(tags[0], tags[2]);
        world.upload(&noise(100_000, 3)).await;
        assert_eq!(world.files()[0].len(), 2);
        assert_eq!(std::fs::read(&world.files()[0][0]).unwrap().len(), 100_000);
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    each(async |world| {
        let pieces = [
            Ok(Bytes::from(noise(200_000, 4))),
            Err("the client has gone"),
        ];
        let upload = world
            .media
            .upload(Some(ALICE), NewFile::default(), stream::iter(pieces));
        let error = upload.await.unwrap_err();
        assert!(
            matches!(error, UploadError::Body("the client has gone")),
            "{error:?}"
        );
        assert_eq!(world.files().map(|files| files.len()), [0, 0]);
    })
    .await;
}

#[tokio::test]
async fn limits_hold() {
    let settings = |config: &mut rhizome_media::MediaConfig| {
        config.max_upload_size = 1_000;
        config.quota = vec![
            (2_500, Duration::from_hours(1)),
            (2_900, Duration::from_hours(24)),
        ];
    };
    each_with(
        settings,
        std::sync::Arc::new(rhizome_media::NoPictures),
        async |world| {
            let upload = async |who, size: usize, announced: Option<u64>| {
                let file = NewFile {
                    announced,
                    ..NewFile::default()
                };
                let bytes = noise(size, 5);
                let uploaded = world.media.upload(Some(who), file, body(&bytes)).await;
                uploaded
                    .map(|uploaded| uploaded.size)
                    .map_err(|error| match error {
                        UploadError::Media(error) => error,
                        UploadError::Body(never) => match never {},
                    })
            };
            let too_large = |done| matches!(done, Err(MediaError::TooLarge { most: 1_000 }));
            assert!(too_large(upload(ALICE, 1_001, None).await));
            assert!(too_large(upload(ALICE, 10, Some(1_001)).await));
            let full = |done| matches!(done, Err(MediaError::QuotaReached));
            assert_eq!(upload(ALICE, 1_000, None).await.unwrap(), 1_000);
            assert_eq!(upload(ALICE, 1_000, Some(1_000)).await.unwrap(), 1_000);
            assert!(full(upload(ALICE, 501, None).await));
            assert!(full(upload(ALICE, 10, Some(501)).await));
            assert_eq!(upload(BOB, 501, None).await.unwrap(), 501);
            world.clock.advance(Duration::from_hours(2));
            // The hour is over, the day isn't.
            assert!(full(upload(ALICE, 1_000, None).await));
            // Side by side they count together.
            let both = tokio::join!(upload(ALICE, 600, None), upload(ALICE, 600, None));
            assert!(both.0.is_ok() != both.1.is_ok() || (full(both.0) && full(both.1)));
            world.clock.advance(Duration::from_hours(24));
            assert!(upload(ALICE, 1_000, None).await.is_ok());
            assert_eq!(world.files()[1].len(), 0);
        },
    )
    .await;
}

#[tokio::test]
async fn what_is_said_of_a_file_is_bounded() {
    each(async |world| {
        let name = "ä".repeat(2_000);
        let content_type = "x".repeat(2_000);
        let file = NewFile {
            name: Some(&name),
            content_type: Some(&content_type),
            announced: None,
        };
        let uploaded = world.media.upload(None, file, body(b"text")).await.unwrap();
        let found = world
            .media
            .find(ours(), &uploaded.media_id, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(found.info.name.unwrap().len(), 1_024);
        assert_eq!(found.info.content_type, None);
    })
    .await;
}
