use std::time::Duration;

use rhizome_storage::MediaQuery;

use crate::world::{each, noise, read};

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
        assert_eq!((swept.blobs, world.files()[0].len()), (0, 2));
        world.clock.advance(Duration::from_hours(2));
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.blobs, swept.bytes, swept.orphans), (1, 2_000, 0));
        assert_eq!(world.files()[0].len(), 1);
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
        let lost = world.path().join("ab").join("cd");
        std::fs::create_dir_all(&lost).unwrap();
        std::fs::write(lost.join("abcd-lost"), b"x").unwrap();
        std::fs::write(world.path().join("new").join("half"), b"x").unwrap();
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, swept.unfinished), (0, 0));
        world.clock.advance(Duration::from_hours(2));
        let swept = world.media.sweep().await.unwrap().unwrap();
        assert_eq!((swept.orphans, swept.unfinished, swept.blobs), (1, 1, 0));
        assert_eq!(world.files().map(|files| files.len()), [1, 0]);
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
