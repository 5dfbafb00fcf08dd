use std::time::Duration;

use rhizome_media::{Media, MediaError, NewFile, NoPictures, UploadError};
use rhizome_storage::testing::soon;

use crate::world::{ALICE, BOB, body, each, each_with, ours, read};

const LONG: Duration = Duration::from_secs(50);

#[tokio::test]
async fn who_waits_for_bytes_gets_them_when_they_come() {
    each(async |world| {
        let created = world.media.create(ALICE).await.unwrap();
        let id = created.media_id.as_str();
        let early = world.media.find(ours(), id, Duration::ZERO).await;
        assert!(matches!(early, Err(MediaError::NotYet)));
        let waiting = async {
            let found = world.media.find(ours(), id, LONG).await.unwrap();
            read(&found).await
        };
        let filling = async {
            tokio::task::yield_now().await;
            world
                .media
                .fill(ALICE, id, NewFile::default(), body(b"here"))
                .await
                .unwrap();
        };
        let (bytes, ()) = soon("the bytes come", async { tokio::join!(waiting, filling) }).await;
        assert_eq!(bytes, b"here");
        // It counts from when its bytes have come.
        let early = world.media.create(ALICE).await.unwrap().media_id;
        world.clock.advance(Duration::from_hours(2));
        let filled = world
            .media
            .fill(ALICE, &early, NewFile::default(), body(b"late"))
            .await;
        filled.unwrap();
        let row = world.media.row("here.example", &early).await.unwrap();
        assert_eq!(row.unwrap().created, world.clock.now_ms());
    })
    .await;
}

/// Another process takes the bytes: on a database that processes share, it is looked for.
#[tokio::test]
async fn who_waits_hears_of_other_processes() {
    each(async |world| {
        if !world.store.is_shared() {
            return;
        }
        let config = world.media.config().clone();
        let other = Media::open(world.store.clone(), config, std::sync::Arc::new(NoPictures));
        let other = other.unwrap();
        let created = world.media.create(ALICE).await.unwrap();
        let id = created.media_id.as_str();
        let waiting = world.media.find(ours(), id, LONG);
        let filling = other.fill(ALICE, id, NewFile::default(), body(b"here"));
        let both = async { tokio::join!(waiting, filling) };
        let (found, _) = soon("the bytes come", both).await;
        assert_eq!(read(&found.unwrap()).await, b"here");
    })
    .await;
}

#[tokio::test]
async fn an_id_is_filled_once_in_time_by_whose_it_is() {
    let settings = |config: &mut rhizome_media::MediaConfig| {
        config.most_pending = 2;
        config.pending_for = Duration::from_mins(1);
    };
    each_with(settings, std::sync::Arc::new(NoPictures), async |world| {
        let fill = async |who, id: &str| {
            let filled = world
                .media
                .fill(who, id, NewFile::default(), body(b"x"))
                .await;
            filled.map_err(|error| match error {
                UploadError::Media(error) => error,
                UploadError::Body(never) => match never {},
            })
        };
        let first = world.media.create(ALICE).await.unwrap().media_id;
        let second = world.media.create(ALICE).await.unwrap().media_id;
        let third = world.media.create(ALICE).await;
        let Err(MediaError::TooManyPending { retry_after_ms }) = third else {
            panic!("{third:?}");
        };
        assert_eq!(retry_after_ms, 60_000);
        assert!(matches!(
            fill(BOB, &first).await,
            Err(MediaError::NotTheirs)
        ));
        fill(ALICE, &first).await.unwrap();
        assert!(matches!(
            fill(ALICE, &first).await,
            Err(MediaError::AlreadyUploaded)
        ));
        assert!(matches!(
            fill(ALICE, "nothing").await,
            Err(MediaError::NotFound)
        ));
        assert!(world.media.create(ALICE).await.is_ok());
        world.clock.advance(Duration::from_mins(2));
        assert!(matches!(
            fill(ALICE, &second).await,
            Err(MediaError::NotFound)
        ));
        let gone = world.media.find(ours(), &second, LONG).await;
        assert!(matches!(gone, Err(MediaError::NotFound)));
        assert_eq!(world.media.sweep().await.unwrap().unwrap().expired, 2);
    })
    .await;
}
