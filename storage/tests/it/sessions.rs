//! Sessions: rows and facts in one commit.

use futures_util::future::join_all;
use rhizome_storage::testing::{TestDatabase, each_database};
use rhizome_storage::{
    AccountChange, CommitError, DeviceList, Ends, EntryKind, LostAnswer, NewAccount, NewLogin,
    NewTokens, Pos, Store, UserNo, WriteSet,
};

use crate::factory::user;

fn tokens(name: &str) -> NewTokens {
    NewTokens {
        access_hash: format!("access {name}"),
        refresh_hash: Some(format!("refresh {name}")),
        expires_ms: None,
        refresh_expires_ms: None,
    }
}

fn login(user: UserNo, device: &str, name: &str) -> NewLogin {
    NewLogin {
        user,
        device_id: device.into(),
        device_name: None,
        ip: "::1".into(),
        now_ms: 1,
        tokens: tokens(name),
        proof: None,
        proved: false,
    }
}

/// Revocations and changes of device lists since a position.
fn told(store: &Store, since: Pos) -> (usize, usize) {
    let log = store.log();
    let entries = log.tail(since, log.head()).unwrap();
    let count = |wanted: fn(&EntryKind) -> bool| {
        let kinds = entries.iter().filter(|entry| wanted(&entry.kind));
        kinds.count()
    };
    (
        count(|kind| matches!(kind, EntryKind::TokenRevoked(_))),
        count(|kind| matches!(kind, EntryKind::DeviceList(_))),
    )
}

/// Many logins of one device at once, which meet in one group: one after the other, each ends the one
/// before it, and one device list is changed.
#[tokio::test]
async fn logins_of_one_device_at_once() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        let since = store.log().head();
        let logins: Vec<_> = (0..4)
            .map(|n| login(ada, "PHONE", &n.to_string()))
            .collect();
        let done = join_all(logins.iter().map(|login| store.log_in(login))).await;
        assert!(done.into_iter().all(Result::unwrap));
        assert_eq!(told(&store, since), (3, 1));
        let mut good = 0;
        for n in 0..4 {
            let token = store.token(&format!("access {n}")).await.unwrap();
            good += usize::from(token.is_some());
        }
        assert_eq!(good, 1);
        assert_eq!(store.devices(ada).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_login_rests_on_the_password_that_it_proved() {
    each_database(|store| async move {
        let account = NewAccount {
            password_hash: Some("$old".into()),
            ..NewAccount::default()
        };
        let ada = store
            .create_account(&user("ada"), account, None)
            .await
            .unwrap();
        let ada = ada.unwrap();
        let proven = |device: &str, name: &str, proof: &str| NewLogin {
            proof: Some(proof.into()),
            ..login(ada, device, name)
        };
        let first = proven("A", "1", "$old");
        assert!(store.log_in(&first).await.unwrap());
        assert!(store.log_in(&login(ada, "B", "2")).await.unwrap());
        let since = store.log().head();
        let ends = Ends::Others("B".into());
        store.set_password(ada, "$new", ends).await.unwrap();
        assert_eq!(told(&store, since), (1, 1));
        assert_eq!(store.token("access 1").await.unwrap(), None);
        assert!(store.token("access 2").await.unwrap().is_some());
        // Whoever proved the old password just before comes too late.
        let since = store.log().head();
        assert!(!store.log_in(&proven("C", "3", "$old")).await.unwrap());
        assert!(!store.log_in(&proven("B", "3", "$old")).await.unwrap());
        assert!(store.token("access 2").await.unwrap().is_some());
        assert_eq!(told(&store, since), (0, 0));
        assert!(store.log_in(&proven("C", "4", "$new")).await.unwrap());
        store.deactivate_account(ada, false).await.unwrap();
        assert!(store.devices(ada).await.unwrap().is_empty());
        assert!(!store.log_in(&proven("D", "5", "$new")).await.unwrap());
    })
    .await;
}

/// What was decided on an account that has moved is refused whole, and harms nobody in its group.
#[tokio::test]
async fn what_rests_on_something_else_is_refused_whole() {
    each_database(|store| async move {
        let ada = store.user_no(&user("ada")).await.unwrap();
        let eve = store.user_no(&user("eve")).await.unwrap();
        let since = store.log().head();
        let set = |plain: AccountChange, user: UserNo| {
            WriteSet::from(vec![DeviceList { user, device: None }.into(), plain.into()])
        };
        let gone = AccountChange::Refresh {
            user: ada,
            device: "A".into(),
            hash: "nobody's".into(),
            tokens: tokens("1"),
        };
        let known = AccountChange::Login {
            login: login(ada, "A", "2"),
            known: true,
        };
        let fine = AccountChange::Login {
            login: login(eve, "E", "3"),
            known: false,
        };
        let answers = tokio::join!(
            store.commit(set(gone, ada)),
            store.commit(set(fine, eve)),
            store.commit(set(known, ada)),
        );
        assert!(matches!(answers.0, Err(CommitError::AccountMoved(user)) if user == ada));
        assert!(matches!(answers.2, Err(CommitError::AccountMoved(user)) if user == ada));
        answers.1.unwrap();
        assert_eq!(told(&store, since), (0, 1));
        assert_eq!(store.token("access 2").await.unwrap(), None);
        assert!(store.token("access 3").await.unwrap().is_some());
        assert!(!store.refresh("nobody's", tokens("4")).await.unwrap());
        let named = store.rename_device(ada, "A".into(), "x").await;
        assert!(!named.unwrap());
        // Nothing to end, nothing to tell.
        let since = store.log().head();
        store.remove_devices(ada, &["A".into()]).await.unwrap();
        assert_eq!(told(&store, since), (0, 0));
    })
    .await;
}

/// A COMMIT whose answer is lost: the login is there once, whatever became of it.
#[tokio::test]
async fn a_lost_answer_makes_one_login() {
    for lost in [LostAnswer::Committed, LostAnswer::RolledBack] {
        let database = TestDatabase::postgres().await;
        let store = database.open().await;
        let ada = store.user_no(&user("ada")).await.unwrap();
        let lose = |answer| {
            let answers = &store.options().lost_answers;
            answers.lock().unwrap().push(answer);
        };
        let since = store.log().head();
        lose(lost);
        assert!(store.log_in(&login(ada, "A", "1")).await.unwrap());
        assert!(store.token("access 1").await.unwrap().is_some());
        lose(lost);
        assert!(store.refresh("refresh 1", tokens("2")).await.unwrap());
        assert!(store.token("access 2").await.unwrap().is_some());
        assert_eq!(told(&store, since), (1, 1));
        store.close().await;
        database.remove().await;
    }
}
