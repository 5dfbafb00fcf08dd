//! What goes and what stays, table by table.

use std::time::Duration;

use ruma::{server_name, user_id};

use super::super::tests::{NOW, each_at};
use super::super::{LEASE, Pass};
use crate::engine::clock::millis;
use crate::engine::sql::Columns as _;
use crate::testing::count_rows;
use crate::{
    DestinationState, DeviceList, InboundSeen, Lease, NewUiaSession, Pos, Store, UserNo, WriteSet,
};

const DAY: Duration = Duration::from_hours(24);

/// Runs the story on both databases with a clock that stands until it is moved.
async fn each<R: Future<Output = ()>>(story: impl Fn(Store) -> R) {
    each_at(1_800_000_000_000, story).await;
}

async fn lease(store: &Store) -> Lease {
    let (name, length) = LEASE;
    let taken = Lease::take(store, name, Some(length)).await.unwrap();
    taken.expect("it is free")
}

async fn purge(store: &Store) -> u64 {
    let lease = lease(store).await;
    let pass = Pass {
        store,
        lease: &lease,
        how: NOW,
    };
    let rows = pass.purge().await.unwrap();
    lease.release().await.unwrap();
    rows
}

async fn run(store: &Store, text: &'static str, numbers: &[i64]) {
    let bind = |query: crate::engine::sql::Query, number: &i64| query.bind(*number);
    let query = numbers.iter().fold(store.sql(text), bind);
    store.execute(query).await.unwrap();
}

/// The column `what`, in order.
async fn numbers(store: &Store, text: &'static str) -> Vec<i64> {
    let rows = store.rows(store.sql(text)).await.unwrap();
    let mut numbers: Vec<i64> = rows.iter().map(|row| row.get("what").unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// So many positions more.
async fn move_log(store: &Store, positions: i64) {
    let user = store.user_no(user_id!("@ada:here")).await.unwrap();
    for _ in 0..positions {
        let set = WriteSet::from(vec![DeviceList { user, device: None }.into()]);
        store.commit(set).await.unwrap();
    }
}

/// 2,500 transactions, more than go at once: the even ones of the time `$1`, the odd ones of `$2`.
const TRANSACTIONS: &str = "\
    INSERT INTO client_transaction (user_no, device, path, txn_id, event, ts) \
    WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 2500) \
    SELECT n % 3, 'PHONE', 'send', CAST(n AS TEXT), n, CASE WHEN n % 2 = 0 THEN $1 ELSE $2 END FROM many";

#[tokio::test]
async fn a_client_s_transaction_is_known_for_a_week() {
    each(|store| async move {
        let week_ago = store.clock().now_ms() - millis(7 * DAY);
        run(&store, TRANSACTIONS, &[week_ago - 1, week_ago]).await;
        // One whose id isn't text that a database takes as it is.
        run(
            &store,
            "INSERT INTO client_transaction (user_no, device, path, txn_id, event, ts) \
             VALUES (1, '\u{1}1delayed', 'x', '\u{1}0', 0, $1)",
            &[week_ago - 1],
        )
        .await;
        assert_eq!(purge(&store).await, 1_251);
        let left = numbers(&store, "SELECT event AS what FROM client_transaction").await;
        assert_eq!(left.len(), 1_250);
        assert!(left.iter().all(|event| event % 2 == 1));
        assert_eq!(purge(&store).await, 0);
        store.clock().advance(Duration::from_millis(1));
        assert_eq!(purge(&store).await, 1_250);
        assert_eq!(count_rows(&store, "client_transaction").await, 0);
    })
    .await;
}

#[tokio::test]
async fn receipts_go_when_their_user_has_left() {
    each(|store| async move {
        for (user, membership) in [(1, 1), (2, 3), (3, 2)] {
            run(
                &store,
                "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
                 VALUES ($1, 1, $2, 1, 1, 1, 0)",
                &[user, membership],
            )
            .await;
        }
        // Who is there, who left, who is invited, and who never was there; each in two threads and two rooms.
        let mut pos = 0;
        for user in 1..=4 {
            for room in [1, 2] {
                for thread in [1, 2] {
                    pos += 1;
                    run(
                        &store,
                        "INSERT INTO receipt (room, user_no, kind, thread, event_id, ts, pos) \
                         VALUES ($1, $2, 'm.read', '$' || CAST($3 AS TEXT), '$e', 1, $4)",
                        &[room, user, thread, pos],
                    )
                    .await;
                }
            }
        }
        assert_eq!(purge(&store).await, 14);
        assert_eq!(
            numbers(&store, "SELECT pos AS what FROM receipt").await,
            [1, 2]
        );
        assert_eq!(purge(&store).await, 0);
    })
    .await;
}

/// Two sets, of servers `a` and `b` and of `a` alone, and what is to be sent to them, by position.
async fn two_sets(store: &Store) {
    let names = [server_name!("a"), server_name!("b")];
    let nos = store.server_nos(&names).await.unwrap();
    for (set, server) in [(1, nos[0]), (1, nos[1]), (2, nos[0])] {
        run(
            store,
            "INSERT INTO set_member (server, set_no) VALUES ($1, $2)",
            &[server.0, set],
        )
        .await;
    }
    for (set, last) in [(1, 7), (2, 6)] {
        run(
            store,
            "INSERT INTO destination_set (no, digest, servers) VALUES ($1, CAST($1 AS TEXT), '[]')",
            &[set],
        )
        .await;
        run(
            store,
            "INSERT INTO outbound_last (set_no, last_pos) VALUES ($1, $2)",
            &[set, last],
        )
        .await;
    }
    for (pos, room, set) in [
        (1, 1, 1),
        (2, 1, 1),
        (3, 2, 1),
        (4, 1, 2),
        (5, 1, 1),
        (6, 1, 2),
        (7, 1, 1),
    ] {
        run(
            store,
            "INSERT INTO outbound (pos, room, event, set_no) VALUES ($1, $2, $1, $3)",
            &[pos, room, set],
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_sent_goes_and_what_waits_goes_at_last() {
    each(|store| async move {
        move_log(&store, 10).await;
        two_sets(&store).await;
        let waiting = async || numbers(&store, "SELECT pos AS what FROM outbound").await;
        let state = |sent| DestinationState {
            sent: Pos(sent),
            ..DestinationState::default()
        };
        // Nobody has got anything.
        purge(&store).await;
        assert_eq!(waiting().await.len(), 7);
        let states = [
            (server_name!("a").to_owned(), state(4)),
            (server_name!("b").to_owned(), state(2)),
        ];
        store.store_destination_states(&states).await.unwrap();
        purge(&store).await;
        assert_eq!(waiting().await, [3, 5, 6, 7]);
        store.clock().advance(29 * DAY);
        purge(&store).await;
        assert_eq!(waiting().await, [3, 5, 6, 7]);
        // Of each room and set the newest is enough now. The sets are retired, but not done with.
        store.clock().advance(DAY);
        purge(&store).await;
        assert_eq!(waiting().await, [3, 6, 7]);
        store.clock().advance(2 * DAY);
        purge(&store).await;
        assert_eq!(waiting().await, [3, 6, 7]);
        assert_eq!(count_rows(&store, "set_member").await, 3);
        store.clock().advance(148 * DAY);
        purge(&store).await;
        assert!(waiting().await.is_empty());
        for table in ["destination_set", "set_member", "outbound_last"] {
            assert_eq!(count_rows(&store, table).await, 0, "{table}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_set_that_is_in_use_stays() {
    each(|store| async move {
        move_log(&store, 5).await;
        two_sets(&store).await;
        run(&store, "DELETE FROM outbound", &[]).await;
        // One was used up to position 6 and the other up to 7; the log comes there later.
        purge(&store).await;
        store.clock().advance(DAY);
        move_log(&store, 1).await;
        purge(&store).await;
        store.clock().advance(29 * DAY);
        purge(&store).await;
        let retired = "SELECT no AS what FROM destination_set WHERE retired_ms IS NOT NULL";
        assert!(numbers(&store, retired).await.is_empty());
        store.clock().advance(DAY);
        purge(&store).await;
        assert_eq!(numbers(&store, retired).await, [2]);
        store.clock().advance(DAY);
        purge(&store).await;
        let left = "SELECT no AS what FROM destination_set";
        assert_eq!(numbers(&store, left).await, [1]);
        let members = "SELECT set_no AS what FROM set_member";
        assert_eq!(numbers(&store, members).await, [1, 1]);
    })
    .await;
}

#[tokio::test]
async fn a_set_of_which_no_position_is_noted_waits_as_long_as_others() {
    each(|store| async move {
        move_log(&store, 7).await;
        two_sets(&store).await;
        run(&store, "DELETE FROM outbound", &[]).await;
        run(&store, "DELETE FROM outbound_last", &[]).await;
        let left = async || numbers(&store, "SELECT no AS what FROM destination_set").await;
        purge(&store).await;
        store.clock().advance(2 * DAY);
        purge(&store).await;
        assert_eq!(left().await, [1, 2]);
        store.clock().advance(28 * DAY);
        purge(&store).await;
        store.clock().advance(DAY);
        purge(&store).await;
        assert!(left().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn filters_that_nobody_uses_go_and_no_number_comes_again() {
    each(|store| async move {
        let (ada, bob) = (UserNo(1), UserNo(2));
        let add = async |user, json: &str| store.add_filter(user, json).await.unwrap();
        let ids = [
            add(ada, "{}").await,
            add(ada, "[]").await,
            add(ada, "1").await,
        ];
        assert_eq!(add(bob, "{}").await, 1);
        // As if they were from before it was noted.
        run(&store, "UPDATE client_filter SET used_ms = NULL", &[]).await;
        purge(&store).await;
        assert_eq!(count_rows(&store, "client_filter").await, 4);
        store.clock().advance(100 * DAY);
        assert!(store.filter(ada, ids[0]).await.unwrap().is_some());
        store.clock().advance(80 * DAY);
        assert_eq!(purge(&store).await, 0);
        store.clock().advance(Duration::from_millis(1));
        assert_eq!(purge(&store).await, 1);
        assert!(store.filter(ada, ids[1]).await.unwrap().is_none());
        // Who has it stores it again, and gets another number.
        assert_eq!(add(ada, "[]").await, ids[2] + 1);
        // What is used stays.
        assert!(store.filter(bob, 1).await.unwrap().is_some());
        store.clock().advance(179 * DAY);
        purge(&store).await;
        let left = "SELECT id AS what FROM client_filter WHERE user_no = 1";
        assert_eq!(numbers(&store, left).await, [ids[2] + 1]);
        assert_eq!(add(bob, "[]").await, 2);
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_goes_though_nobody_begins_anew() {
    each(|store| async move {
        let now = store.clock().now_ms();
        for (id, expires_ms) in [("soon", now + 10), ("later", now + 11)] {
            let new = NewUiaSession {
                id,
                purpose: "p",
                peer: "192.0.2.1",
                now_ms: now,
                expires_ms,
            };
            store.begin_uia_session(new).await.unwrap();
        }
        for text in [
            "INSERT INTO login_token (hash, user_no, expires_ms) VALUES ('a', 1, $1)",
            "INSERT INTO openid_token (hash, user_no, device_id, expires_ms) VALUES ('a', 1, 'A', $1)",
            "INSERT INTO registration_token_pending (session, hash, expires_ms) VALUES ('a', 'b', $1)",
            "INSERT INTO validation (sid, purpose, medium, address, secret, code, send_attempt, tries, \
             created_ms, expires_ms) VALUES ('a', 'p', 'email', 'a@b', 's', 'c', 1, 0, 1, $1)",
        ] {
            run(&store, text, &[now + 10]).await;
        }
        store.clock().advance(Duration::from_millis(9));
        assert_eq!(purge(&store).await, 0);
        store.clock().advance(Duration::from_millis(1));
        assert_eq!(purge(&store).await, 5);
        assert_eq!(count_rows(&store, "uia_session").await, 1);
    })
    .await;
}

#[tokio::test]
async fn servers_that_have_gone_are_told_of_no_more() {
    each(|store| async move {
        let now = store.clock().now_ms();
        for (name, age) in [("a.example", 31), ("b.example", 29)] {
            let seen = InboundSeen::at(name.try_into().unwrap(), now - millis(age * DAY));
            store.add_inbound(&[seen]).await.unwrap();
        }
        assert_eq!(purge(&store).await, 1);
        let left = store.inbound_most(9).await.unwrap();
        assert_eq!((left.len(), left[0].server.as_str()), (1, "b.example"));
        store.clock().advance(2 * DAY);
        assert_eq!(purge(&store).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_went_back_makes_nothing_old() {
    each(|store| async move {
        move_log(&store, 3).await;
        let later = store.clock().now_ms() + millis(DAY);
        run(
            &store,
            "INSERT INTO log_time (at_ms, pos) VALUES ($1, 1)",
            &[later],
        )
        .await;
        purge(&store).await;
        let noted = "SELECT at_ms AS what FROM log_time";
        assert_eq!(numbers(&store, noted).await, [later]);
        // When it is there again, it goes on; what is too old goes, but for the newest of it.
        for _ in 0..4 {
            store.clock().advance(100 * DAY);
            purge(&store).await;
        }
        let now = store.clock().now_ms();
        let expected = [200, 100, 0].map(|days: u32| now - millis(days * DAY));
        assert_eq!(numbers(&store, noted).await, expected);
    })
    .await;
}

#[tokio::test]
async fn who_has_lost_the_lease_deletes_nothing() {
    each(|store| async move {
        run(&store, TRANSACTIONS, &[1, 1]).await;
        let asleep = lease(&store).await;
        store.clock().advance(LEASE.1 + Duration::from_millis(1));
        let other = lease(&store).await;
        let sleeper = Pass {
            store: &store,
            lease: &asleep,
            how: NOW,
        };
        assert_eq!(sleeper.purge().await.unwrap(), 0);
        assert_eq!(count_rows(&store, "client_transaction").await, 2_500);
        other.release().await.unwrap();
        assert_eq!(purge(&store).await, 2_500);
    })
    .await;
}
