//! A server's files, in a folder that goes with the test.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use rhizome_media::{Content, Media, MediaConfig, NewFile, NoPictures, Pictures, Place};
use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{Clock, Options, Store, UserNo};
use ruma::{ServerName, server_name};

pub const ALICE: UserNo = UserNo(1);
pub const BOB: UserNo = UserNo(2);

/// A server's files. Its time stands until the test moves it.
pub struct World {
    pub store: Store,
    pub media: Media,
    pub clock: Clock,
    folder: tempfile::TempDir,
}

/// Runs a test on both databases.
pub async fn each(test: impl AsyncFn(&World)) {
    each_with(|_| {}, Arc::new(NoPictures), test).await;
}

/// The same with other settings, and pictures.
pub async fn each_with(
    settings: impl Fn(&mut MediaConfig),
    pictures: Arc<dyn Pictures>,
    test: impl AsyncFn(&World),
) {
    for database in TestDatabase::both().await {
        // Files have the machine's time.
        let clock = Clock::manual(Clock::system().now_ms());
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = MediaConfig::new(ours().to_owned(), folder.path().join("media"));
        config.grace = Duration::from_hours(1);
        settings(&mut config);
        let media = Media::open(store.clone(), config, pictures.clone()).unwrap();
        media.claim().await.unwrap();
        let world = World {
            store,
            media,
            clock,
            folder,
        };
        test(&world).await;
        world.store.close().await;
        database.remove().await;
    }
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

    /// Files in the store: under their names, and on their way.
    pub fn files(&self) -> [Vec<PathBuf>; 2] {
        files(&self.media)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("media")
    }
}

pub fn files(media: &Media) -> [Vec<PathBuf>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for store in &media.config().stores {
        let Place::Disk(folder) = &store.place;
        let mut folders = vec![folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_new = path.parent().unwrap().ends_with("new");
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("store-id") {
                    found[usize::from(is_new)].push(path);
                }
            }
        }
    }
    found
}
