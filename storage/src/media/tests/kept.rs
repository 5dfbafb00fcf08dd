//! What operators say of files and stores lasts.

use super::*;

#[tokio::test]
async fn what_is_quarantined_is_so_under_all_names() {
    each_database(async |store: Store| {
        let bytes = blob("k1", "aa");
        for media_id in ["one", "two"] {
            store
                .add_media(&file(media_id), Keep::New(&bytes))
                .await
                .unwrap();
        }
        let is = async |origin, media_id| {
            let row = store.media(origin, media_id).await.unwrap();
            row.is_some_and(|row| row.quarantined)
        };
        assert!(store.protect_media((OURS, "two"), true).await.unwrap());
        assert!(
            !store
                .quarantine_media((OURS, "two"), false, true)
                .await
                .unwrap()
        );
        assert!(
            store
                .quarantine_media((OURS, "one"), false, true)
                .await
                .unwrap()
        );
        assert!(is(OURS, "one").await && !is(OURS, "two").await);
        store
            .add_media(&file("three"), Keep::Known("k1"))
            .await
            .unwrap();
        assert!(is(OURS, "three").await);
        let origin = server_name!("here.example");
        store
            .begin_media((origin, "four"), ALICE, i64::MAX, 9)
            .await
            .unwrap();
        store
            .fill_media(&file("four"), ALICE, Keep::Known("k1"))
            .await
            .unwrap();
        assert!(is(OURS, "four").await);
        assert!(
            store
                .quarantine_media((OURS, "one"), false, false)
                .await
                .unwrap()
        );
        assert!(!is(OURS, "four").await);
        // Another server's may be refused before it was ever here.
        assert!(
            !store
                .quarantine_media((OURS, "five"), false, true)
                .await
                .unwrap()
        );
        let there = ("there.example", "six");
        assert!(store.quarantine_media(there, true, true).await.unwrap());
        store
            .add_media(&remote("six"), Keep::Known("k1"))
            .await
            .unwrap();
        assert!(is("there.example", "six").await);
    })
    .await;
}

#[tokio::test]
async fn what_is_quarantined_stays_so_when_it_is_deleted_or_comes_again() {
    each_database(async |store: Store| {
        let there = ("there.example", "one");
        store
            .add_media(&remote("one"), Keep::New(&blob("k1", "aa")))
            .await
            .unwrap();
        assert!(store.quarantine_media(there, true, true).await.unwrap());
        assert_eq!(store.delete_media(&[there]).await.unwrap(), 1);
        assert_eq!(store.delete_media(&[there]).await.unwrap(), 0);
        let row = store.media(there.0, there.1).await.unwrap().unwrap();
        assert!(row.quarantined && row.blob.is_none());
        // Other bytes under the same name change nothing.
        store
            .add_media(&remote("one"), Keep::New(&blob("k2", "bb")))
            .await
            .unwrap();
        let row = store.media(there.0, there.1).await.unwrap().unwrap();
        assert!(row.quarantined);
        store.delete_media(&[there]).await.unwrap();
        // Once it may be given again, it can be fetched again.
        assert!(store.quarantine_media(there, true, false).await.unwrap());
        assert_eq!(store.media(there.0, there.1).await.unwrap(), None);
        assert!(!store.quarantine_media(there, true, false).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_store_has_one_id_until_another_is_adopted() {
    each_database(async |store: Store| {
        assert_eq!(store.media_store_id("local").await.unwrap(), None);
        assert_eq!(store.begin_media_store("local", "a").await.unwrap(), "a");
        assert_eq!(store.begin_media_store("local", "b").await.unwrap(), "a");
        let of = store.media_store_of("a").await.unwrap();
        assert_eq!(of.as_deref(), Some("local"));
        store.adopt_media_store("local", "b").await.unwrap();
        let id = store.media_store_id("local").await.unwrap();
        assert_eq!(id.as_deref(), Some("b"));
        assert_eq!(store.media_store_of("a").await.unwrap(), None);
    })
    .await;
}
