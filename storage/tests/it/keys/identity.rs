//! A device that has another identity than before, and what it brings twice.

use std::sync::Arc;

use rhizome_storage::testing::{TestDatabase, each_database};
use rhizome_storage::{
    CommitError, DecidedOn, DehydratedDevice, Dehydration, DeviceUpload, KeyClaim, KeySignature,
    KeyUpload, LostAnswer, NewDehydrated, OneTimeKey, OneTimeKeys, Store, UserNo, WriteSet,
};

use super::{SIGNED, claim, counts, device, key, upload};
use crate::factory::user;

/// What a device uploads that has another identity than before.
fn anew(user: UserNo, device: &str, ids: &[&str]) -> DeviceUpload {
    DeviceUpload {
        keys: Some("{\"keys\":{\"ed25519:A\":\"new\"}}".into()),
        anew: true,
        fallback: vec![key("last")],
        ..upload(user, device, ids)
    }
}

/// Another identity takes nothing of the one before, and what it brings twice, because an answer was lost, is given
/// once all the same.
#[tokio::test]
async fn another_identity_twice() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        let mut old = upload(ada, "A", &["0", "1", "2"]);
        old.one_time[1].key = "\"old\"".into();
        old.fallback = vec![key("old")];
        store.upload_keys(old).await.unwrap();
        let new = anew(ada, "A", &["1", "2", "3"]);
        store.upload_keys(new.clone()).await.unwrap();
        assert_eq!(counts(&store, ada, "A").await, (3, 1));
        let signature = KeySignature {
            target_user: ada,
            target_id: "A".to_owned(),
            is_device: true,
            signer: ada,
            signer_key: "ed25519:self".to_owned(),
            signature: "s".to_owned(),
        };
        store
            .add_key_signatures(ada, vec![signature])
            .await
            .unwrap();
        let mut given = Vec::new();
        for _ in 0..2 {
            given.extend(claim(&store, ada, "A").await);
        }
        store.upload_keys(new.clone()).await.unwrap();
        assert_eq!(counts(&store, ada, "A").await, (1, 1));
        for _ in 0..2 {
            given.extend(claim(&store, ada, "A").await);
        }
        given.sort();
        assert_eq!(given, ["1", "2", "3", "last"]);
        store.upload_keys(new.clone()).await.unwrap();
        assert_eq!(counts(&store, ada, "A").await, (0, 0));
        let signatures = store.key_signatures(&[ada], None).await.unwrap();
        assert_eq!(signatures.len(), 1, "they are of the keys that are there");
        let other = DeviceUpload {
            keys: Some("{}".into()),
            ..anew(ada, "A", &[])
        };
        store.upload_keys(other).await.unwrap();
        let signatures = store.key_signatures(&[ada], None).await.unwrap();
        assert!(signatures.is_empty());
    })
    .await;
}

/// What was decided before the device became another is refused, also in one group with that: it would be of both.
#[tokio::test]
async fn what_was_decided_of_another_identity_is_refused() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        let keys = |name: &str| -> Arc<str> { format!("{{\"{name}\":1}}").into() };
        let on = |before: Option<&str>, id: &str, now: Option<&str>| DeviceUpload {
            decided_on: DecidedOn::Keys(before.map(keys)),
            keys: now.map(keys),
            anew: before.is_some() && now.is_some(),
            ..upload(ada, "A", &[id])
        };
        let first = on(None, "1", Some("first"));
        store.upload_keys(first.clone()).await.unwrap();
        let second = on(Some("first"), "2", Some("second"));
        store.upload_keys(second).await.unwrap();
        // The first comes again, decided when there was nothing; and keys that the first has signed.
        for late in [first, on(Some("first"), "3", None)] {
            let refused = store.upload_keys(late).await;
            assert!(matches!(refused, Err(CommitError::KeysMoved(user)) if user == ada));
        }
        let only = || upload(ada, "A", &[]);
        let bare = DeviceUpload {
            decided_on: DecidedOn::Keys(None),
            keys: Some(keys("first")),
            ..only()
        };
        assert!(store.upload_keys(bare).await.is_err());
        let kept = store.device_keys_of(&[(ada, "A".into())]).await.unwrap();
        assert_eq!(&*kept[0].keys, &*keys("second"));
        assert_eq!(counts(&store, ada, "A").await, (1, 0));
        let both = [
            on(Some("second"), "4", Some("third")),
            on(Some("second"), "5", Some("fourth")),
        ];
        let both = both.map(|one| store.upload_keys(one));
        let both = futures_util::future::join_all(both).await;
        assert!(both[0].is_ok() && both[1].is_err(), "{both:?}");
        assert_eq!(counts(&store, ada, "A").await, (1, 0));
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("4"));
    })
    .await;
}

/// The same with a COMMIT whose answer is lost.
#[tokio::test]
async fn another_identity_of_unknown_outcome() {
    for answers in [
        vec![LostAnswer::Committed],
        vec![LostAnswer::Committed, LostAnswer::RolledBack],
    ] {
        let database = TestDatabase::postgres().await;
        let options = database.options();
        let lost = options.lost_answers.clone();
        let store = Store::open(options).await.unwrap();
        let ada = device(&store, "ada", "A").await;
        store.upload_keys(upload(ada, "A", &["0"])).await.unwrap();
        let new = anew(ada, "A", &["1", "2"]);
        *lost.lock().unwrap() = answers.clone();
        store.upload_keys(new.clone()).await.unwrap();
        assert!(lost.lock().unwrap().is_empty());
        assert_eq!(counts(&store, ada, "A").await, (2, 1));
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("1"));
        *lost.lock().unwrap() = answers;
        store.upload_keys(new).await.unwrap();
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("2"));
        assert_eq!(claim(&store, ada, "A").await.as_deref(), Some("last"));
        store.close().await;
        database.remove().await;
    }
}

/// A dehydrated device that is stored twice, because an answer was lost.
#[tokio::test]
async fn a_dehydrated_device_twice() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        let new = NewDehydrated {
            user: ada,
            by: None,
            device: DehydratedDevice {
                device: "DRY".into(),
                data: "{}".into(),
            },
            name: None,
            keys: "{}".into(),
            one_time: vec![key("1"), key("2")],
            fallback: vec![key("last")],
        };
        let mut given = Vec::new();
        for _ in 0..3 {
            assert_eq!(store.dehydrate(&new).await.unwrap(), Dehydration::Done);
            given.extend(claim(&store, ada, "DRY").await);
        }
        assert_eq!(given, ["1", "2", "last"]);
        assert_eq!(store.dehydrate(&new).await.unwrap(), Dehydration::Done);
        assert_eq!(counts(&store, ada, "DRY").await, (0, 0));
        let other = NewDehydrated {
            one_time: vec![key("3")],
            fallback: Vec::new(),
            ..new
        };
        assert_eq!(store.dehydrate(&other).await.unwrap(), Dehydration::Done);
        assert_eq!(claim(&store, ada, "DRY").await.as_deref(), Some("3"));
        assert_eq!(claim(&store, ada, "DRY").await, None);
    })
    .await;
}

/// A claim and another identity in one group of commits, in either order: nobody gets a key of the identity before for
/// one of the new, and no key is lost that has the same name.
#[tokio::test]
async fn another_identity_amid_claims() {
    each_database(|store| async move {
        let ada = device(&store, "ada", "A").await;
        for is_first in [true, false] {
            let id = if is_first { "first" } else { "second" };
            let old = |key: &OneTimeKey| OneTimeKey {
                key: format!("\"old of {id}\"").into(),
                ..key.clone()
            };
            let ids = [key("1"), key("2")];
            let upload = |keys: Vec<OneTimeKey>| KeyUpload {
                user: ada,
                device: "A".into(),
                expect_device: true,
                decided_on: DecidedOn::Anything,
                keys: None,
                anew: true,
                one_time: keys,
                fallback: Vec::new(),
            };
            let commit = |fact: OneTimeKeys| store.commit(WriteSet::from(vec![fact.into()]));
            let before = upload(ids.iter().map(old).collect());
            commit(OneTimeKeys::Upload(before)).await.unwrap();
            let new = OneTimeKeys::Upload(upload(ids.to_vec()));
            let claimed = KeyClaim {
                user: ada,
                device: "A".into(),
                algorithm: SIGNED.to_owned(),
                number: 7,
                given: Arc::default(),
            };
            let claiming = OneTimeKeys::Claim(claimed.clone());
            let (one, two) = if is_first {
                (new, claiming)
            } else {
                (claiming, new)
            };
            // Those that come while it is written share the next commit.
            let other = device(&store, "bob", &format!("B{id}")).await;
            let busy = store.upload_keys(self::upload(other, &format!("B{id}"), &["1"]));
            let (busy, one, two) = tokio::join!(busy, commit(one), commit(two));
            busy.unwrap();
            one.unwrap();
            two.unwrap();
            let given = claimed.given.lock().unwrap().take().unwrap();
            let (expected, left) = if is_first {
                (key("1"), 1)
            } else {
                (old(&key("1")), 2)
            };
            assert_eq!((given, counts(&store, ada, "A").await.0), (expected, left));
        }
    })
    .await;
}
