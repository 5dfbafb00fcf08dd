//! Events that are to be sent later: what becomes of them is decided where it is written.

use ruma::{owned_event_id, owned_room_id};
use std::time::Duration;

use rhizome_storage::testing::{TestDatabase, each_database, soon};
use rhizome_storage::{
    CommitError, Committed, DelayId, DelayedChange, DelayedStep, Fact, NewDelayed, Options, Store,
    TxnKey, UserNo,
};

use crate::factory::user;

const NOW: i64 = 1_000;

fn new(delay_ms: i64, txn: Option<TxnKey>, most: usize) -> DelayedStep {
    DelayedStep::Scheduled(Box::new(NewDelayed {
        txn,
        room_id: owned_room_id!("!room:here"),
        kind: "m.room.message".to_owned(),
        state_key: None,
        content: "{}".into(),
        sticky_ms: None,
        delay_ms,
        now_ms: NOW,
        most,
    }))
}

fn change(user: UserNo, id: &str, step: DelayedStep) -> Fact {
    let id = DelayId::of(id);
    DelayedChange { user, id, step }.into()
}

async fn commit(
    store: &Store,
    user: UserNo,
    id: &str,
    step: DelayedStep,
) -> Result<Committed, CommitError> {
    store.commit(vec![change(user, id, step)].into()).await
}

fn sent(due_ms: Option<i64>) -> DelayedStep {
    DelayedStep::Sent {
        due_ms,
        event_id: owned_event_id!("$sent"),
        now_ms: NOW,
    }
}

fn failed(due_ms: i64) -> DelayedStep {
    DelayedStep::Failed {
        due_ms,
        error: "{}".to_owned(),
        now_ms: NOW,
    }
}

fn restarted(now_ms: i64) -> DelayedStep {
    DelayedStep::Restarted {
        delay_ms: 500,
        now_ms,
    }
}

#[tokio::test]
async fn what_was_restarted_is_not_sent_for_the_time_before() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        let moved = async |step| {
            let refused = commit(&store, ada, "a", step).await.unwrap_err();
            assert!(matches!(refused, CommitError::DelayedMoved(_)), "{refused}");
            // The id is in no message.
            assert!(!format!("{refused} {refused:?}").contains("\"a\""));
        };
        moved(sent(None)).await;
        commit(&store, ada, "a", new(500, None, 9)).await.unwrap();
        assert_eq!(store.next_delayed_ms(&[]).await.unwrap(), Some(1_500));
        commit(&store, ada, "a", restarted(1_400)).await.unwrap();
        moved(sent(Some(1_500))).await;
        moved(failed(1_500)).await;
        assert!(store.due_delayed(ada, 1_899, 9).await.unwrap().is_empty());
        assert_eq!(store.due_delayed(ada, 1_900, 9).await.unwrap().len(), 1);
        assert_eq!(store.users_with_due(1_900, &[], 9).await.unwrap(), [ada]);
        assert!(
            store
                .users_with_due(1_900, &[ada], 9)
                .await
                .unwrap()
                .is_empty()
        );
        commit(&store, ada, "a", sent(Some(1_900))).await.unwrap();
        // Once.
        moved(sent(None)).await;
        moved(restarted(NOW)).await;
        moved(DelayedStep::Cancelled { now_ms: NOW }).await;
        let event = store.delayed_event(&DelayId::of("a")).await.unwrap();
        let end = event.unwrap().end.unwrap();
        assert_eq!(end.event_id.unwrap(), "$sent");
        assert_eq!(store.next_delayed_ms(&[]).await.unwrap(), None);
    })
    .await;
}

/// Two that go together in one write set stand or fall together.
#[tokio::test]
async fn of_two_that_want_the_same_one_is_refused() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        commit(&store, ada, "a", new(500, None, 9)).await.unwrap();
        let cancel = || DelayedStep::Cancelled { now_ms: NOW };
        let both = tokio::join!(
            commit(&store, ada, "a", cancel()),
            commit(&store, ada, "a", sent(Some(1_500))),
        );
        assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_schedules_once_and_a_user_so_many() {
    each_database(|store| async move {
        let [ada, bob] = [
            store.user_no(&user("ada")).await.unwrap(),
            store.user_no(&user("bob")).await.unwrap(),
        ];
        let txn = |user, device: &str, path: &str| TxnKey {
            user,
            device: device.into(),
            path: path.to_owned(),
            txn_id: "1".to_owned(),
        };
        let first = txn(ada, "PHONE", "a/b");
        commit(&store, ada, "a", new(500, Some(first.clone()), 3))
            .await
            .unwrap();
        let again = commit(&store, ada, "b", new(9, Some(first.clone()), 3)).await;
        let Err(CommitError::DelayedTwice(id)) = again else {
            panic!("{again:?}")
        };
        assert_eq!(id.expose(), "a");
        assert_eq!(store.delayed_by(&first).await.unwrap(), Some(id));
        // Others' are others.
        for (n, other) in [txn(ada, "PHONE", "a"), txn(ada, "a/b", "PHONE")]
            .into_iter()
            .enumerate()
        {
            commit(&store, ada, &n.to_string(), new(700, Some(other), 3))
                .await
                .unwrap();
        }
        let full = commit(&store, ada, "c", new(500, None, 3)).await;
        let Err(CommitError::TooManyDelayed { first_ms, .. }) = full else {
            panic!("{full:?}")
        };
        assert_eq!(first_ms, Some(1_500));
        commit(
            &store,
            bob,
            "c",
            new(500, Some(txn(bob, "PHONE", "a/b")), 3),
        )
        .await
        .unwrap();
        commit(&store, ada, "a", DelayedStep::Cancelled { now_ms: NOW })
            .await
            .unwrap();
        // Of many at once as many as there is room for: all of a write set, or none.
        let many = |ids: [&str; 2]| {
            let facts = ids.map(|id| change(ada, id, new(1, None, 4)));
            store.commit(Vec::from(facts).into())
        };
        many(["d", "e"]).await.unwrap();
        assert_eq!(store.delayed_events(ada).await.unwrap().len(), 4);
        assert!(commit(&store, ada, "f", new(1, None, 4)).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn of_what_is_over_the_last_thousand_stay() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        let all = |step: fn() -> DelayedStep| {
            let facts = (0..1_002).map(|n| change(ada, &n.to_string(), step()));
            store.commit(facts.collect::<Vec<_>>().into())
        };
        commit(&store, ada, "waits", new(1, None, 9)).await.unwrap();
        all(|| new(500, None, 2_000)).await.unwrap();
        all(|| DelayedStep::Cancelled { now_ms: NOW })
            .await
            .unwrap();
        for (id, there) in [
            ("0", false),
            ("1", false),
            ("2", true),
            ("1001", true),
            ("waits", true),
        ] {
            let found = store.delayed_event(&DelayId::of(id)).await.unwrap();
            assert_eq!(found.is_some(), there, "{id}");
        }
    })
    .await;
}

/// Who waits for an event is woken by one that is due earlier, here and in another process, and by no other.
#[tokio::test]
async fn an_earlier_one_wakes_whoever_waits() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let other = Store::open(Options {
            poll_interval: Some(Duration::from_hours(1)),
            ..database.options()
        });
        let other = other.await.unwrap();
        let ada = store.user_no(&user("ada")).await.unwrap();
        for waiting in [&store, &other] {
            waiting.look_for_delayed();
            waiting.wait_for_delayed(Some(2_000));
        }
        commit(&store, ada, "late", new(5_000, None, 9))
            .await
            .unwrap();
        other.log().refresh().await.unwrap();
        for waiting in [&store, &other] {
            let woken = waiting.delayed_due_earlier();
            assert!(futures_util::FutureExt::now_or_never(woken).is_none());
        }
        commit(&store, ada, "early", new(500, None, 9))
            .await
            .unwrap();
        other.log().refresh().await.unwrap();
        for waiting in [&store, &other] {
            soon("it is woken", waiting.delayed_due_earlier()).await;
        }
        store.close().await;
        other.close().await;
        database.remove().await;
    }
}
