//! What a transfer holds of the heap, however large the file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_futures,
    missing_docs
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use rhizome_media::{
    Append, Content, FetchError, Fetched, Media, MediaConfig, NewFile, NoPictures, Place,
    Resumable, testing,
};
use rhizome_storage::UserNo;
use rhizome_storage::testing::{TestDatabase, soon};
use ruma::{ServerName, server_name};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// Of the file.
const SIZE: usize = 64 << 20;
/// As it comes.
const PIECE: usize = 32 << 10;
/// So much of it may be in memory.
const MOST: usize = 256 << 10;
/// And so much where a connection to a store has its buffers, too.
const MOST_OF_BUCKET: usize = 1 << 20;

/// A file that is made while it comes.
fn body<E>() -> impl Stream<Item = Result<Bytes, E>> + Send {
    let pieces = stream::iter(0..SIZE / PIECE);
    pieces.map(|number| Ok(vec![u8::try_from(number % 251).unwrap(); PIECE].into()))
}

/// The most that was on the heap at a time while something was done, beyond what was there before.
async fn peak(what: &str, most: usize, done: impl Future<Output = ()>) {
    let profiler = dhat::Profiler::builder().testing().build();
    soon(what, done).await;
    let peak = dhat::HeapStats::get().max_bytes;
    drop(profiler);
    println!("{what}: {} KiB", peak >> 10);
    assert!(peak <= most, "{what}: {peak} bytes at a time");
}

async fn read(content: &Content) {
    let mut pieces = content.read(None).await.unwrap();
    let mut size = 0;
    while let Some(piece) = pieces.next().await {
        size += piece.unwrap().len();
    }
    assert_eq!(size, SIZE);
}

#[tokio::test]
async fn a_transfer_holds_little_however_large_the_file() {
    let folder = tempfile::tempdir().unwrap();
    Box::pin(transfer(
        "disk",
        Place::Disk(folder.path().to_owned()),
        MOST,
    ))
    .await;
    let bucket = testing::bucket(folder.path(), &testing::prefix());
    Box::pin(transfer("bucket", Place::S3(bucket), MOST_OF_BUCKET)).await;
}

async fn transfer(name: &str, place: Place, most: usize) {
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let ours: &ServerName = server_name!("here.example");
    let mut config = MediaConfig::new(ours.to_owned(), "");
    config.stores[0].place = place;
    config.max_upload_size = 1 << 30;
    let media = Media::open(store.clone(), config, Arc::new(NoPictures)).unwrap();
    // What is made once: statements, threads.
    let small = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"x"))]);
    let small = media.upload(None, NewFile::default(), small).await.unwrap();
    let small = media.find(ours, &small.media_id, Duration::ZERO).await;
    let pieces = small.unwrap().read(None).await.unwrap();
    assert_eq!(pieces.count().await, 1);

    let mut id = String::new();
    peak(&format!("{name}: an upload"), most, async {
        let uploaded = media
            .upload(None, NewFile::default(), body::<Infallible>())
            .await;
        id = uploaded.unwrap().media_id;
    })
    .await;
    let user = UserNo(1);
    let nothing = stream::empty::<Result<Bytes, Infallible>>();
    let begun = media.begin(user, Resumable::default(), Some(0), nothing);
    let begun = begun.await.unwrap().id;
    let finished = Box::pin(async {
        let all = Append {
            completes: true,
            ..Append::default()
        };
        let done = media.append(user, &begun, all, body::<Infallible>()).await;
        assert!(done.unwrap().complete);
    });
    let what = format!("{name}: an upload in parts, and its end");
    // Parts go to a bucket and come from it over several connections, each of which has buffers.
    let of_parts = if most > MOST { 2 * most } else { most };
    peak(&what, of_parts, finished).await;
    peak(&format!("{name}: a download"), most, async {
        read(&media.find(ours, &id, Duration::ZERO).await.unwrap()).await;
    })
    .await;
    let what = format!("{name}: another server's file, fetched and read");
    peak(&what, most, async {
        let fetch = || async {
            Ok(Fetched {
                content_type: None,
                name: None,
                length: Some(SIZE as u64),
                body: body::<FetchError>().boxed(),
            })
        };
        let there = server_name!("there.example");
        read(
            &media
                .remote(there, "one", Duration::from_mins(1), fetch)
                .await
                .unwrap(),
        )
        .await;
    })
    .await;
    store.close().await;
}
