//! Servers that were away while much was said, and such that take everything in and answer nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use rhizome_federation::sender::to_device::{self, Outgoing};
use rhizome_rooms::membership::Action;
use rhizome_storage::{DestinationState, Fact, Receipt};
use ruma::OwnedServerName;
use tokio::sync::Semaphore;

use super::{
    devices::{logged_in, moves},
    *,
};
use crate::world;

/// More than is sent one by one.
pub(super) const MUCH: usize = 210;

impl Us {
    /// It ends as by a power cut: nothing is written down any more.
    pub(super) async fn crash(mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        assert!(running.await.is_err());
        self.store.close().await;
    }

    pub(super) async fn stored(&self) -> DestinationState {
        self.store.destination_state(them()).await.unwrap()
    }

    pub(super) async fn fails(&self) {
        eventually("it fails", async || self.failures() > 0).await;
    }
}

impl Peer {
    pub(super) fn transactions(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

/// Rooms that both are in, and in which everything has arrived.
pub(super) async fn rooms_of_both(a: &Us, peer: &Peer, count: usize) -> Vec<OwnedRoomId> {
    let mut rooms = Vec::new();
    for _ in 0..count {
        let room = a.shared_room().await;
        a.say(&room, "before").await;
        rooms.push(room);
    }
    peer.wait_for(count).await;
    let head = a.store.log().head();
    let sent = || a.fed.sender().stand(them()).map(|stand| stand.sent);
    eventually("all has arrived", async || sent() >= Some(head)).await;
    rooms
}

#[tokio::test]
async fn of_much_that_waits_the_first_and_the_newest_of_each_room_are_sent() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let rooms = rooms_of_both(&a, &peer, 3).await;
        network.cut(them());
        for (n, text) in texts(0..MUCH).iter().enumerate() {
            a.say(&rooms[n % 3], text).await;
        }
        a.fails().await;
        let before = peer.transactions();
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        peer.wait_for(7).await;
        // The first alone: whether it is up isn't known before.
        assert_eq!(peer.transactions(), before + 2);
        // What comes now comes as ever.
        a.say(&rooms[1], &format!("message {MUCH}")).await;
        let got = peer.wait_for(8).await;
        assert_eq!(got[3], "message 0");
        assert_eq!(got[4..], texts(MUCH - 3..MUCH + 1));
        a.stop().await;
        assert_eq!(peer.messages().len(), 8);
    })
    .await;
}

/// What can't be asked for, and what isn't in rooms at all.
#[tokio::test]
async fn nothing_else_is_left_out() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let rooms = rooms_of_both(&a, &peer, 3).await;
        let left = &rooms[2];
        let read = a.say(&rooms[0], "read").await;
        peer.wait_for(4).await;
        network.cut(them());
        for (n, text) in texts(0..MUCH).iter().enumerate() {
            a.say(&rooms[n % 2], text).await;
            let n = u64::try_from(n).unwrap();
            a.tell_numbers(n..n + 1).await;
            match n {
                0..5 => {
                    a.say(left, &format!("left {n}")).await;
                }
                50 => {
                    let options = SendOptions {
                        sticky_ms: Some(3_600_000),
                        ..SendOptions::default()
                    };
                    a.say_with(&rooms[0], "sticky", options).await;
                }
                100 => reads(&a, &rooms[0], &read).await,
                120 => {
                    logged_in(&a.store, "NEW").await;
                }
                _ => {}
            }
        }
        moves(&a, alice(), left, Action::Leave).await;
        a.fails().await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));

        let mut expected = texts(0..1);
        expected.extend((0..5).map(|n| format!("left {n}")));
        expected.push("sticky".to_owned());
        expected.extend(texts(MUCH - 2..MUCH));
        peer.has_numbers(0..u64::try_from(MUCH).unwrap()).await;
        assert_eq!(peer.wait_for(4 + expected.len()).await[4..], expected);
        eventually("the rest is told", async || {
            !peer.edus("m.receipt").is_empty() && !peer.edus("m.device_list_update").is_empty()
        })
        .await;
        let left = || {
            let got = peer.got.lock().unwrap();
            let pdus = got.iter().filter_map(|(_, body)| body["pdus"].as_array());
            let leaves = pdus
                .flatten()
                .filter(|pdu| pdu["content"]["membership"] == "leave");
            leaves.count()
        };
        eventually("her leave comes", async || left() == 1).await;
        a.stop().await;
    })
    .await;
}

async fn reads(a: &Us, room: &OwnedRoomId, event_id: &OwnedEventId) {
    let receipt = Receipt {
        room: a.store.room(room).await.unwrap().unwrap().room,
        user: a.store.user_no(alice()).await.unwrap(),
        kind: "m.read".to_owned(),
        thread: None,
        event_id: event_id.clone(),
        ts: 5,
    };
    let facts = vec![Fact::Receipt(receipt)];
    a.store.commit(facts.into()).await.unwrap();
}

/// A crash between two transactions: what was acknowledged isn't sent again, and the newest are still enough.
#[tokio::test]
async fn a_crash_on_the_way_changes_nothing_about_it() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let rooms = rooms_of_both(&a, &peer, 4).await;
        let at = a.store.log().head();
        network.cut(them());
        a.say(&rooms[3], "alone").await;
        for (n, text) in texts(0..MUCH).iter().enumerate() {
            a.say(&rooms[n % 3], text).await;
            let n = u64::try_from(n).unwrap();
            if n < 120 {
                a.tell_numbers(n..n + 1).await;
            }
        }
        a.fails().await;
        let before = peer.transactions();
        let held = peer.gate.lock().await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        eventually("the first comes", async || {
            peer.transactions() == before + 1
        })
        .await;
        // Who waits first has it first: the answers to the first two go out, that to the third doesn't.
        drop(held);
        let held = peer.gate.lock().await;
        eventually("the second comes", async || {
            peer.transactions() == before + 2
        })
        .await;
        drop(held);
        let held = peer.gate.lock().await;
        eventually(
            "the third comes, and it is written down how far the second was",
            async || peer.transactions() == before + 3 && a.stored().await.come > at,
        )
        .await;
        let stored = a.stored().await;
        assert!(stored.newest > stored.come && stored.come > stored.sent);
        a.crash().await;
        drop(held);

        // By then nobody else has the lease.
        clock.advance(Duration::from_secs(100));
        let a = Us::start(&database, &network, &clock).await;
        let expected = || {
            let newest = texts(MUCH - 3..MUCH).into_iter();
            ["alone".to_owned()].into_iter().chain(newest)
        };
        assert!(peer.wait_for(8).await.into_iter().skip(4).eq(expected()));
        eventually("all messages to devices are there", async || {
            peer.numbers().last() == Some(&119)
        })
        .await;
        let numbers = peer.numbers();
        // The third transaction came twice.
        assert!(numbers[..100].iter().copied().eq(0..100));
        assert!(numbers[100..].iter().copied().eq(50..120));
        a.say(&rooms[0], &format!("message {MUCH}")).await;
        let got = peer.wait_for(9).await;
        assert_eq!(got[8], format!("message {MUCH}"));
        a.stop().await;
    })
    .await;
}

/// Between whole servers: few transactions, and then all of the history.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_asks_for_what_was_between() {
    world::each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let mut rooms = Vec::new();
        for _ in 0..3 {
            let room = a.create(&alice, &RoomVersionId::V11).await;
            b.join(&bob, &room, a).await.unwrap();
            a.say(&alice, &room, "before").await;
            eventually("he hears", async || b.heard(&room).await == ["before"]).await;
            rooms.push((room, vec!["before".to_owned()]));
        }
        world.network.cut(&b.name);
        for n in 0..330 {
            let text = format!("message {n}");
            let (room, said) = &mut rooms[n % 3];
            a.say(&alice, room, &text).await;
            said.push(text);
        }
        let stand = || a.fed.sender().stand(&b.name);
        eventually("it fails", async || {
            stand().is_some_and(|stand| stand.failures > 0)
        })
        .await;
        let before = world.network.requests().len();
        world.network.mend(&b.name);
        for (room, said) in &rooms {
            eventually("he hears all of it, in order", async || {
                b.heard(room).await == *said
            })
            .await;
        }
        let asked = world.network.requests();
        let of_those = |what: &str| {
            let lines = asked[before..].iter();
            lines.filter(|(_, line)| line.contains(what)).count()
        };
        assert!(of_those("/federation/v1/send/") <= 4);
        assert!(of_those("/get_missing_events/") >= 3);
        // Both sides go on.
        b.say(&bob, &rooms[0].0, "here again").await;
        eventually("she hears", async || {
            a.heard(&rooms[0].0)
                .await
                .last()
                .is_some_and(|last| last == "here again")
        })
        .await;
    })
    .await;
}

/// What answers once it is let.
#[derive(Clone)]
pub(super) struct Hole {
    pub(super) gate: Arc<Semaphore>,
    pub(super) asked: Arc<AtomicUsize>,
}

impl Hole {
    pub(super) fn attach(network: &Network, names: &[OwnedServerName]) -> Self {
        let hole = Self {
            gate: Arc::new(Semaphore::new(0)),
            asked: Arc::default(),
        };
        let router = Router::new()
            .route("/_matrix/federation/v1/send/{txn}", put(Self::transaction))
            .with_state(hole.clone());
        for name in names {
            network.attach(name, router.clone());
        }
        hole
    }

    async fn transaction(State(hole): State<Self>) -> Json<Value> {
        hole.asked.fetch_add(1, Ordering::Relaxed);
        drop(hole.gate.acquire().await.unwrap());
        Json(json!({ "pdus": {} }))
    }
}

#[tokio::test]
async fn two_hundred_that_answer_nothing_hold_up_nobody() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = rooms_of_both(&a, &peer, 1).await.remove(0);
        let names: Vec<OwnedServerName> = (0..200)
            .map(|n| format!("hole{n}.example").try_into().unwrap())
            .collect();
        tell_all(&a, &names).await;
        let stand = |name: &OwnedServerName| a.fed.sender().stand(name);
        let failed = |name: &OwnedServerName| stand(name).is_some_and(|stand| stand.failures > 0);
        eventually("they aren't there", async || names.iter().all(failed)).await;

        let hole = Hole::attach(&network, &names);
        clock.advance(Duration::from_secs(1_000));
        eventually("they hold who comes to them", async || {
            hole.asked.load(Ordering::Relaxed) >= 20
        })
        .await;
        a.say(&room, "message 0").await;
        peer.wait_for(2).await;
        assert!(names.iter().any(failed));
        // Once they answer, all of them get what waits.
        hole.gate.add_permits(1_000);
        eventually("they get it", async || !names.iter().any(failed)).await;
        assert_eq!(hole.asked.load(Ordering::Relaxed), names.len());
        a.stop().await;
    })
    .await;
}

/// Nothing is known of them yet, not even that they don't answer.
#[tokio::test]
async fn nor_do_two_hundred_that_were_never_reached() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = rooms_of_both(&a, &peer, 1).await.remove(0);
        let names: Vec<OwnedServerName> = (0..200)
            .map(|n| format!("new{n}.example").try_into().unwrap())
            .collect();
        let hole = Hole::attach(&network, &names);
        tell_all(&a, &names).await;
        eventually("they hold who comes to them", async || {
            hole.asked.load(Ordering::Relaxed) >= 50
        })
        .await;
        a.say(&room, "message 0").await;
        peer.wait_for(2).await;
        assert!(hole.asked.load(Ordering::Relaxed) < names.len());
        hole.gate.add_permits(1_000);
        eventually("they get it", async || {
            hole.asked.load(Ordering::Relaxed) == names.len()
        })
        .await;
        a.stop().await;
    })
    .await;
}

/// Sends a message to a device at each of these servers.
pub(super) async fn tell_all(a: &Us, names: &[OwnedServerName]) {
    let messages = names.iter().map(|name| Outgoing {
        user: format!("@bob:{name}").try_into().unwrap(),
        device: "PHONE".to_owned(),
        content: json!({ "n": 1 }),
        size: 7,
    });
    let out = to_device::queue(&a.fed, alice(), "m.test", messages.collect()).unwrap();
    let facts: Vec<_> = out.into_iter().map(Fact::from).collect();
    a.store.commit(facts.into()).await.unwrap();
}
