//! However long a server runs, what nobody needs any more goes.

use std::time::Duration;

use rhizome_storage::collect::Collecting;
use rhizome_storage::testing::{TestDatabase, count_rows};
use rhizome_storage::{
    Clock, DestinationState, Fact, Options, Pos, Receipt, Store, TokenRevoked, TxnKey, UserNo,
};
use ruma::{OwnedServerName, ServerName, server_name};

use crate::factory::{Room, user};

const DAY: Duration = Duration::from_hours(24);
const HOW: Collecting = Collecting {
    grace: DAY,
    interval: DAY,
    pause: Duration::ZERO,
    expire_devices_after: None,
};

/// How long the server runs.
const DAYS: usize = 100;
/// How many messages are sent on a day.
const MESSAGES: usize = 20;

/// What would grow with every day.
const TABLES: [&str; 8] = [
    "client_transaction",
    "destination_set",
    "destination_state",
    "outbound",
    "outbound_last",
    "receipt",
    "revocation",
    "set_member",
];

/// A store on this database, with a clock that is moved.
async fn open(database: &TestDatabase) -> (Store, Clock) {
    let clock = Clock::manual(1_700_000_000_000);
    let options = Options {
        clock: clock.clone(),
        tail_entries: 100,
        ..database.options()
    };
    (Store::open(options).await.unwrap(), clock)
}

async fn pass(store: &Store) {
    let done = store.collect_snapshots(HOW).await.unwrap();
    done.expect("the lease is free");
}

/// Sends a message to a server in a transaction; gives its position.
async fn say(room: &Room, alice: UserNo, txn: &str, to: &ServerName) -> Pos {
    let key = TxnKey {
        user: alice,
        device: "PHONE".into(),
        path: "send".to_owned(),
        txn_id: txn.to_owned(),
    };
    let pdu = room.message("again").await;
    let mut write = room.write_of(pdu, Some(key)).await;
    write.events[0].send_to = Some(vec![to.to_owned()]);
    room.commit(write).await.unwrap().last
}

async fn has_got(store: &Store, server: &ServerName, sent: Pos) {
    let state = DestinationState {
        sent,
        ..DestinationState::default()
    };
    let states = [(server.to_owned(), state)];
    store.store_destination_states(&states).await.unwrap();
}

/// Somebody comes, reads, and goes.
async fn visit(room: &Room, name: &str) {
    let guest = user(name);
    let event_id = room.member(&guest, "join").await;
    let user = room.store.user_no(&guest).await.unwrap();
    let receipt = Receipt {
        room: room.no,
        user,
        kind: "m.read".to_owned(),
        thread: None,
        event_id,
        ts: room.store.clock().now_ms(),
    };
    let logged_out = TokenRevoked { user, device: None };
    let facts: Vec<Fact> = vec![receipt.into(), logged_out.into()];
    room.store.commit(facts.into()).await.unwrap();
    room.member(&guest, "leave").await;
}

async fn counts(store: &Store) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push((table, count_rows(store, table).await));
    }
    counts
}

#[tokio::test]
async fn a_hundred_days_take_no_more_room_than_fifty() {
    for database in TestDatabase::both().await {
        let (store, clock) = open(&database).await;
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let mut half = Vec::new();
        for day in 0..DAYS {
            // Every day other servers are in the room.
            let there = OwnedServerName::try_from(format!("s{day}.example")).unwrap();
            let mut last = Pos(0);
            for n in 0..MESSAGES {
                last = say(&room, alice, &format!("{day}.{n}"), &there).await;
            }
            visit(&room, &format!("guest{day}")).await;
            has_got(&store, &there, last).await;
            clock.advance(DAY);
            pass(&store).await;
            if day == DAYS / 2 - 1 {
                half = counts(&store).await;
            }
        }
        let all = counts(&store).await;
        assert_eq!(all, half);
        let of = |table: &str| all.iter().find(|(name, _)| *name == table).unwrap().1;
        assert_eq!(of("client_transaction"), 7 * 20, "those of a week");
        assert_eq!(of("destination_set"), 31, "those of a month and a day");
        assert_eq!(of("outbound"), 0);
        assert_eq!(of("receipt"), 0);
        assert!(of("revocation") > 0);
        // What was said is there.
        let events = i64::try_from(DAYS * MESSAGES).unwrap();
        assert!(count_rows(&store, "event").await >= events);
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn what_goes_to_the_same_servers_later_is_sent_as_before() {
    for database in TestDatabase::both().await {
        let (store, clock) = open(&database).await;
        let room = Room::new(&store, "r").await;
        let alice = store.user_no(&room.alice).await.unwrap();
        let there = server_name!("there.example");
        let sent = say(&room, alice, "first", there).await;
        has_got(&store, there, sent).await;
        pass(&store).await;
        assert_eq!(count_rows(&store, "outbound").await, 0);
        let waiting = async |after: Pos| {
            let head = store.log().head();
            let events = store.outbound_to(there, after, head, 10).await;
            events.unwrap().len()
        };
        clock.advance(30 * DAY);
        // Its set is retired …
        pass(&store).await;
        let again = say(&room, alice, "again", there).await;
        assert_eq!(count_rows(&store, "destination_set").await, 2);
        assert_eq!(waiting(sent).await, 1);
        clock.advance(DAY);
        // … and goes; what was sent meanwhile is of another.
        pass(&store).await;
        assert_eq!(count_rows(&store, "destination_set").await, 1);
        assert_eq!(count_rows(&store, "set_member").await, 1);
        assert_eq!(waiting(sent).await, 1);
        assert_eq!(store.destinations_behind().await.unwrap(), [there]);
        has_got(&store, there, again).await;
        assert_eq!(
            store.destinations_behind().await.unwrap(),
            [] as [&ServerName; 0]
        );
        pass(&store).await;
        assert_eq!(count_rows(&store, "outbound").await, 0);
        store.close().await;
        database.remove().await;
    }
}
