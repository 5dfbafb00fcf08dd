use std::path::Path;
use std::time::Duration;

use rhizome_storage::MediaQuery;

use rhizome_media::{Media, NoPictures, Place, StoreConfig};

use crate::bucket::{self, Lies};
use crate::world::{each, each_with, lay, lost, noise, read, spool};

#[tokio::test]
async fn what_is_deleted_goes_late_and_altogether() {
    each(async |world| {
        let (one, two) = (noise(1_000, 20), noise(2_000, 21));
        let (first, second) = (world.upload(&one).await, world.upload(&two).await);
        let again = world.upload(&one).await;
        let gone = [
            ("here.example", first.as_str()),
            ("here.example", second.as_str()),
        ];
        assert_eq!(world.media.delete(&gone).await.unwrap(), 2);
        assert!(world.find(&first).await.is_none());
        // Not at once: somebody may have just looked at it.
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.blobs, world.files().await[0].len()), (0, 2));
        world.clock.advance(Duration::from_hours(2));
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.blobs, swept.bytes, swept.orphans), (1, 2_000, 0));
        assert_eq!(world.files().await[0].len(), 1);
        assert_eq!(read(&world.find(&again).await.unwrap()).await, one);
        // And it may come back.
        let back = world.upload(&two).await;
        assert_eq!(read(&world.find(&back).await.unwrap()).await, two);
    })
    .await;
}

#[tokio::test]
async fn files_that_nobody_knows_are_swept_once_they_are_old() {
    each(async |world| {
        let id = world.upload(b"known").await;
        lay(world.place(), &lost(1), Some(b"x")).await;
        // Neither in a bucket nor in a folder is all that lies there ours.
        lay(world.place(), "abcd-notes.txt", Some(b"mine")).await;
        std::fs::write(spool(world.place()).join("half"), b"x").unwrap();
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, swept.unfinished), (0, 0));
        world.clock.advance(Duration::from_hours(2));
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, swept.unfinished, swept.blobs), (1, 1, 0));
        let [stored, coming] = world.files().await;
        let mine = |one: &&Lies| one.key == "abcd-notes.txt";
        assert_eq!((stored.len(), coming.len()), (2, 0));
        assert_eq!(stored.iter().filter(mine).count(), 1);
        assert!(world.find(&id).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn nobody_gets_what_is_quarantined() {
    each(async |world| {
        let id = world.upload(b"bad").await;
        let name = ("here.example", id.as_str());
        assert!(world.media.quarantine(name, true).await.unwrap());
        assert!(world.find(&id).await.is_none());
        let again = world.upload(b"bad").await;
        assert!(world.find(&again).await.is_none());
        assert!(world.media.quarantine(name, false).await.unwrap());
        assert!(world.find(&again).await.is_some());
        assert!(world.media.protect(name, true).await.unwrap());
        assert!(!world.media.quarantine(name, true).await.unwrap());
        assert!(world.find(&id).await.is_some());
        // By age goes what isn't protected.
        assert_eq!(
            world
                .media
                .delete_all(&MediaQuery::default())
                .await
                .unwrap(),
            1
        );
        assert!(world.find(&id).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn files_move_to_another_disk_and_can_be_read_meanwhile() {
    move_to(|folder| Place::Disk(folder.to_owned())).await;
}

#[tokio::test]
async fn files_move_to_another_bucket_and_can_be_read_meanwhile() {
    move_to(|folder| Place::S3(bucket::config(folder, &bucket::prefix()))).await;
}

async fn move_to(far: impl Fn(&Path) -> Place) {
    let more = tempfile::tempdir().unwrap();
    let settings = |config: &mut rhizome_media::MediaConfig| {
        // Each database has one of its own.
        let path = more.path().join("far");
        let _ = std::fs::remove_dir_all(&path);
        config.stores.push(StoreConfig {
            name: "far".to_owned(),
            place: far(&path),
        });
    };
    each_with(settings, std::sync::Arc::new(NoPictures), async |world| {
        let (one, two) = (noise(200_000, 22), noise(10, 23));
        let (first, second) = (world.upload(&one).await, world.upload(&two).await);
        // Somebody has it in hand since before.
        let early = world.find(&first).await.unwrap();
        let reading = early.read(None).await.unwrap();
        let mut told = Vec::new();
        let moved = world
            .media
            .move_all("local", "far", |blobs, bytes| told.push((blobs, bytes)));
        assert_eq!(moved.await.unwrap(), 2);
        assert_eq!(told, [(2, 200_010)]);
        let pieces: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(reading)
            .await
            .unwrap();
        assert_eq!(pieces.concat(), one);
        assert_eq!(read(&early).await, one);
        assert_eq!(read(&world.find(&second).await.unwrap()).await, two);
        let lies = async |store| world.store.blobs_in(store, "", 9).await.unwrap().len();
        assert_eq!((lies("local").await, lies("far").await), (0, 2));
        // What a kill left in the old place after the row was changed goes, too.
        assert_eq!(
            world
                .media
                .move_all("local", "far", |_, _| {})
                .await
                .unwrap(),
            0
        );
        assert!(
            world
                .media
                .move_all("local", "nowhere", |_, _| {})
                .await
                .is_err()
        );
        world
            .media
            .delete_all(&MediaQuery::default())
            .await
            .unwrap();
        world.clock.advance(Duration::from_hours(2));
        assert_eq!(world.media.sweep().await.unwrap().unwrap().blobs, 2);
        assert_eq!(world.files().await.map(|files| files.len()), [0, 0]);

        // Without the store that a file lies in it can't be read, and isn't said to be gone.
        let id = world.upload(&one).await;
        world
            .media
            .move_all("local", "far", |_, _| {})
            .await
            .unwrap();
        let mut config = world.media.config().clone();
        config.stores.truncate(1);
        let other =
            Media::open(world.store.clone(), config, std::sync::Arc::new(NoPictures)).unwrap();
        let found = other
            .find(crate::world::ours(), &id, Duration::ZERO)
            .await
            .unwrap();
        let failed = found.read(None).await;
        assert!(matches!(failed, Err(rhizome_media::MediaError::Bytes(_))));
        world
            .media
            .delete_all(&MediaQuery::default())
            .await
            .unwrap();
    })
    .await;
}
