use super::*;
use crate::collect::lifetimes::LIFETIMES;
use crate::engine::lease::Lease;
use crate::testing::{TestDatabase, count_rows};
use crate::{DeviceList, Fact, Scratch, Store, WriteSet};

/// Letters that one of the two databases, or the way between them, might mistake.
const ODD: &str =
    "tab\t, line\n\r, back\\slash \\N \\., \u{0}\u{1}\u{8}\u{b}\u{c}\u{7f}, ä 🦀 ' \"";

async fn fill(store: &Store) {
    store.claim_setting("server_name", "here").await.unwrap();
    store.next_event_nos(3).await.unwrap();
    for name in ["@a:here", "@b:elsewhere"] {
        let user = store.user_no(name.try_into().unwrap()).await.unwrap();
        let list = Fact::DeviceList(DeviceList { user, device: None });
        store.commit(WriteSet::from(vec![list])).await.unwrap();
    }
    // More than goes in one piece.
    for number in 0..300_i64 {
        let query = store
            .sql("INSERT INTO url_preview (key, preview, expires) VALUES ($1, $2, $3)")
            .bind(format!("{number}{ODD}"))
            .bind("x".repeat(2_000))
            .bind(-number);
        store.execute(query).await.unwrap();
    }
    let query = store
        .sql("INSERT INTO state_snapshot (no, room, parent, body) VALUES (7, 1, NULL, UNHEX($1))")
        .bind("00ff5c0a");
    store.execute(query).await.unwrap();
    // As a server has it on SQLite: for good.
    let lease = Lease::take(store, "work", None).await.unwrap();
    assert_eq!(lease.unwrap().fence(), 1);
    let query = store.sql("UPDATE search_upto SET live = 5, back = -5");
    store.execute(query).await.unwrap();
}

async fn all(transfer: &mut Transfer) -> Result<Vec<Transferred>> {
    let progress = Arc::default();
    let mut done = Vec::new();
    for at in 0..transfer.count() {
        done.push(transfer.table(at, &progress).await?);
    }
    Ok(done)
}

/// A filled database that nobody has open, and an empty one.
async fn two() -> [TestDatabase; 2] {
    let both = TestDatabase::both().await;
    let store = both[0].open().await;
    fill(&store).await;
    store.close().await;
    both
}

#[tokio::test]
async fn everything_is_there_afterwards_and_goes_on() {
    let [from, to] = two().await;
    let mut transfer = Transfer::open(from.url(), to.url()).await.unwrap();
    let done = all(&mut transfer).await.unwrap();
    transfer.commit().await.unwrap();
    let previews = done.iter().find(|one| one.table == "url_preview");
    assert_eq!(previews.unwrap().rows, 300);

    let (old, new) = (from.open().await, to.open().await);
    for one in LIFETIMES.iter().filter(|one| one.table != "search") {
        let rows = [&old, &new].map(|store| count_rows(store, one.table));
        let [before, after] = rows;
        assert_eq!(before.await, after.await, "{}", one.table);
    }
    assert_eq!(new.epoch(), old.epoch());
    let head = old.log().head();
    assert_eq!(new.log().head(), head);
    assert_eq!(new.seal("e", head), old.seal("e", head));
    let query = new.sql("SELECT preview, expires FROM url_preview WHERE key = $1");
    let row = new.row(query.bind(format!("12{ODD}"))).await.unwrap();
    assert_eq!(row.unwrap().get::<i64>("expires").unwrap(), -12);
    let query = new.sql("SELECT body, parent FROM state_snapshot WHERE no = 7");
    let row = new.row(query).await.unwrap().unwrap();
    assert_eq!(row.get::<Vec<u8>>("body").unwrap(), b"\x00\xff\x5c\x0a");
    assert_eq!(row.get::<Option<i64>>("parent").unwrap(), None);
    // The index of words is filled anew.
    let query = new.sql("SELECT live, back FROM search_upto");
    let row = new.row(query).await.unwrap().unwrap();
    let upto: [i64; 2] = [row.get("live").unwrap(), row.get("back").unwrap()];
    assert_eq!(upto, [0, 0]);
    // What a process had on the other is free, and what it wrote later than the next doesn't count.
    let minute = Some(std::time::Duration::from_mins(1));
    let lease = Lease::take(&new, "work", minute).await.unwrap();
    assert_eq!(lease.unwrap().fence(), 2);
    // Numbers go on where they were, and so does the log.
    assert!(new.next_event_no().await.unwrap() > crate::EventNo(3));
    let user = new.user_no(ruma::user_id!("@a:here")).await.unwrap();
    assert_eq!(user, old.user_no(ruma::user_id!("@a:here")).await.unwrap());
    let list = Fact::DeviceList(DeviceList { user, device: None });
    new.commit(WriteSet::from(vec![list])).await.unwrap();
    assert!(new.log().head() > head);
    old.close().await;
    new.close().await;
    to.remove().await;
}

#[tokio::test]
async fn what_is_broken_off_has_never_been_and_is_done_again() {
    let [from, to] = two().await;
    let mut broken_off = Transfer::open(from.url(), to.url()).await.unwrap();
    let progress = Arc::default();
    for at in 0..broken_off.count() / 2 {
        broken_off.table(at, &progress).await.unwrap();
    }
    broken_off.close().await;
    let store = to.open().await;
    assert_eq!(count_rows(&store, "url_preview").await, 0);
    store.close().await;
    let mut again = Transfer::open(from.url(), to.url()).await.unwrap();
    all(&mut again).await.unwrap();
    again.commit().await.unwrap();
    // And not a third time: there is something now.
    let full = Transfer::open(from.url(), to.url()).await;
    assert!(matches!(full, Err(TransferError::NotEmpty(_))), "{full:?}");
    to.remove().await;
}

#[tokio::test]
async fn a_database_without_anything_gets_its_tables() {
    let [from, to] = two().await;
    to.remove().await;
    let server = std::env::var(crate::testing::POSTGRES_VARIABLE).unwrap();
    let bare = Scratch::create(&server, "bare").await.unwrap();
    let mut transfer = Transfer::open(from.url(), bare.url()).await.unwrap();
    assert!(!all(&mut transfer).await.unwrap().is_empty());
    transfer.commit().await.unwrap();
    bare.remove().await.unwrap();
}

#[tokio::test]
async fn anothers_tables_are_left_alone() {
    let [from, to] = two().await;
    to.remove().await;
    let server = std::env::var(crate::testing::POSTGRES_VARIABLE).unwrap();
    let others = Scratch::create(&server, "others").await.unwrap();
    let mut connection = Alone::connect(others.url(), May::Write).await.unwrap();
    connection
        .run("CREATE TABLE theirs (a BIGINT)")
        .await
        .unwrap();
    let refused = Transfer::open(from.url(), others.url()).await;
    assert!(
        matches!(refused, Err(TransferError::NotEmpty(_))),
        "{refused:?}"
    );
    assert_eq!(
        tables::of(&mut connection, Dialect::Postgres)
            .await
            .unwrap()
            .len(),
        1
    );
    connection.close().await;
    others.remove().await.unwrap();
}

#[tokio::test]
async fn nothing_is_taken_from_under_a_server() {
    let [from, to] = two().await;
    let store = from.open().await;
    let refused = Transfer::open(from.url(), to.url()).await;
    assert!(matches!(refused, Err(TransferError::InUse)), "{refused:?}");
    store.close().await;
    let wrong_way = Transfer::open(to.url(), from.url()).await;
    assert!(matches!(
        wrong_way,
        Err(TransferError::Open(OpenError::Url))
    ));
    to.remove().await;
}

#[tokio::test]
async fn nothing_is_put_under_a_server() {
    let [from, to] = two().await;
    let store = to.open().await;
    let lease = Lease::take(&store, "work", None).await.unwrap();
    assert!(lease.is_some());
    let refused = Transfer::open(from.url(), to.url()).await;
    assert!(
        matches!(refused, Err(TransferError::TargetInUse)),
        "{refused:?}"
    );
    store.close().await;
    to.remove().await;
}
