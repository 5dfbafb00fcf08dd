//! Epochs: who notices that the log went back, and that somebody renewed the epoch.

use std::time::Duration;

use rhizome_storage::testing::{TestDatabase, eventually, go_back, soon};
use rhizome_storage::{DeviceList, Fact, Options, Pos, Store, WriteSet};

use crate::factory::user;

async fn polling(database: &TestDatabase) -> Store {
    let options = Options {
        poll_interval: Some(Duration::from_millis(20)),
        ..database.options()
    };
    Store::open(options).await.unwrap()
}

async fn change(store: &Store) {
    let user = store.user_no(&user("alice")).await.unwrap();
    let set = WriteSet::from(vec![Fact::DeviceList(DeviceList { user, device: None })]);
    store.commit(set).await.unwrap();
}

#[tokio::test]
async fn a_renewed_epoch_reaches_other_processes() {
    for database in TestDatabase::both().await {
        let (here, there) = (polling(&database).await, polling(&database).await);
        assert_eq!(here.epoch(), there.epoch());
        assert_eq!(here.seal("e", Pos(7)), there.seal("e", Pos(7)));
        assert_ne!(here.seal("e", Pos(7)), here.seal("e", Pos(8)));
        assert_ne!(here.seal("e", Pos(7)), here.seal("f", Pos(7)));
        let renewed = here.renew_epoch().await.unwrap();
        eventually("the other knows", async || there.epoch() == renewed).await;
        // Two who notice at once agree.
        let (one, two) = tokio::join!(here.renew_epoch(), there.renew_epoch());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one, renewed);
        eventually("both agree", async || here.epoch() == there.epoch()).await;
        assert!([one, two].contains(&here.epoch()));
        here.close().await;
        there.close().await;
        database.remove().await;
    }
}

/// A database that is put back under a running process ends it: what it knows was never so.
#[tokio::test]
async fn a_log_that_went_back_ends_the_process() {
    for database in TestDatabase::both().await {
        let store = polling(&database).await;
        let epoch = store.epoch();
        for _ in 0..5 {
            change(&store).await;
        }
        go_back(&store, 3).await;
        soon("the queue ends", store.queue_ended()).await;
        store.close().await;
        let store = polling(&database).await;
        assert_ne!(store.epoch(), epoch);
        change(&store).await;
        store.close().await;
        database.remove().await;
    }
}
