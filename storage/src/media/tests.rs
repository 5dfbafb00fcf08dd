use ruma::server_name;

use super::*;
use crate::testing::{TestDatabase, each_database};
use crate::{Clock, Options, Store, UserNo};

mod kept;
mod pages;

const OURS: &str = "here.example";
const ALICE: UserNo = UserNo(1);
const BOB: UserNo = UserNo(2);

fn blob(key: &str, sha256: &str) -> Blob {
    Blob {
        key: key.to_owned(),
        sha256: sha256.to_owned(),
        size: 5,
        store: "local".to_owned(),
        seal: None,
    }
}

fn file(media_id: &str) -> NewMedia<'_> {
    NewMedia {
        origin: OURS,
        media_id,
        remote: false,
        owner: Some(ALICE),
        content_type: Some("text/plain"),
        name: Some("n\u{0}me"),
        size: 5,
    }
}

fn remote(media_id: &str) -> NewMedia<'_> {
    NewMedia {
        origin: "there.example",
        remote: true,
        owner: None,
        ..file(media_id)
    }
}

/// Stores of both databases whose time the test moves.
async fn each_with_clock<R: Future<Output = ()>>(test: impl Fn(Store, Clock) -> R) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(1_000_000);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        test(store.clone(), clock).await;
        store.close().await;
        database.remove().await;
    }
}

async fn doom(store: &Store, touched: i64) -> u64 {
    let keys = store.unneeded_blobs(touched, "", 9).await.unwrap();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.doom_blobs(touched, &keys).await.unwrap()
}

#[tokio::test]
async fn a_content_is_kept_once_under_any_number_of_names() {
    each_database(async |store: Store| {
        let first = Blob {
            seal: Some(Seal {
                key_id: "k".to_owned(),
                salt: "00".to_owned(),
            }),
            ..blob("k1", "aa")
        };
        assert_eq!(store.blob_of("aa").await.unwrap(), None);
        let key = store
            .add_media(&file("one"), Keep::New(&first))
            .await
            .unwrap();
        assert_eq!(key.as_deref(), Some("k1"));
        // Who stored the same meanwhile has to do with what is there.
        let second = blob("k2", "aa");
        let key = store
            .add_media(&file("two"), Keep::New(&second))
            .await
            .unwrap();
        assert_eq!(key.as_deref(), Some("k1"));
        assert_eq!(store.blob_of("aa").await.unwrap(), Some(first.clone()));
        let known = store
            .add_media(&remote("three"), Keep::Known("k1"))
            .await
            .unwrap();
        assert_eq!(known.as_deref(), Some("k1"));
        let row = store.media(OURS, "two").await.unwrap().unwrap();
        assert_eq!(row.name.as_deref(), Some("n\u{0}me"));
        assert_eq!((row.blob, row.owner), (Some(first), Some(ALICE)));
        assert_eq!(store.media(OURS, "four").await.unwrap(), None);
        // An id is given once, and another server's file may be fetched again.
        assert!(
            store
                .add_media(&file("one"), Keep::Known("k1"))
                .await
                .is_err()
        );
        let again = NewMedia {
            content_type: Some("image/png"),
            ..remote("three")
        };
        store.add_media(&again, Keep::Known("k1")).await.unwrap();
        let row = store
            .media("there.example", "three")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.content_type.as_deref(), Some("image/png"));
    })
    .await;
}

#[tokio::test]
async fn an_id_takes_bytes_once_of_its_user_and_in_time() {
    each_with_clock(async |store, clock: Clock| {
        let id = |id| (server_name!("here.example"), id);
        let now = store.clock().now_ms();
        let begin = async |name, until| store.begin_media(id(name), ALICE, until, 2).await.unwrap();
        assert_eq!(begin("one", now + 10).await, Begun::Done);
        assert_eq!(begin("two", now + 20).await, Begun::Done);
        assert_eq!(begin("three", now + 20).await, Begun::TooMany(now + 10));
        let bytes = blob("k1", "aa");
        let fill = async |name, who| {
            let filled = store
                .fill_media(&file(name), who, Keep::New(&bytes))
                .await
                .unwrap();
            let may = store.may_fill(OURS, name, who).await.unwrap();
            (filled, may)
        };
        assert_eq!(fill("four", ALICE).await.0, Filled::Absent);
        assert_eq!(
            fill("one", BOB).await,
            (Filled::NotTheirs, Filled::NotTheirs)
        );
        let done = Filled::Done("k1".to_owned());
        assert_eq!(fill("one", ALICE).await, (done, Filled::Already));
        assert_eq!(fill("one", ALICE).await.0, Filled::Already);
        assert_eq!(begin("three", now + 20).await, Begun::Done);
        clock.advance(std::time::Duration::from_millis(20));
        assert_eq!(fill("two", ALICE).await, (Filled::Absent, Filled::Absent));
        assert_eq!(store.expire_pending_media().await.unwrap(), 2);
        assert_eq!(store.media(OURS, "two").await.unwrap(), None);
        assert!(store.media(OURS, "one").await.unwrap().is_some());
    })
    .await;
}

/// Adds a file of ours; the key of its bytes.
async fn add(store: &Store, name: &str, keep: Keep<'_>) -> Option<String> {
    store.add_media(&file(name), keep).await.unwrap()
}

#[tokio::test]
async fn only_what_nothing_refers_to_is_doomed_and_never_referred_to_again() {
    each_with_clock(async |store, clock: Clock| {
        let kind = ThumbnailKind {
            width: 32,
            height: 32,
            method: "crop",
            animated: false,
            format: "plain",
        };
        add(&store, "one", Keep::New(&blob("k1", "aa"))).await;
        let picture = blob("k2", "bb");
        let added = store.add_thumbnail("k1", &kind, ("image/png", 5), Keep::New(&picture));
        assert_eq!(added.await.unwrap().as_deref(), Some("k2"));
        add(&store, "two", Keep::New(&blob("k3", "cc"))).await;
        let found = store.thumbnail("k1", &kind).await.unwrap().unwrap();
        assert_eq!(
            (found.blob, found.content_type.as_str()),
            (picture, "image/png")
        );
        assert_eq!(store.thumbnail_count("k1").await.unwrap(), 1);

        clock.advance(std::time::Duration::from_millis(10));
        let late = store.clock().now_ms();
        assert_eq!(doom(&store, late).await, 0);
        let both = [(OURS, "one"), (OURS, "two")];
        assert_eq!(store.delete_media(&both).await.unwrap(), 2);
        let lone = store.lone_sources("", 9).await.unwrap();
        assert_eq!(lone, ["k1"]);
        assert!(store.lone_sources("k1", 9).await.unwrap().is_empty());
        let pictures = store.delete_lone_thumbnails(&["k1", "k3"]).await.unwrap();
        assert_eq!(pictures, ["k2"]);
        // Somebody uploads one of them once more.
        let key = add(&store, "three", Keep::Known("k3")).await;
        assert!(key.is_some());
        assert_eq!(store.delete_media(&[(OURS, "three")]).await.unwrap(), 1);
        // What was touched after it was looked for isn't doomed.
        assert_eq!(store.doom_blobs(late, &["k3"]).await.unwrap(), 0);
        assert_eq!(doom(&store, late).await, 2);
        let doomed = store.doomed_blobs("", 9).await.unwrap();
        let keys: Vec<_> = doomed.iter().map(|blob| blob.key.as_str()).collect();
        assert_eq!(keys, ["k1", "k2"]);
        assert_eq!(store.doomed_blobs("k1", 9).await.unwrap().len(), 1);

        assert_eq!(store.blob_of("aa").await.unwrap(), None);
        let known = add(&store, "four", Keep::Known("k1")).await;
        assert_eq!(known, None);
        assert_eq!(store.media(OURS, "four").await.unwrap(), None);
        // The same content may come anew beside what is being deleted.
        let anew = blob("k4", "aa");
        let key = add(&store, "four", Keep::New(&anew)).await;
        assert_eq!(key.as_deref(), Some("k4"));
        assert_eq!(store.forget_blobs(&["k1", "k2", "k4"]).await.unwrap(), 2);
        let known = store.known_blobs(&["k1", "k3", "k4"]).await.unwrap();
        assert_eq!(known.len(), 2);
        assert_eq!(store.blobs_in("local", "k3", 9).await.unwrap(), [anew]);
        assert!(store.move_blob("k4", "local", "far").await.unwrap());
        assert!(!store.move_blob("k4", "local", "far").await.unwrap());
        assert_eq!(store.blob("k4").await.unwrap().unwrap().store, "far");
        // Wherever it lies, it is known.
        let known = store.known_blobs(&["k4"]).await.unwrap();
        assert_eq!(known[0].store, "far");
        assert_eq!(store.hurry_blobs(late - 5, &["k3"]).await.unwrap(), 1);
        assert_eq!(store.hurry_blobs(late, &["k3"]).await.unwrap(), 0);
        assert_eq!(doom(&store, late).await, 1);
        assert_eq!(store.media_by_store().await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_there_is_is_counted_and_listed() {
    each_with_clock(async |store, clock: Clock| {
        let begin = store.clock().now_ms();
        let bytes = blob("k1", "aa");
        store
            .add_media(&file("one"), Keep::New(&bytes))
            .await
            .unwrap();
        store
            .add_media(&remote("two"), Keep::Known("k1"))
            .await
            .unwrap();
        clock.advance(std::time::Duration::from_millis(10));
        store
            .add_media(&file("three"), Keep::Known("k1"))
            .await
            .unwrap();
        store
            .add_media(&remote("four"), Keep::Known("k1"))
            .await
            .unwrap();
        let used = store
            .uploaded_since(ALICE, &[begin, begin - 1, begin + 10])
            .await;
        assert_eq!(used.unwrap(), [5, 10, 0]);
        assert_eq!(store.uploaded_since(BOB, &[0]).await.unwrap(), [0]);
        assert_eq!(store.remote_media_size().await.unwrap(), 10);
        let there = |id| ("there.example", id);
        let seen = [("there.example", "two", begin + 20)];
        store.media_accessed(seen.into_iter()).await.unwrap();
        store.media_accessed([].into_iter()).await.unwrap();
        let stale = async |until| {
            let stale = store.stale_remote_media(until, 9).await.unwrap();
            stale
                .into_iter()
                .map(|one| one.media_id)
                .collect::<Vec<_>>()
        };
        assert_eq!(stale(i64::MAX).await, ["four", "two"]);
        assert_eq!(stale(begin + 10).await, ["four"]);
        store.protect_media(there("four"), true).await.unwrap();
        assert_eq!(stale(i64::MAX).await, ["two"]);

        let list = async |which: &MediaQuery, after| {
            let rows = store.list_media(which, after, 9).await.unwrap();
            rows.into_iter().map(|row| row.media_id).collect::<Vec<_>>()
        };
        let all = MediaQuery {
            protected: true,
            ..MediaQuery::default()
        };
        assert_eq!(list(&all, ("", "")).await, ["one", "three", "four", "two"]);
        assert_eq!(list(&all, (OURS, "three")).await, ["four", "two"]);
        let bare = MediaQuery::default();
        assert_eq!(list(&bare, ("", "")).await, ["one", "three", "two"]);
        let old = MediaQuery {
            owner: Some(ALICE),
            remote: Some(false),
            origin: Some(OURS.to_owned()),
            created_before: Some(begin + 1),
            accessed_before: Some(begin + 1),
            ..MediaQuery::default()
        };
        assert_eq!(list(&old, ("", "")).await, ["one"]);
        let users = store.media_by_user(9).await.unwrap();
        assert_eq!((users.len(), users[0].files, users[0].bytes), (2, 2, 10));
        let stores = store.media_by_store().await.unwrap();
        assert_eq!((stores[0].blobs, stores[0].bytes), (1, 5));
    })
    .await;
}
