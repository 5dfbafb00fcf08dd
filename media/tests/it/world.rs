//! A server's files, in a folder that goes with the test.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use rhizome_media::{Content, Media, MediaConfig, NewFile, NoPictures, Pictures, Place};
use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{Clock, Options, Store, UserNo};
use ruma::{ServerName, server_name};

use crate::bucket::{self, Lies};

pub const ALICE: UserNo = UserNo(1);
/// What says whose a store is.
pub const MARKER: &str = "store-id";

pub const BOB: UserNo = UserNo(2);

/// A server's files. Its time stands until the test moves it.
pub struct World {
    pub store: Store,
    pub media: Media,
    pub clock: Clock,
    pub disk: Disk,
    _folder: tempfile::TempDir,
}

/// Runs a test on both databases, and with files on a disk and in a bucket.
pub async fn each(test: impl AsyncFn(&World)) {
    each_with(|_| {}, Arc::new(NoPictures), test).await;
}

/// The same with other settings, and pictures.
pub async fn each_with(
    settings: impl Fn(&mut MediaConfig),
    pictures: Arc<dyn Pictures>,
    test: impl AsyncFn(&World),
) {
    on_disks(&settings, pictures.clone(), &test).await;
    // A bucket knows nothing of databases.
    one(
        TestDatabase::sqlite(),
        Disk::Bucket,
        &settings,
        &pictures,
        &test,
    )
    .await;
}

/// The same with files on a disk alone.
pub async fn on_disks(
    settings: impl Fn(&mut MediaConfig),
    pictures: Arc<dyn Pictures>,
    test: impl AsyncFn(&World),
) {
    for database in TestDatabase::both().await {
        one(database, Disk::Local, &settings, &pictures, &test).await;
    }
}

/// The same with files in a bucket alone.
pub async fn in_a_bucket(settings: impl Fn(&mut MediaConfig), test: impl AsyncFn(&World)) {
    let pictures: Arc<dyn Pictures> = Arc::new(NoPictures);
    one(
        TestDatabase::sqlite(),
        Disk::Bucket,
        &settings,
        &pictures,
        &test,
    )
    .await;
}

/// Where files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Local,
    Bucket,
}

async fn one(
    database: TestDatabase,
    disk: Disk,
    settings: &impl Fn(&mut MediaConfig),
    pictures: &Arc<dyn Pictures>,
    test: &impl AsyncFn(&World),
) {
    // Files have the machine's time.
    let clock = Clock::manual(Clock::system().now_ms());
    let options = Options {
        clock: clock.clone(),
        ..database.options()
    };
    let store = Store::open(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("media");
    let mut config = MediaConfig::new(ours().to_owned(), &path);
    if disk == Disk::Bucket {
        config.stores[0].place = Place::S3(bucket::config(&path, &bucket::prefix()));
    }
    config.grace = Duration::from_hours(1);
    settings(&mut config);
    let media = Media::open(store.clone(), config, pictures.clone()).unwrap();
    media.claim().await.unwrap();
    let world = World {
        store,
        media,
        clock,
        disk,
        _folder: folder,
    };
    test(&world).await;
    world.store.close().await;
    database.remove().await;
}

pub fn ours() -> &'static ServerName {
    server_name!("here.example")
}

pub fn there() -> &'static ServerName {
    server_name!("there.example")
}

/// A body that comes in pieces.
pub fn body(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    let pieces: Vec<Bytes> = bytes.chunks(30_000).map(Bytes::copy_from_slice).collect();
    stream::iter(pieces).map(Ok)
}

/// Bytes of which none are like others.
pub fn noise(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..count).map(|_| next()).collect()
}

pub async fn read(content: &Content) -> Vec<u8> {
    content
        .read(None)
        .await
        .unwrap()
        .try_collect::<Vec<_>>()
        .await
        .unwrap()
        .concat()
}

impl World {
    pub async fn upload(&self, bytes: &[u8]) -> String {
        let file = NewFile {
            content_type: Some("text/plain"),
            name: Some("a name"),
            announced: Some(bytes.len() as u64),
        };
        let uploaded = self
            .media
            .upload(Some(ALICE), file, body(bytes))
            .await
            .unwrap();
        uploaded.media_id
    }

    pub async fn find(&self, media_id: &str) -> Option<Content> {
        self.media.find(ours(), media_id, Duration::ZERO).await.ok()
    }

    /// Files in the stores: under their names, and on their way.
    pub async fn files(&self) -> [Vec<Lies>; 2] {
        files(&self.media).await
    }

    /// The folder of a place on a disk.
    pub fn path(&self) -> PathBuf {
        match self.place() {
            Place::Disk(folder) => folder.clone(),
            Place::S3(_) => panic!("it is a bucket"),
        }
    }

    /// The place where new files go.
    pub fn place(&self) -> &Place {
        &self.media.config().stores[0].place
    }
}

pub async fn files(media: &Media) -> [Vec<Lies>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for store in &media.config().stores {
        match &store.place {
            Place::Disk(folder) => on_disk(folder, &mut found),
            Place::S3(config) => {
                for entry in std::fs::read_dir(&config.spool).unwrap() {
                    found[1].push(lies(&entry.unwrap().path()));
                }
                let all = bucket::list(config).await;
                found[0].extend(all.into_iter().filter(|one| one.key != MARKER));
            }
        }
    }
    found
}

fn lies(path: &Path) -> Lies {
    Lies {
        key: path.file_name().unwrap().to_str().unwrap().to_owned(),
        size: std::fs::metadata(path).unwrap().len(),
    }
}

fn on_disk(folder: &Path, found: &mut [Vec<Lies>; 2]) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let is_new = path.parent().unwrap().ends_with("new");
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(MARKER) {
                found[usize::from(is_new)].push(lies(&path));
            }
        }
    }
}

/// Where a file lies on a disk.
pub fn path(folder: &Path, key: &str) -> PathBuf {
    if key == MARKER {
        return folder.join(key);
    }
    folder.join(&key[..2]).join(&key[2..4]).join(key)
}

/// What lies in a store under a key.
pub async fn taken(place: &Place, key: &str) -> Vec<u8> {
    match place {
        Place::Disk(folder) => std::fs::read(path(folder, key)).unwrap(),
        Place::S3(config) => bucket::get(config, key).await,
    }
}

/// Lays something there, past the service; nothing: takes it away.
pub async fn lay(place: &Place, key: &str, bytes: Option<&[u8]>) {
    match (place, bytes) {
        (Place::Disk(folder), Some(bytes)) => {
            let path = path(folder, key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        (Place::Disk(folder), None) => std::fs::remove_file(path(folder, key)).unwrap(),
        (Place::S3(config), bytes) => bucket::lay(config, key, bytes).await,
    }
}

/// The key of a blob that no row knows.
pub fn lost(number: usize) -> String {
    format!("{number:064x}-0123456789ab")
}

/// Where files are that are on their way.
pub fn spool(place: &Place) -> PathBuf {
    match place {
        Place::Disk(folder) => folder.join("new"),
        Place::S3(config) => config.spool.clone(),
    }
}
