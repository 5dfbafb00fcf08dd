//! Servers that get what leads to the rest instead of everything: what becomes of what is passed over.

use rhizome_rooms::{
    membership::Action,
    receive::{Gathered, Received, receive},
};
use rhizome_storage::Pos;
use ruma::user_id;
use tokio::sync::MutexGuard;

use super::{
    devices::moves,
    outage::{MUCH, rooms_of_both},
    *,
};

impl Us {
    /// The room's ACL keeps the other server out.
    async fn denies(&self, room: &OwnedRoomId) {
        let Value::Object(content) = json!({ "allow": ["*"], "deny": [them()] }) else {
            unreachable!()
        };
        let draft = Draft {
            room_id: Some(room.clone()),
            sender: alice().to_owned(),
            kind: "m.room.server_acl".to_owned(),
            state_key: Some(String::new()),
            content,
            redacts: None,
        };
        send(self.fed.rooms(), draft, SendOptions::default())
            .await
            .unwrap();
    }

    async fn run_is_over(&self) {
        let stand = || self.fed.sender().stand(them());
        eventually("the run is over", async || {
            stand().is_some_and(|stand| stand.newest > Pos(0) && !stand.runs())
        })
        .await;
    }

    /// A user of a third server comes in by a template that was made before `between`, and goes again: both are
    /// followed by the leave, which didn't come through us.
    async fn visited(&self, room: &OwnedRoomId, visitor: &UserId, between: &str) {
        let (rooms, server) = (self.fed.rooms(), visitor.server_name());
        let template = admit::template(rooms, room, visitor, Membership::Join, &[])
            .await
            .unwrap();
        self.say(room, between).await;
        let joined = draft::finish(template.rules, template.event, server, &key(3)).unwrap();
        admit::admit_signed(rooms, Arc::new(joined)).await.unwrap();
        let template = admit::template(rooms, room, visitor, Membership::Leave, &[])
            .await
            .unwrap();
        let left = draft::finish(template.rules, template.event, server, &key(3)).unwrap();
        assert_eq!(left.prev_events().len(), 2);
        let received = receive(rooms, Arc::new(left), &Gathered::default()).await;
        assert_eq!(received.unwrap(), Received::Accepted);
    }
}

/// Messages take turns in two rooms, those with even numbers in the first, while the other server is away; then the run has
/// come to the 50th message to a device, up to which all is passed over but the very first. The next transaction is
/// held.
async fn on_its_way<'a>(
    a: &Us,
    peer: &'a Peer,
    network: &Network,
    clock: &Clock,
) -> (Vec<OwnedRoomId>, MutexGuard<'a, ()>) {
    let rooms = rooms_of_both(a, peer, 2).await;
    network.cut(them());
    for (n, text) in texts(0..MUCH).iter().enumerate() {
        a.say(&rooms[n % 2], text).await;
        let n = u64::try_from(n).unwrap();
        if n < 120 {
            a.tell_numbers(n..n + 1).await;
        }
    }
    a.fails().await;
    let before = peer.transactions();
    let mut held = peer.gate.lock().await;
    network.mend(them());
    clock.advance(Duration::from_secs(100));
    for n in 1..=3 {
        eventually("the next comes", async || peer.transactions() == before + n).await;
        if n < 3 {
            // Who waits first has it first.
            drop(held);
            held = peer.gate.lock().await;
        }
    }
    assert_eq!(peer.messages()[2..], texts(0..1));
    (rooms, held)
}

/// Of the messages that have numbers those that have come, each once.
fn numbered(peer: &Peer, which: impl Fn(usize) -> bool) -> Vec<usize> {
    let messages = peer.messages();
    let numbers = messages
        .iter()
        .filter_map(|text| text.strip_prefix("message ")?.parse().ok());
    let mut numbers: Vec<usize> = numbers.filter(|n| which(*n)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// All of the first room comes, and of the second nothing but the last.
async fn all_of_the_first_comes(peer: &Peer) {
    let is_even = |n: usize| n.is_multiple_of(2);
    let all: Vec<usize> = (0..MUCH).filter(|n| is_even(*n)).collect();
    eventually("all of the one room comes", async || {
        numbered(peer, is_even) == all
    })
    .await;
    eventually("the last of the other comes", async || {
        numbered(peer, |n| !is_even(n)) == [MUCH - 1]
    })
    .await;
}

#[tokio::test]
async fn what_was_passed_over_comes_when_we_leave_while_it_is_away_again() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let (rooms, held) = on_its_way(&a, &peer, &network, &clock).await;
        eventually("it is written down how far it is", async || {
            a.stored().await.come > Pos(0)
        })
        .await;
        network.cut(them());
        a.crash().await;
        drop(held);
        // By then nobody else has the lease.
        clock.advance(Duration::from_secs(100));
        let a = Us::start(&database, &network, &clock).await;
        a.fails().await;
        moves(&a, alice(), &rooms[0], Action::Leave).await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        all_of_the_first_comes(&peer).await;
        a.run_is_over().await;
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_passed_over_comes_when_we_leave_before_the_end() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let (rooms, held) = on_its_way(&a, &peer, &network, &clock).await;
        moves(&a, alice(), &rooms[0], Action::Leave).await;
        drop(held);
        all_of_the_first_comes(&peer).await;
        a.run_is_over().await;
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_passed_over_comes_to_whom_the_room_denies_asking() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let (rooms, held) = on_its_way(&a, &peer, &network, &clock).await;
        a.denies(&rooms[0]).await;
        drop(held);
        all_of_the_first_comes(&peer).await;
        a.stop().await;
    })
    .await;
}

/// Two rooms, in the first of which this is said last.
async fn said_last(a: &Us, peer: &Peer, network: &Network, last: &str) -> OwnedEventId {
    let rooms = rooms_of_both(a, peer, 2).await;
    network.cut(them());
    for (n, text) in texts(0..MUCH).iter().enumerate() {
        a.say(&rooms[n % 2], text).await;
    }
    let last = a.say(&rooms[0], last).await;
    a.fails().await;
    last
}

#[tokio::test]
async fn what_leads_to_the_rest_and_is_refused_is_replaced_by_the_rest() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        *peer.refuses.lock().unwrap() = Some("poison".to_owned());
        said_last(&a, &peer, &network, "poison").await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        all_of_the_first_comes(&peer).await;
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_leads_to_the_rest_and_is_not_accepted_is_replaced_by_the_rest() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let last = said_last(&a, &peer, &network, "unwanted").await;
        *peer.declines.lock().unwrap() = Some(last);
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        all_of_the_first_comes(&peer).await;
        // After the rest it is tried once more.
        let unwanted = || {
            let messages = peer.messages();
            let unwanted = messages.iter().filter(|text| *text == "unwanted");
            unwanted.count()
        };
        eventually("it comes again", async || unwanted() == 2).await;
        a.stop().await;
        assert_eq!(unwanted(), 2);
    })
    .await;
}

/// What closed the fork is another server's, and nothing of ours follows it.
#[tokio::test]
async fn each_end_of_a_fork_that_others_closed_is_sent() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let rooms = rooms_of_both(&a, &peer, 2).await;
        let carl = user_id!("@carl:c.example");
        network.cut(them());
        for (n, text) in texts(0..MUCH).iter().enumerate() {
            a.say(&rooms[1], text).await;
            if n == 9 {
                a.say(&rooms[0], "before the fork").await;
                a.visited(&rooms[0], carl, "beside").await;
            }
        }
        a.fails().await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        let last = format!("message {}", MUCH - 1);
        let expected = ["message 0", "beside", last.as_str()];
        assert_eq!(peer.wait_for(5).await[2..], expected);
        let joins = || {
            let got = peer.got.lock().unwrap();
            let pdus = got.iter().filter_map(|(_, body)| body["pdus"].as_array());
            let joins = pdus.flatten().filter(|pdu| pdu["state_key"] == json!(carl));
            joins.count()
        };
        eventually("his join comes", async || joins() == 1).await;
        a.stop().await;
    })
    .await;
}

/// Who is still down isn't looked at closely.
#[tokio::test]
async fn nothing_is_planned_for_who_does_not_answer() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let rooms = rooms_of_both(&a, &peer, 1).await;
        network.cut(them());
        for text in texts(0..MUCH) {
            a.say(&rooms[0], &text).await;
        }
        a.fails().await;
        // Nothing is known of it while a task is at work on it.
        let stand = || a.fed.sender().stand(them());
        eventually("it rests", async || stand().is_some()).await;
        let before = stand().unwrap();
        clock.advance(Duration::from_secs(1_000));
        let failed = || stand().filter(|stand| stand.failures > before.failures);
        eventually("it fails again", async || failed().is_some()).await;
        let after = failed().unwrap();
        assert_eq!(after.newest, Pos(0));
        assert_eq!(after.reached(), before.reached());
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        peer.wait_for(3).await;
        a.run_is_over().await;
        a.stop().await;
        assert_eq!(peer.messages().len(), 3);
    })
    .await;
}
