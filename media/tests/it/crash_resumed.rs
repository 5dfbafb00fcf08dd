//! Wherever the process ends while an upload goes on: nothing that was acknowledged is lost, it goes on from there, and
//! after a sweep nothing is left behind.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rhizome_media::{Append, CrashAt, Media, Progress, Resumable};
use rhizome_storage::MediaQuery;
use rhizome_storage::testing::TestDatabase;

use crate::bucket;
use crate::crash::{POINTS, open};
use crate::world::{ALICE, body, files, noise, ours, read};

/// What the child is told: where to end, the database, the folder, the upload.
const CHILD: &str = "RHIZOME_MEDIA_CRASH_RESUMED";
/// How long the file is, and how much of it the child brings: its last part, or nothing but its end.
const LENGTH: usize = 300_000;
const LAST: [usize; 2] = [200_000, 0];

async fn append(media: &Media, id: &str, offset: usize, bytes: &[u8], completes: bool) -> Progress {
    let what = Append {
        offset: offset as u64,
        completes,
        ..Append::default()
    };
    let appended = media.append(ALICE, id, what, body(bytes)).await;
    appended.unwrap()
}

/// Not a test of its own: what the child does, which ends in the middle of it.
#[tokio::test]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let told: Vec<&str> = told.split('|').collect();
    let [point, url, folder, id, from] = told[..] else {
        panic!("{told:?}");
    };
    let at = POINTS.iter().find(|(name, _)| *name == point).unwrap().1;
    let (_store, media) = open(url, folder, Some(at), 0).await;
    let from: usize = from.parse().unwrap();
    append(&media, id, from, &noise(LENGTH, 91)[from..], true).await;
    panic!("it went on beyond {at:?}");
}

fn crash(told: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["crash_resumed::child", "--exact"])
        .env(CHILD, told);
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped());
    let ended = child.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(6), "{told}: {said}");
}

async fn crash_everywhere(database: TestDatabase, in_bucket: bool) {
    let bytes = noise(LENGTH, 91);
    let points = POINTS.iter();
    let points = points.filter(|(_, at)| !matches!(at, CrashAt::Doomed | CrashAt::Deleted));
    for (point, at) in points {
        for last in LAST {
            let folder = tempfile::tempdir().unwrap();
            let mut path = folder.path().join("media").display().to_string();
            if in_bucket {
                path = format!("{path}+{}", bucket::prefix());
            }
            let (store, media) = open(database.url(), &path, None, 0).await;
            let begun = media.begin(ALICE, Resumable::default(), Some(0), body(b""));
            let id = begun.await.unwrap().id;
            let acknowledged = LENGTH - last;
            append(&media, &id, 0, &bytes[..100_000], false).await;
            if acknowledged > 100_000 {
                append(&media, &id, 100_000, &bytes[100_000..], false).await;
            }
            store.close().await;

            crash(&format!(
                "{point}|{}|{path}|{id}|{acknowledged}",
                database.url()
            ));

            // Later than a lease lasts that the child had.
            let (store, media) = open(database.url(), &path, None, 3).await;
            media.sweep().await.unwrap().unwrap();
            let progress = media.progress(ALICE, &id).await.unwrap();
            let offset = usize::try_from(progress.offset).unwrap();
            assert!(
                [acknowledged, LENGTH].contains(&offset),
                "{at:?}: {offset} of {acknowledged}"
            );
            assert_eq!(
                progress.complete,
                last == 0 && *at == CrashAt::Noted,
                "{at:?}, {last}"
            );
            let done = append(&media, &id, offset, &bytes[offset..], true).await;
            let found = media.find(ours(), &done.media_id, Duration::ZERO).await;
            assert_eq!(read(&found.unwrap()).await, bytes, "{at:?}, {last}");
            for rest in [1, 0] {
                for _ in 0..2 {
                    store.clock().advance(Duration::from_hours(2));
                    media.sweep().await.unwrap().unwrap();
                }
                let left = files(&media).await.map(|files| files.len());
                assert_eq!(left, [rest, 0], "{at:?}, {last}");
                media.delete_all(&MediaQuery::default()).await.unwrap();
            }
            store.close().await;
        }
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
