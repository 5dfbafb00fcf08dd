use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use rhizome_media::{Media, MediaConfig, MediaError, NewFile, NoPictures, SealKey, UploadError};
use std::time::Duration;

use rhizome_protocol::Refusal as _;

use crate::world::{ALICE, BOB, World, body, each, each_with, lay, noise, ours, read, taken};

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
        assert_eq!(world.files().await.map(|files| files.len()), [1, 0]);
        let mut tags = Vec::new();
        for id in [&ids.0, &ids.1, &ids.2] {
            tags.push(world.find(id).await.unwrap().info.etag.unwrap());
        }
        assert_eq!(tags[0], tags[1]);
        assert_eq!(tags[0], tags[2]);
        world.upload(&noise(100_000, 3)).await;
        assert_eq!(world.files().await[0].len(), 2);
        assert_eq!(world.files().await[0][0].size, 100_000);
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
        assert_eq!(world.files().await.map(|files| files.len()), [0, 0]);
    })
    .await;
}

#[tokio::test]
async fn limits_hold() {
    let settings = |config: &mut MediaConfig| {
        config.max_upload_size = 1_000;
        config.quota = vec![
            (2_500, Duration::from_hours(1)),
            (2_900, Duration::from_hours(24)),
        ];
    };
    each_with(settings, std::sync::Arc::new(NoPictures), async |world| {
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
        let full = |done| matches!(done, Err(MediaError::QuotaReached { .. }));
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
        assert_eq!(world.files().await[1].len(), 0);
    })
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

#[tokio::test]
async fn sealed_files_say_nothing_where_they_lie_and_read_as_they_came() {
    let key = |id: &str, byte| SealKey {
        id: id.to_owned(),
        key: [byte; 32],
    };
    let settings = |config: &mut MediaConfig| config.keys = vec![key("first", 1)];
    each_with(settings, std::sync::Arc::new(NoPictures), async |world| {
        for size in [0, 1, 65_536, 65_537, 200_000] {
            let bytes = noise(size, 6);
            let id = world.upload(&bytes).await;
            let found = world.find(&id).await.unwrap();
            assert_eq!(read(&found).await, bytes, "{size}");
            let size = size as u64;
            for part in [0..1, 65_535..65_538, 100_000..150_000] {
                let part = part.start.min(size)..part.end.min(size);
                let of = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                let pieces = found.read(Some(part)).await.unwrap();
                let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
                assert_eq!(pieces.concat(), bytes[of]);
            }
        }
        // Neither names nor bytes are those of the files, and each content is there once.
        let text = b"what nobody is to read where it lies".repeat(10);
        let ids = [world.upload(&text).await, world.upload(&text).await];
        assert_eq!(world.files().await.map(|files| files.len()), [6, 0]);
        let row = world
            .store
            .media("here.example", &ids[0])
            .await
            .unwrap()
            .unwrap();
        let blob = row.blob.unwrap();
        assert!(!blob.key.contains(&blob.sha256[..16]));
        for file in &world.files().await[0] {
            let stored = taken(world.place(), &file.key).await;
            assert!(!stored.windows(10).any(|part| part == &text[..10]));
        }
        // With a new key the old one still opens what it has sealed; without it nothing does.
        let mut config = world.media.config().clone();
        config.keys = vec![key("second", 2), key("first", 1)];
        let pictures = || std::sync::Arc::new(NoPictures);
        let rotated = Media::open(world.store.clone(), config.clone(), pictures()).unwrap();
        let found = rotated.find(ours(), &ids[0], Duration::ZERO).await.unwrap();
        assert_eq!(read(&found).await, text);
        let file = NewFile::default();
        let new = rotated
            .upload(None, file, body(b"anew"))
            .await
            .unwrap()
            .media_id;
        let row = world
            .store
            .media("here.example", &new)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.blob.unwrap().seal.unwrap().key_id, "second");
        config.keys.truncate(1);
        let without = Media::open(world.store.clone(), config, pictures()).unwrap();
        let found = without.find(ours(), &ids[0], Duration::ZERO).await.unwrap();
        assert!(matches!(found.read(None).await, Err(MediaError::Bytes(_))));
        // What is changed where it lies is an error, not other bytes.
        let mut stored = taken(world.place(), &blob.key).await;
        stored[5] ^= 1;
        lay(world.place(), &blob.key, Some(&stored)).await;
        let found = world.find(&ids[0]).await.unwrap();
        let pieces = found.read(None).await.unwrap();
        let all: Result<Vec<Bytes>, MediaError> = pieces.try_collect().await;
        assert!(matches!(all, Err(MediaError::Bytes(_))));
    })
    .await;
}

#[tokio::test]
async fn who_has_uploaded_enough_is_told_where_to_read_of_it() {
    let reached = async |world: &World| {
        let all = world
            .media
            .upload(Some(ALICE), NewFile::default(), body(b"too much"));
        match all.await.unwrap_err() {
            UploadError::Media(error) => (error.status(), error.errcode(), error.detail()),
            UploadError::Body(never) => match never {},
        }
    };
    let little = |config: &mut MediaConfig| config.quota = vec![(1, Duration::from_hours(1))];
    let address = "https://here.example/limits";
    let with = |config: &mut MediaConfig| {
        little(config);
        config.quota_info_uri = Some(address.into());
    };
    let pictures = || std::sync::Arc::new(NoPictures);
    each_with(with, pictures(), async |world| {
        let told = Some(("info_uri", address.into()));
        assert_eq!(reached(world).await, (403, "M_USER_LIMIT_EXCEEDED", told));
    })
    .await;
    // That code must not come without.
    each_with(little, pictures(), async |world| {
        assert_eq!(reached(world).await, (403, "M_FORBIDDEN", None));
    })
    .await;
}
