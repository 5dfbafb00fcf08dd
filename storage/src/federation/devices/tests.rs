//! Who is told of which changes, and which lists count.

use std::time::Duration;

use ruma::{server_name, user_id};

use super::*;
use crate::testing::each_database;
use crate::{DeviceList, RemoteDevices, WriteSet};
use crate::{RemoteBasis, RemoteList};

async fn run(store: &Store, sql: &'static str, numbers: &[i64]) {
    let bind = |query: crate::engine::sql::Query, number: &i64| query.bind(*number);
    let query = numbers.iter().fold(store.sql(sql), bind);
    store.execute(query).await.unwrap();
    store.core.caches.memberships.clear();
}

async fn change(store: &Store, user: UserNo, device: Option<&str>) -> Pos {
    let device = device.map(Into::into);
    let set = WriteSet::from(vec![DeviceList { user, device }.into()]);
    store.commit(set).await.unwrap().last
}

/// What a server is told: position, device, and the one before.
async fn told(store: &Store, after: Pos) -> Vec<(i64, Option<String>, Option<i64>)> {
    let behind = Behind {
        destination: server_name!("there"),
        ours: server_name!("here"),
        after,
        upto: Pos(1_000),
        limit: 9,
    };
    let changes = store.device_changes_to(behind).await;
    let row = |change: OutboundDevice| {
        let device = change.device.map(|device| device.to_string());
        (change.pos.0, device, change.prev.map(|prev| prev.0))
    };
    changes.unwrap().into_iter().map(row).collect()
}

/// Ada is in room 1, and so is the other server, since position 5.
async fn shared(store: &Store) -> UserNo {
    let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
    let there = store.server_nos(&[server_name!("there")]).await.unwrap()[0];
    for _ in 0..5 {
        change(store, ada, None).await;
    }
    run(
        store,
        "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
             VALUES ($1, 1, 1, 1, 1, 1, 0)",
        &[ada.0],
    )
    .await;
    run(
        store,
        "INSERT INTO room_server (room, server, joined, since) VALUES (1, $1, 1, 5)",
        &[there.0],
    )
    .await;
    ada
}

#[tokio::test]
async fn what_is_purged_is_told_by_the_last_of_it() {
    each_database(|store| async move {
        let ada = shared(&store).await;
        let first = change(&store, ada, Some("A")).await.0;
        let second = change(&store, ada, Some("B")).await.0;
        let keys = change(&store, ada, None).await.0;
        let a = |name: &str| Some(name.to_owned());
        // Not what was before the other server came.
        let expected = [
            (first, a("A"), None),
            (second, a("B"), Some(first)),
            (keys, None, Some(second)),
        ];
        assert_eq!(told(&store, Pos(0)).await, expected);
        assert_eq!(told(&store, Pos(second)).await, expected[2..]);
        let ours = server_name!("here");
        let behind = store.destinations_behind_in_devices(ours).await.unwrap();
        assert_eq!(behind, [server_name!("there")]);

        let purged = store.purge_told_upto(Pos(1_000), Duration::ZERO);
        assert!(purged.await.unwrap() > 0);
        let expected = [(second, a("B"), None), (keys, None, None)];
        assert_eq!(told(&store, Pos(0)).await, expected);
        assert_eq!(told(&store, Pos(keys)).await, []);
        let third = change(&store, ada, Some("B")).await.0;
        let expected = [(third, a("B"), Some(second))];
        assert_eq!(told(&store, Pos(keys)).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_list_counts_as_long_as_a_room_is_shared() {
    each_database(|store| async move {
        shared(&store).await;
        let bob = store.user_no(user_id!("@bob:there")).await.unwrap();
        let here = store.server_nos(&[server_name!("here")]).await.unwrap()[0].0;
        let known = async || {
            let users = store.remote_users(&[bob], server_name!("here")).await;
            users.unwrap()[0]
        };
        let list = RemoteList {
            stream_id: Some(7),
            learned: Pos(20),
            stale: false,
            failures: 0,
            retry_at: 0,
        };
        let remembered = RemoteDevices {
            user: bob,
            basis: RemoteBasis::default(),
            list: Some(list),
        };
        store
            .commit(WriteSet::from(vec![remembered.clone().into()]))
            .await
            .unwrap();
        // What it was decided on is so no more.
        let again = store.commit(WriteSet::from(vec![remembered.into()])).await;
        assert!(again.is_err());
        let user = known().await;
        assert_eq!(
            (user.basis.list, user.shares, user.held),
            (Some(list), false, false)
        );
        let ours = server_name!("here");
        let forgettable = store.forgettable_remote_devices(ours, 9).await.unwrap();
        assert_eq!(forgettable, [bob]);
        run(
            &store,
            "INSERT INTO room_server (room, server, joined, since) VALUES (1, $1, 1, 3)",
            &[here],
        )
        .await;
        for (since, held) in [(20, true), (21, false), (4, true)] {
            run(
                &store,
                "DELETE FROM membership WHERE user_no = $1",
                &[bob.0],
            )
            .await;
            run(
                &store,
                "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
                     VALUES ($1, 1, 1, 1, 1, $2, 0)",
                &[bob.0, since],
            )
            .await;
            let user = known().await;
            assert_eq!((user.shares, user.held), (true, held), "{since}");
        }
        run(&store, "UPDATE room_server SET since = 30", &[]).await;
        assert!(!known().await.is_current());
        let due = store
            .stale_remote_devices(i64::MAX - 1, 9, 9)
            .await
            .unwrap();
        assert_eq!(due, (vec![], None));
    })
    .await;
}

/// A server of which many users are stale takes nobody else's turn.
#[tokio::test]
async fn of_each_server_some_are_due() {
    each_database(|store| async move {
        let mut facts = Vec::new();
        let mut nos = Vec::new();
        for (server, users, retry_at) in [("slow", 20, 5), ("quick", 2, 9), ("later", 1, 50)] {
            for n in 0..users {
                let user = ruma::UserId::parse(format!("@u{n}:{server}")).unwrap();
                let user = store.user_no(&user).await.unwrap();
                nos.push(user);
                let list = RemoteList {
                    stream_id: None,
                    learned: Pos(1),
                    stale: true,
                    failures: 0,
                    retry_at,
                };
                let remembered = RemoteDevices {
                    user,
                    basis: RemoteBasis::default(),
                    list: Some(list),
                };
                facts.push(remembered.into());
            }
        }
        store.commit(WriteSet::from(facts)).await.unwrap();
        let due = store.stale_remote_devices(10, 3, 9).await.unwrap();
        let expected = [nos[0], nos[20], nos[1], nos[21], nos[2]];
        assert_eq!(due, (expected.to_vec(), Some(50)));
        let due = store.stale_remote_devices(10, 3, 4).await.unwrap();
        assert_eq!(due, (expected[..4].to_vec(), Some(50)));
        let due = store.stale_remote_devices(50, 1, 9).await.unwrap();
        assert_eq!(due, (vec![nos[0], nos[20], nos[22]], None));
    })
    .await;
}
