//! Keys for end-to-end encryption: each one-time key is given once, whoever asks and however often.

mod identity;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::testing::{TestDatabase, each_database, soon};
use rhizome_storage::{
    CommitError, CrossSigningChange, DecidedOn, DeviceUpload, EntryKind, KeyCounts, KeyWanted,
    LostAnswer, NewAccount, NewLogin, NewTokens, OneTimeKey, Options, Pos, Store, UserNo,
};
use ruma::OwnedDeviceId;

use crate::factory::user;

const SIGNED: &str = "signed_curve25519";

/// A user with a device.
async fn device(store: &Store, name: &str, device: &str) -> UserNo {
    let user = store.user_no(&user(name)).await.unwrap();
    let login = NewLogin {
        user,
        device_id: device.into(),
        device_name: Some(format!("{name}'s")),
        ip: "::1".into(),
        now_ms: 1,
        tokens: NewTokens {
            access_hash: format!("{name} {device}"),
            refresh_hash: None,
            expires_ms: None,
            refresh_expires_ms: None,
        },
        proof: None,
        proved: false,
    };
    assert!(store.log_in(&login).await.unwrap());
    user
}

fn key(id: &str) -> OneTimeKey {
    OneTimeKey {
        algorithm: SIGNED.to_owned(),
        key_id: id.to_owned(),
        key: format!("{{\"key\":\"{id}\"}}").into(),
    }
}

fn upload(user: UserNo, device: &str, ids: &[&str]) -> DeviceUpload {
    DeviceUpload {
        user,
        device: device.into(),
        decided_on: DecidedOn::Anything,
        keys: None,
        anew: false,
        one_time: ids.iter().map(|id| key(id)).collect(),
        fallback: Vec::new(),
    }
}

fn wanted(user: UserNo, device: &str) -> KeyWanted {
    KeyWanted {
        user,
        device: device.into(),
        algorithm: SIGNED.to_owned(),
    }
}

/// Claims a key of a device; gives its id.
async fn claim(store: &Store, user: UserNo, device: &str) -> Option<String> {
    let given = store.claim_keys(vec![wanted(user, device)]).await.unwrap();
    given.into_iter().next().unwrap().map(|key| key.key_id)
}

async fn counts(store: &Store, user: UserNo, device: &str) -> (usize, usize) {
    let counts = store.key_counts(user, device.into()).await.unwrap();
    let one_time = counts.one_time.get(SIGNED).copied().unwrap_or_default();
    (one_time, counts.unused_fallback.len())
}

#[tokio::test]
async fn keys_are_given_in_the_order_of_upload_then_the_fallback() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        assert_eq!(counts(&store, ada, "A").await, (0, 0));
        store.upload_keys(upload(ada, "A", &["9"])).await.unwrap();
        let mut more = upload(ada, "A", &["5", "7"]);
        more.fallback = vec![key("last")];
        store.upload_keys(more).await.unwrap();
        assert_eq!(counts(&store, ada, "A").await, (3, 1));
        // Three claims of one request, and a device that isn't there.
        let asked = vec![wanted(ada, "A"), wanted(ada, "B"), wanted(ada, "A")];
        let given = store.claim_keys(asked).await.unwrap();
        let ids: Vec<_> = (given.iter())
            .map(|given| given.as_ref().map(|key| key.key_id.as_str()))
            .collect();
        assert_eq!(ids, [Some("9"), None, Some("5")]);
        assert_eq!(given[0].as_ref(), Some(&key("9")));
        assert_eq!(counts(&store, ada, "A").await, (1, 1));
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("7"));
        for _ in 0..2 {
            assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("last"));
            assert_eq!(counts(&store, ada, "A").await, (0, 0));
        }
        // The same again is still used; another isn't.
        let mut again = upload(ada, "A", &[]);
        again.fallback = vec![key("last")];
        store.upload_keys(again.clone()).await.unwrap();
        assert_eq!(counts(&store, ada, "A").await, (0, 0));
        again.fallback = vec![key("newest")];
        store.upload_keys(again).await.unwrap();
        assert_eq!(counts(&store, ada, "A").await, (0, 1));
    })
    .await;
}

/// An upload that is repeated, because its answer was lost, brings back nothing that was given out meanwhile.
#[tokio::test]
async fn what_was_given_out_does_not_come_back() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        let first = upload(ada, "A", &["1", "2", "3"]);
        store.upload_keys(first.clone()).await.unwrap();
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("1"));
        let head = store.log().head();
        store.upload_keys(first.clone()).await.unwrap();
        assert_eq!(store.log().head(), head, "it says nothing new");
        assert_eq!(counts(&store, ada, "A").await, (2, 0));
        // Another key of a name that is there is refused, and what came with it too.
        let mut other = upload(ada, "A", &["4", "2"]);
        other.one_time[1].key = "\"other\"".into();
        let refused = store.upload_keys(other.clone()).await.unwrap_err();
        assert!(matches!(refused, CommitError::KeyTaken { key, .. } if key.ends_with(":2")));
        assert_eq!(counts(&store, ada, "A").await, (2, 0));
        // Of one that was given out the name is free.
        other.one_time[1].key_id = "1".into();
        store.upload_keys(other).await.unwrap();
        let mut given = Vec::new();
        while let Some(id) = claim(&store, ada, "A").await {
            given.push(id);
        }
        assert_eq!(given, ["2", "3", "4", "1"]);
    })
    .await;
}

/// What hangs on a device goes with it, and what comes for it afterwards is refused.
#[tokio::test]
async fn a_device_goes_with_its_keys() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        let mut all = upload(ada, "A", &["1"]);
        all.keys = Some("{\"keys\":{}}".into());
        all.fallback = vec![key("last")];
        store.upload_keys(all.clone()).await.unwrap();
        let stored = store.device_keys(&[ada]).await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].display_name.as_deref(), Some("ada's"));
        assert_eq!(counts(&store, ada, "A").await, (1, 1));
        store.remove_devices(ada, &["A".into()]).await.unwrap();
        assert!(store.device_keys(&[ada]).await.unwrap().is_empty());
        assert_eq!(claim(&store, ada, "A").await, None);
        let refused = store.upload_keys(all.clone()).await.unwrap_err();
        assert!(matches!(refused, CommitError::AccountMoved(_)));
        all.one_time.clear();
        all.fallback.clear();
        let refused = store.upload_keys(all).await.unwrap_err();
        assert!(matches!(refused, CommitError::AccountMoved(_)));
        // Another one of the same name begins with nothing.
        device(&store, "ada", "A").await;
        assert_eq!(counts(&store, ada, "A").await, (0, 0));
        assert!(
            store
                .device_keys_of(&[(ada, "A".into())])
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}

/// Claims at once, half of them by another process where there can be one: `keys` get one each, and then the fallback.
async fn race(stores: &[Store], claims: usize, keys: usize) {
    let ada = device(&stores[0], "ada", "A").await;
    let ids: Vec<String> = (0..keys).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut all = upload(ada, "A", &ids);
    all.fallback = vec![key("last")];
    stores[0].upload_keys(all).await.unwrap();
    let before = stores[0].counters().now();
    let tasks = (0..claims).map(|n| {
        let store = stores[n % stores.len()].clone();
        tokio::spawn(async move { claim(&store, ada, "A").await })
    });
    let given = soon("all have keys", join_all(tasks)).await;
    let given: Vec<String> = given.into_iter().map(|id| id.unwrap().unwrap()).collect();
    let once: BTreeSet<&str> = given.iter().map(String::as_str).collect();
    assert_eq!(once.len(), keys + 1, "each key was given");
    let fallbacks = given.iter().filter(|id| *id == "last").count();
    assert_eq!(fallbacks, claims - keys, "each key was given once");
    let done = stores[0].counters().now() - before;
    assert!(
        done.groups < claims as u64 / 8,
        "claims that wait share their commits: {} groups",
        done.groups
    );
    for store in stores {
        soon("it hears", store.log().refresh()).await.unwrap();
        assert_eq!(counts(store, ada, "A").await, (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_claims_at_once_for_five_hundred_keys() {
    each_database(|store| async move { race(&[store], 1_000, 500).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_claims_in_two_processes() {
    let database = TestDatabase::postgres().await;
    let stores = [database.open().await, database.open().await];
    race(&stores, 1_000, 500).await;
    for store in stores {
        store.close().await;
    }
    database.remove().await;
}

/// A COMMIT whose answer is lost: who claimed has the key that was given, or another if that is somebody else's by now.
#[tokio::test]
async fn claims_of_unknown_outcome() {
    for answers in [
        vec![LostAnswer::Committed],
        vec![LostAnswer::RolledBack],
        // From the last to the first.
        vec![LostAnswer::Committed, LostAnswer::RolledBack],
    ] {
        let database = TestDatabase::postgres().await;
        let options = database.options();
        let lost = options.lost_answers.clone();
        let store = Store::open(options).await.unwrap();
        let ada = device(&store, "ada", "A").await;
        let mut all = upload(ada, "A", &["1", "2", "3"]);
        all.fallback = vec![key("last")];
        store.upload_keys(all).await.unwrap();
        *lost.lock().unwrap() = answers.clone();
        let asked = vec![wanted(ada, "A"), wanted(ada, "A")];
        let given = store.claim_keys(asked).await.unwrap();
        let ids: Vec<_> = given.into_iter().map(|key| key.unwrap().key_id).collect();
        assert_eq!(ids, ["1", "2"], "{answers:?}");
        assert!(lost.lock().unwrap().is_empty());
        assert_eq!(counts(&store, ada, "A").await, (1, 1));
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("3"));
        store.close().await;
        database.remove().await;
    }
}

/// Counts come from memory until they change, also when another process changes them.
#[tokio::test]
async fn counts_cost_nothing_while_they_stay() {
    let database = TestDatabase::postgres().await;
    let one = database.open().await;
    let two = Store::open(Options {
        poll_interval: Some(Duration::from_hours(1)),
        ..database.options()
    });
    let two = two.await.unwrap();
    let ada = device(&one, "ada", "A").await;
    one.upload_keys(upload(ada, "A", &["1", "2"]))
        .await
        .unwrap();
    let known: OwnedDeviceId = "A".into();
    two.log().refresh().await.unwrap();
    assert_eq!(counts(&two, ada, "A").await, (2, 0));
    assert_eq!(counts(&two, ada, "B").await, (0, 0));
    let before = two.counters().now();
    for _ in 0..3 {
        let counts = two.key_counts(ada, &known).await.unwrap();
        assert_ne!(*counts, KeyCounts::default());
        two.key_counts(ada, "B".into()).await.unwrap();
    }
    assert_eq!((two.counters().now() - before).queries, 0);
    claim(&one, ada, "A").await.unwrap();
    two.log().refresh().await.unwrap();
    assert_eq!(counts(&two, ada, "A").await, (1, 0));
    // One entry of the log for a device and a commit, which wakes nobody.
    let entries = one.log().tail(Pos(0), one.log().head()).unwrap();
    let told = entries
        .iter()
        .filter(|entry| matches!(entry.kind, EntryKind::OneTimeKeys(_)));
    assert_eq!(told.count(), 2);
    for store in [one, two] {
        store.close().await;
    }
    database.remove().await;
}

/// Claims for what isn't there don't get into the queue of commits; among many those that are find theirs.
#[tokio::test]
async fn claims_for_nothing() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        store
            .upload_keys(upload(ada, "A", &["1", "2"]))
            .await
            .unwrap();
        let nothing = |n: usize| wanted(ada, &format!("X{n}"));
        let before = store.counters().now();
        let given = store.claim_keys((0..2_500).map(nothing).collect()).await;
        assert!(given.unwrap().iter().all(Option::is_none));
        assert_eq!((store.counters().now() - before).groups, 0);
        let mut asked: Vec<_> = (0..2_500).map(nothing).collect();
        for at in [999, 2_000] {
            asked[at] = wanted(ada, "A");
        }
        let given = store.claim_keys(asked).await.unwrap();
        assert_eq!(given.len(), 2_500);
        let ids: Vec<_> = (given.iter().enumerate())
            .filter_map(|(n, key)| Some((n, key.as_ref()?.key_id.as_str())))
            .collect();
        assert_eq!(ids, [(999, "1"), (2_000, "2")]);
    })
    .await;
}

#[tokio::test]
async fn an_account_that_has_ended_gets_no_cross_signing_keys() {
    each_database(async |store| {
        let account = NewAccount::default();
        let made = store.create_account(&user("ada"), account, None).await;
        let ada = made.unwrap().unwrap();
        let change = CrossSigningChange {
            user: ada,
            keys: BTreeMap::from([(KeyUsage::Master, Some("{}".into()))]),
            expect: BTreeMap::new(),
            replaced: Vec::new(),
        };
        let deactivated = store.deactivate_account(ada, false);
        deactivated.await.unwrap();
        // Decided before that.
        let late = store.set_cross_signing_keys(change).await;
        assert!(matches!(late, Err(CommitError::AccountMoved(_))));
        assert!(store.cross_signing_keys(&[ada]).await.unwrap().is_empty());
    })
    .await;
}
