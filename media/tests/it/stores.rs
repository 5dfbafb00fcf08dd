//! Whatever is configured or mounted, no file goes that a database knows.

use std::sync::Arc;
use std::time::Duration;

use rhizome_media::{Media, MediaConfig, MediaError, NoPictures, Place, StoreConfig};
use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{Options, Store};

use crate::remote::{LONG, fetch_whole, never};
use crate::world::{MARKER, World, each, lay, noise, on_disks, ours, path, read, taken, there};

fn disk(name: &str, path: &std::path::Path) -> StoreConfig {
    StoreConfig {
        name: name.to_owned(),
        place: Place::Disk(path.to_owned()),
    }
}

/// The same database with other stores.
fn with(world: &World, stores: Vec<StoreConfig>) -> Result<Media, MediaError> {
    let mut config = world.media.config().clone();
    config.stores = stores;
    Media::open(world.store.clone(), config, Arc::new(NoPictures))
}

fn why<T>(refused: Result<T, MediaError>) -> String {
    match refused {
        Ok(_) => panic!("it isn't refused"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn two_stores_may_not_be_one_folder() {
    on_disks(
        |_| {},
        Arc::new(NoPictures),
        async |world| {
            let id = world.upload(b"kept").await;
            let path = world.path();
            let link = path.with_file_name("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            let nested = path.join("deep");
            for other in [&path, &link, &nested] {
                let both = vec![disk("local", &path), disk("far", other)];
                assert!(why(with(world, both)).contains("a folder of its own"));
            }
            // The other way round, and one name twice.
            let both = vec![disk("far", &nested), disk("local", &path)];
            assert!(why(with(world, both)).contains("a folder of its own"));
            let elsewhere = path.with_file_name("elsewhere");
            let twice = vec![disk("local", &path), disk("local", &elsewhere)];
            assert!(why(with(world, twice)).contains("two stores"));
            assert_eq!(read(&world.find(&id).await.unwrap()).await, b"kept");
        },
    )
    .await;
}

/// Another name for the folder, after the configuration was changed.
#[tokio::test]
async fn a_renamed_store_loses_nothing() {
    on_disks(
        |_| {},
        Arc::new(NoPictures),
        async |world| {
            let id = world.upload(b"kept").await;
            let renamed = with(world, vec![disk("other", &world.path())]).unwrap();
            let refused = why(renamed.claim().await);
            assert!(refused.contains("\"local\""), "{refused}");
            world.clock.advance(Duration::from_hours(2));
            let swept = renamed.sweep().await.unwrap().unwrap();
            assert_eq!((swept.orphans, swept.failed), (0, 1));
            // And if somebody insists.
            renamed.adopt("other").await.unwrap();
            let swept = renamed.sweep().await.unwrap().unwrap();
            assert_eq!((swept.orphans, swept.failed), (0, 0));
            assert!(world.media.claim().await.is_err());
            world.media.adopt("local").await.unwrap();
            assert_eq!(read(&world.find(&id).await.unwrap()).await, b"kept");
        },
    )
    .await;
}

#[tokio::test]
async fn another_database_deletes_nothing() {
    each(async |world| {
        let id = world.upload(b"kept").await;
        world.clock.advance(Duration::from_hours(2));
        let database = TestDatabase::sqlite();
        let options = Options {
            clock: world.clock.clone(),
            ..database.options()
        };
        let empty = Store::open(options).await.unwrap();
        let config = world.media.config().clone();
        let other = Media::open(empty.clone(), config, Arc::new(NoPictures)).unwrap();
        assert!(why(other.claim().await).contains("rhizome media adopt local"));
        let swept = other.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, swept.failed), (0, 1));
        // Nor where nothing says whose the files are.
        let said = taken(world.place(), MARKER).await;
        lay(world.place(), MARKER, None).await;
        assert!(why(other.claim().await).contains("isn't empty"));
        assert_eq!(other.sweep().await.unwrap().unwrap().orphans, 0);
        lay(world.place(), MARKER, Some(&said)).await;
        world.media.claim().await.unwrap();
        assert_eq!(read(&world.find(&id).await.unwrap()).await, b"kept");
        // Once it is said that the folder is the other's, it is no longer the first one's.
        other.adopt("local").await.unwrap();
        other.claim().await.unwrap();
        assert!(world.media.claim().await.is_err());
        empty.close().await;
        database.remove().await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_not_mounted_is_not_taken_for_empty() {
    on_disks(
        |_| {},
        Arc::new(NoPictures),
        async |world| {
            let (kept, gone) = (world.upload(b"kept").await, world.upload(b"gone").await);
            world
                .media
                .delete(&[("here.example", gone.as_str())])
                .await
                .unwrap();
            let (path, away) = (world.path(), world.path().with_file_name("away"));
            std::fs::rename(&path, &away).unwrap();
            let unmounted = with(world, vec![disk("local", &path)]).unwrap();
            assert!(why(unmounted.claim().await).contains("mounted"));
            world.clock.advance(Duration::from_hours(2));
            let swept = world.media.sweep().await.unwrap().unwrap();
            assert_eq!((swept.blobs, swept.failed), (0, 2));
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::rename(&away, &path).unwrap();
            let swept = world.media.sweep().await.unwrap().unwrap();
            assert_eq!((swept.blobs, swept.failed), (1, 0));
            assert_eq!(read(&world.find(&kept).await.unwrap()).await, b"kept");
        },
    )
    .await;
}

#[tokio::test]
async fn what_a_move_left_goes_only_if_the_other_copy_is_there() {
    let more = tempfile::tempdir().unwrap();
    let settings = |config: &mut MediaConfig| {
        let _ = std::fs::remove_dir_all(more.path().join("far"));
        config.stores.push(disk("far", &more.path().join("far")));
    };
    on_disks(settings, Arc::new(NoPictures), async |world| {
        let bytes = noise(100_000, 40);
        let id = world.upload(&bytes).await;
        let [old, new] = ["local", "far"];
        let lies = async || world.files().await[0][0].key.clone();
        let key = lies().await;
        let [file, moved] =
            [world.path(), more.path().join("far")].map(|folder| path(&folder, &key));
        world.media.move_all(old, new, |_, _| {}).await.unwrap();
        assert_eq!((lies().await, file.exists()), (key, false));
        std::fs::copy(&moved, &file).unwrap();
        world.clock.advance(Duration::from_hours(2));
        // Half of the other copy isn't one.
        std::fs::write(&moved, &bytes[..50_000]).unwrap();
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, file.exists()), (0, true));
        std::fs::write(&moved, &bytes).unwrap();
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, file.exists()), (1, false));
        assert_eq!(read(&world.find(&id).await.unwrap()).await, bytes);
        // Two at once don't go well together.
        let name = "media sweep";
        let length = Some(Duration::from_mins(10));
        let lease = rhizome_storage::Lease::take(&world.store, name, length);
        let lease = lease.await.unwrap().unwrap();
        let refused = world.media.move_all(new, old, |_, _| {}).await;
        assert!(matches!(refused, Err(MediaError::Busy)));
        lease.release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_bad_thing_does_not_end_a_sweep() {
    on_disks(
        |_| {},
        Arc::new(NoPictures),
        async |world| {
            let ids = [world.upload(b"lost").await, world.upload(b"gone").await];
            let row = world.store.media("here.example", &ids[0]).await.unwrap();
            let key = row.unwrap().blob.unwrap().key;
            assert!(world.store.move_blob(&key, "local", "away").await.unwrap());
            let names = ids.each_ref().map(|id| ("here.example", id.as_str()));
            assert_eq!(world.media.delete(&names).await.unwrap(), 2);
            let path = world.path();
            for folder in ["lost+found/deep", "mine/too", "new/folder"] {
                std::fs::create_dir_all(path.join(folder)).unwrap();
            }
            std::fs::write(path.join("mine/too/file"), b"mine").unwrap();
            std::fs::write(path.join("new/zzz"), b"half").unwrap();
            world.clock.advance(Duration::from_hours(2));
            let swept = world.media.sweep().await.unwrap().unwrap();
            // Only where it doesn't lie by its row is it left; the row waits for its store.
            assert_eq!((swept.blobs, swept.failed, swept.unfinished), (1, 1, 1));
            assert!(path.join("mine/too/file").exists());
            assert_eq!(world.store.doomed_blobs("", 9).await.unwrap().len(), 1);
            let found = world.media.find(ours(), &ids[0], Duration::ZERO).await;
            assert!(found.is_err());
        },
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_for_want_of_a_mount_is_not_forgotten() {
    on_disks(
        |_| {},
        Arc::new(NoPictures),
        async |world| {
            fetch_whole(world, "theirs", b"theirs").await;
            let row = async || {
                let row = world.store.media("there.example", "theirs").await;
                row.unwrap().is_some()
            };
            let held = world.media.remote(there(), "theirs", LONG, never);
            let held = held.await.unwrap();
            let (path, away) = (world.path(), world.path().with_file_name("away"));
            std::fs::rename(&path, &away).unwrap();
            let failed = held.read(None).await;
            assert!(matches!(failed, Err(MediaError::Bytes(_))));
            assert!(row().await);
            std::fs::rename(&away, &path).unwrap();
            assert_eq!(read(&held).await, b"theirs");
            // Where the store is there and the file isn't, it is.
            let key = world.files().await[0][0].key.clone();
            lay(world.place(), &key, None).await;
            let failed = held.read(None).await;
            assert!(matches!(failed, Err(MediaError::NotFound)));
            assert!(!row().await);
        },
    )
    .await;
}
