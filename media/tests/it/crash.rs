//! Wherever the process ends: no file is half there under its name, none that was acknowledged is lost, and after a
//! sweep nothing is left behind.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rhizome_media::{CrashAt, Media, MediaConfig, NewFile, NoPictures, Place};
use rhizome_storage::testing::TestDatabase;
use rhizome_storage::{Clock, Options, Store};

use crate::bucket::{self, Lies};
use crate::world::{ALICE, body, files, noise, ours, read};

/// What the child is told: where to end, the database, the folder.
const CHILD: &str = "RHIZOME_MEDIA_CRASH";

pub const POINTS: [(&str, CrashAt); 6] = [
    ("receiving", CrashAt::Receiving),
    ("received", CrashAt::Received),
    ("stored", CrashAt::Stored),
    ("noted", CrashAt::Noted),
    ("doomed", CrashAt::Doomed),
    ("deleted", CrashAt::Deleted),
];

/// `place`: a folder, or a folder, `+`, and the prefix of a part of the bucket.
pub async fn open(url: &str, place: &str, crash_at: Option<CrashAt>, hours: i64) -> (Store, Media) {
    let mut options = Options::new(url);
    options.max_connections = 4;
    options.clock = Clock::manual(Clock::system().now_ms() + hours * 3_600_000);
    let store = Store::open(options).await.unwrap();
    let (folder, prefix) = place.split_once('+').unzip();
    let mut config = MediaConfig::new(ours().to_owned(), folder.unwrap_or(place));
    if let (Some(folder), Some(prefix)) = (folder, prefix) {
        config.stores[0].place = Place::S3(bucket::config(folder.as_ref(), prefix));
    }
    config.grace = Duration::from_hours(1);
    config.crash_at = crash_at;
    let media = Media::open(store.clone(), config, Arc::new(NoPictures)).unwrap();
    media.claim().await.unwrap();
    (store, media)
}

async fn put(media: &Media, bytes: &[u8]) -> String {
    let uploaded = media
        .upload(Some(ALICE), NewFile::default(), body(bytes))
        .await;
    uploaded.unwrap().media_id
}

/// Not a test of its own: what the child does, which ends in the middle of it.
#[tokio::test]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let mut told = told.split('|');
    let (point, url, folder) = (
        told.next().unwrap(),
        told.next().unwrap(),
        told.next().unwrap(),
    );
    let at = POINTS.iter().find(|(name, _)| *name == point).unwrap().1;
    let sweeps = matches!(at, CrashAt::Doomed | CrashAt::Deleted);
    let (_store, media) = open(url, folder, Some(at), if sweeps { 2 } else { 0 }).await;
    if sweeps {
        media.sweep().await.unwrap();
    } else {
        put(&media, &noise(300_000, 31)).await;
    }
    panic!("it went on beyond {at:?}");
}

async fn crash_everywhere(database: TestDatabase, in_bucket: bool) {
    for (point, at) in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().join("media").display().to_string();
        if in_bucket {
            path = format!("{path}+{}", bucket::prefix());
        }
        let (store, media) = open(database.url(), &path, None, 0).await;
        let kept = noise(200_000, 30);
        let acknowledged = put(&media, &kept).await;
        let gone = put(&media, b"gone").await;
        media.delete(&[("here.example", &gone)]).await.unwrap();
        store.close().await;

        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child
            .args(["crash::child", "--exact"])
            .stdout(Stdio::null());
        let told = format!("{point}|{}|{path}", database.url());
        let child = child.env(CHILD, told).stderr(Stdio::piped());
        let ended = child.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended.status),
            Some(6),
            "{at:?}: {said}"
        );

        // Also later than a lease lasts that the child had.
        let (store, media) = open(database.url(), &path, None, 3).await;
        // Under its name no file is half there.
        for Lies { size, .. } in &files(&media).await[0] {
            assert!([200_000, 300_000, 4].contains(size), "{at:?}: {size}");
        }
        media.sweep().await.unwrap().unwrap();
        let found = media
            .find(ours(), &acknowledged, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(read(&found).await, kept, "{at:?}");
        // What nobody was told of may be there, but then whole.
        let rest = usize::from(at == CrashAt::Noted);
        assert_eq!(
            files(&media).await.map(|files| files.len()),
            [1 + rest, 0],
            "{at:?}"
        );
        assert_eq!(put(&media, &noise(300_000, 31)).await.len(), 24);
        media
            .delete_all(&rhizome_storage::MediaQuery::default())
            .await
            .unwrap();
        store.clock().advance(Duration::from_hours(2));
        media.sweep().await.unwrap().unwrap();
        assert_eq!(
            files(&media).await.map(|files| files.len()),
            [0, 0],
            "{at:?}"
        );
        store.close().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn nothing_is_lost_or_left_on_sqlite() {
    crash_everywhere(TestDatabase::sqlite(), false).await;
}

#[tokio::test]
async fn nothing_is_lost_or_left_on_postgres() {
    crash_everywhere(TestDatabase::postgres().await, false).await;
}

#[tokio::test]
async fn nothing_is_lost_or_left_in_a_bucket() {
    crash_everywhere(TestDatabase::sqlite(), true).await;
}
