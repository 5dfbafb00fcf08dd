//! What is known of services after whatever may happen to the process that tells them.

use std::sync::Arc;

use ruma::{DeviceId, owned_user_id, user_id};

use super::*;
use crate::testing::{TestDatabase, each_database};
use crate::{NewAccount, Sending, ToDevice, UserNo};

const CONTENT: &str = "{\"events\":[],\"odd\":\"\u{0}\u{1}é\"}";

async fn lease(store: &Store) -> Lease {
    let taken = Lease::take(store, "services", None).await.unwrap();
    taken.expect("nobody else has it")
}

async fn begin(store: &Store, lease: &Lease, head: Pos) -> ServicePlace {
    let begun = store.begin_services(lease, &["irc"], head).await.unwrap();
    begun.expect("the lease is ours").remove(0)
}

fn step<'a>(
    pos: Pos,
    acknowledged: Option<&'a [Pos]>,
    next: Option<NewServiceTransaction<'a>>,
) -> ServiceStep<'a> {
    ServiceStep {
        id: "irc",
        pos,
        acknowledged: acknowledged.map(|taken| Acknowledged { at_ms: 9, taken }),
        next,
    }
}

fn transaction(txn: i64, upto: Pos, taken: &[Pos]) -> NewServiceTransaction<'_> {
    NewServiceTransaction {
        txn,
        upto,
        content: CONTENT,
        taken,
    }
}

#[tokio::test]
async fn a_service_begins_where_the_log_ends_and_goes_on_where_it_was() {
    each_database(async |store| {
        let first = lease(&store).await;
        let place = begin(&store, &first, Pos(7)).await;
        assert_eq!(
            (place.pos, place.failures, place.paused),
            (Pos(7), 0, false)
        );
        assert!(place.txn > 1_000_000, "it begins with the time");
        let none = store.service_transaction("irc").await.unwrap();
        assert_eq!(none, None);
        let next = transaction(place.txn + 1, Pos(9), &[]);
        assert!(
            store
                .step_service(&first, step(Pos(7), None, Some(next)))
                .await
                .unwrap()
        );
        let failure = ServiceFailure {
            failures: 3,
            since_ms: 4,
            next_ms: 5,
            error: "it answers 500",
        };
        assert!(store.service_failed(&first, "irc", failure).await.unwrap());

        // Whoever comes next finds it as it was, byte for byte, and the old one writes nothing any more.
        let second = lease(&store).await;
        let again = begin(&store, &second, Pos(20)).await;
        assert_eq!((again.pos, again.txn), (Pos(7), place.txn + 1));
        assert_eq!(
            (again.failures, again.failing_since_ms, again.next_ms),
            (3, 4, 5)
        );
        let waiting = store.service_transaction("irc").await.unwrap().unwrap();
        assert_eq!((waiting.txn, waiting.upto), (place.txn + 1, Pos(9)));
        assert_eq!(waiting.content, CONTENT);
        let stepped = store.step_service(&first, step(Pos(9), Some(&[]), None));
        assert!(!stepped.await.unwrap());
        assert!(!store.service_failed(&first, "irc", failure).await.unwrap());
        assert!(
            !store
                .services_stand_at(&first, &[("irc", Pos(20))])
                .await
                .unwrap()
        );
        assert_eq!(
            store
                .begin_services(&first, &["irc"], Pos(20))
                .await
                .unwrap(),
            None
        );
        assert_eq!(begin(&store, &second, Pos(20)).await, again);

        assert!(
            store
                .step_service(&second, step(Pos(9), Some(&[]), None))
                .await
                .unwrap()
        );
        assert_eq!(store.service_transaction("irc").await.unwrap(), None);
        assert!(
            store
                .services_stand_at(&second, &[("irc", Pos(15))])
                .await
                .unwrap()
        );
        assert!(
            store
                .services_stand_at(&second, &[("irc", Pos(3))])
                .await
                .unwrap()
        );
        let place = begin(&store, &second, Pos(20)).await;
        assert_eq!((place.pos, place.failures, place.next_ms), (Pos(15), 0, 0));
    })
    .await;
}

#[tokio::test]
async fn operators_see_what_waits_and_why() {
    each_database(async |store| {
        let lease = lease(&store).await;
        let place = begin(&store, &lease, Pos(0)).await;
        let next = transaction(place.txn + 1, Pos(0), &[]);
        assert!(
            store
                .step_service(&lease, step(Pos(0), None, Some(next)))
                .await
                .unwrap()
        );
        let failure = ServiceFailure {
            failures: 1,
            since_ms: 2,
            next_ms: 3,
            error: "nobody is there",
        };
        assert!(store.service_failed(&lease, "irc", failure).await.unwrap());
        store.pause_service("irc", true).await.unwrap();
        store.pause_service("telegram", true).await.unwrap();
        store.pause_service("telegram", false).await.unwrap();
        assert_eq!(store.paused_services().await.unwrap(), ["irc"]);
        assert!(begin(&store, &lease, Pos(0)).await.paused);
        let states = store.service_states().await.unwrap();
        let state = &states[0];
        assert_eq!(
            (states.len(), state.id.as_str(), state.paused),
            (1, "irc", true)
        );
        // Each of the commands is a position of the log.
        assert_eq!((state.pos, state.behind), (Pos(0), 3));
        assert_eq!(
            (state.failures, state.error.as_str()),
            (1, "nobody is there")
        );
        assert_eq!((state.failing_since_ms, state.next_ms), (2, 3));
        assert!(state.waiting.is_some_and(|(_, bytes)| bytes > 10));
        assert!(
            store
                .step_service(&lease, step(Pos(3), Some(&[]), None))
                .await
                .unwrap()
        );
        let state = store.service_states().await.unwrap().remove(0);
        assert_eq!(
            (state.behind, state.waiting, state.acknowledged_ms),
            (0, None, 9)
        );
        assert_eq!((state.failures, state.error.as_str()), (0, ""));
    })
    .await;
}

#[tokio::test]
async fn messages_to_devices_go_when_they_are_acknowledged() {
    each_database(async |store| {
        let (user, device) = ghost(&store).await;
        let sent = [1, 2, 3].map(|n| {
            ToDevice {
                user,
                device: device.to_owned(),
                sending: Arc::new(Sending {
                    sender: owned_user_id!("@ada:here"),
                    kind: "m.room_key_request".to_owned(),
                    received_ms: n,
                    once: None,
                }),
                content: "{}".into(),
            }
            .into()
        });
        let committed = store.commit(Vec::from(sent).into()).await.unwrap();
        let last = committed.last;
        let taken = [Pos(last.0 - 2), Pos(last.0 - 1)];
        let lease = lease(&store).await;
        let place = begin(&store, &lease, Pos(0)).await;
        let next = transaction(place.txn + 1, last, &taken);
        assert!(
            store
                .step_service(&lease, step(Pos(0), None, Some(next)))
                .await
                .unwrap()
        );
        let left = async || {
            let left = store
                .to_device(user, device, Pos(0), last, 9)
                .await
                .unwrap();
            left.into_iter()
                .map(|message| message.pos)
                .collect::<Vec<_>>()
        };
        assert_eq!(left().await.len(), 3);
        let waiting = store.service_transaction("irc").await.unwrap().unwrap();
        assert_eq!(waiting.taken, taken);
        // The next one is written with the acknowledgement of the one before.
        let next = transaction(place.txn + 2, last, &[]);
        let both = step(last, Some(&taken), Some(next));
        assert!(store.step_service(&lease, both).await.unwrap());
        assert_eq!(left().await, [last]);
        let waiting = store.service_transaction("irc").await.unwrap().unwrap();
        assert_eq!((waiting.txn, waiting.taken), (place.txn + 2, vec![]));
    })
    .await;
}

async fn ghost(store: &Store) -> (UserNo, &'static DeviceId) {
    let (ghost, device) = (user_id!("@irc_ann:here"), <&DeviceId>::from("BRIDGE"));
    let user = store.user_no(ghost).await.unwrap();
    let account = NewAccount::default();
    store.create_account(ghost, account, None).await.unwrap();
    let added = store.add_device(user, device, None, Some("::1".into()));
    assert!(added.await.unwrap());
    (user, device)
}

#[tokio::test]
async fn in_a_new_life_of_the_database_numbers_jump() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let first = lease(&store).await;
        let place = begin(&store, &first, Pos(9)).await;
        let next = transaction(place.txn + 1, Pos(9), &[]);
        assert!(
            store
                .step_service(&first, step(Pos(9), None, Some(next)))
                .await
                .unwrap()
        );
        store.renew_epoch().await.unwrap();
        // The log is shorter, and what waited may have been sent with other content since.
        let again = begin(&store, &first, Pos(4)).await;
        assert_eq!(again.pos, Pos(4));
        assert!(again.txn > place.txn + 1);
        assert_eq!(store.service_transaction("irc").await.unwrap(), None);
        store.close().await;
        database.remove().await;
    }
}
