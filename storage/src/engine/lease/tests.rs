use super::*;
use crate::testing::TestDatabase;
use crate::{Clock, Options};

const LENGTH: Duration = Duration::from_secs(6);
const MOMENT: Duration = Duration::from_millis(1);
const ALMOST: Duration = Duration::from_millis(5_999);

/// Runs the story on both databases with a clock that stands.
async fn each<R: Future<Output = ()>>(story: impl Fn(Store) -> R) {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(1_000_000),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        story(store.clone()).await;
        store.close().await;
        database.remove().await;
    }
}

async fn take(store: &Store, name: &str) -> Option<Lease> {
    Lease::take(store, name, Some(LENGTH)).await.unwrap()
}

async fn holds(lease: &Lease) -> bool {
    let mut tx = lease.store().begin().await.unwrap();
    let holds = lease.hold(&mut tx).await.unwrap();
    tx.rollback().await;
    holds
}

#[tokio::test]
async fn it_has_one_holder_at_a_time_and_each_has_a_higher_fence() {
    each(|store| async move {
        let one = take(&store, "work").await.unwrap();
        assert!(one.held() && holds(&one).await);
        assert!(take(&store, "work").await.is_none());
        let other = take(&store, "other work").await.unwrap();
        store.clock().advance(ALMOST);
        assert!(one.renew().await.unwrap());
        store.clock().advance(ALMOST);
        assert!(one.held() && !other.held());
        assert!(take(&store, "work").await.is_none());
        store.clock().advance(MOMENT);
        // Its time is over, but nobody came. Who goes by the time takes it anew.
        assert!(!one.held() && holds(&one).await);
        assert!(!one.renew_in_time().await.unwrap());
        assert!(one.renew().await.unwrap() && one.held());
        assert!(one.renew_in_time().await.unwrap());
        store.clock().advance(LENGTH);
        let two = take(&store, "work").await.unwrap();
        assert!(two.fence() > one.fence());
        assert!(!one.renew().await.unwrap() && !one.held() && !holds(&one).await);
        one.release().await.unwrap();
        assert!(two.held() && holds(&two).await, "that was another's");
        two.release().await.unwrap();
        assert!(!two.held());
        let three = take(&store, "work").await.unwrap();
        assert!(three.fence() > two.fence() && !holds(&two).await);
    })
    .await;
}

#[tokio::test]
async fn for_good_it_is_taken_from_whoever_had_it() {
    each(|store| async move {
        let before = take(&store, "work").await.unwrap();
        let now = Lease::take(&store, "work", None).await.unwrap().unwrap();
        store.clock().advance(Duration::from_hours(24 * 365));
        assert!(now.held() && holds(&now).await && !holds(&before).await);
        assert!(now.renew().await.unwrap());
        assert!(take(&store, "work").await.is_none());
    })
    .await;
}

/// Two processes with different clocks agree, as they go by the database's.
#[tokio::test]
async fn it_ends_by_the_databases_clock() {
    each(|store| async move {
        let real = Store::open(Options {
            clock: Clock::system(),
            ..store.options().clone()
        })
        .await
        .unwrap();
        let long = Some(Duration::from_mins(1));
        let lease = Lease::take(&real, "work", long).await.unwrap().unwrap();
        let row = real
            .row(real.sql("SELECT until - NOW_MS AS rest FROM lease"))
            .await
            .unwrap()
            .unwrap();
        let left: i64 = row.get("rest").unwrap();
        assert!((1..=60_000).contains(&left), "{left} ms");
        assert!(Lease::take(&real, "work", long).await.unwrap().is_none());
        lease.release().await.unwrap();
        assert!(Lease::take(&real, "work", long).await.unwrap().is_some());
        real.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_goes_by_the_former_table_and_who_goes_by_this_exclude_each_other() {
    let database = TestDatabase::postgres().await;
    let options = Options {
        clock: Clock::manual(1_000_000),
        ..database.options()
    };
    let store = Store::open(options).await.unwrap();
    // As a version before did it.
    let former = async |owner: &str| {
        let query = store
            .sql(
                "INSERT INTO sender_lease (id, owner, until) VALUES (1, $1, $3) \
                 ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, until = excluded.until \
                 WHERE sender_lease.owner = $1 OR sender_lease.until < $2",
            )
            .bind(owner)
            .bind(store.clock().now_ms())
            .bind(store.clock().now_ms() + 6_000);
        store.execute(query).await.unwrap() > 0
    };
    assert!(former("old").await);
    assert!(take(&store, "federation sender").await.is_none());
    assert!(take(&store, "snapshot collector").await.is_some());
    store.clock().advance(LENGTH + MOMENT);
    let new = take(&store, "federation sender").await.unwrap();
    assert!(!former("old").await);
    store.clock().advance(ALMOST);
    assert!(new.renew().await.unwrap());
    store.clock().advance(ALMOST);
    assert!(!former("old").await);
    // Back to the version before.
    new.release().await.unwrap();
    assert!(former("old").await);
    store.close().await;
    database.remove().await;
}
