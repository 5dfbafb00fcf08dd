//! Events that are taken as a line end up as they do one by one.

use std::sync::Arc;

use rhizome_protocol::Pdu;
use rhizome_rooms::{
    Rooms,
    membership::Action,
    receive::{self, Gathered, Line, Received},
};
use rhizome_storage::StoredEvent;
use ruma::{OwnedEventId, RoomId};
use serde_json::json;

use crate::{rig::*, stories::chance::Dice};

const ALICE: &str = "@alice:one";
const DAVE: &str = "@dave:one";

/// A room of Alice's and Dave's, with the second and the third server.
async fn shared([one, two, three]: [&Rooms; 3], version: &str) -> ruma::OwnedRoomId {
    let room = public_room_of(one, ALICE, version).await;
    changed(one, &room, DAVE, DAVE, Action::Join).await;
    join_via(one, two, &room, "@bob:two").await.unwrap();
    let carol = join_via(one, three, &room, "@carol:three").await.unwrap();
    assert_eq!(carry(one, two, &carol).await, Received::Accepted);
    room
}

async fn line(to: &Rooms, room: &RoomId, pdus: &[Arc<Pdu>]) -> Line {
    receive::line(to, room, pdus, Vec::new()).await.unwrap()
}

async fn pdus(from: &Rooms, ids: &[OwnedEventId]) -> Vec<Arc<Pdu>> {
    let mut pdus = Vec::new();
    for id in ids {
        pdus.push(pdu(from, id).await);
    }
    pdus
}

/// Takes them as a transaction does.
async fn take(to: &Rooms, room: &RoomId, pdus: &[Arc<Pdu>]) -> usize {
    let taken = line(to, room, pdus).await.taken;
    for pdu in &pdus[taken..] {
        receive::pushed(to, pdu.clone(), &Gathered::default())
            .await
            .unwrap();
    }
    taken
}

#[tokio::test]
async fn what_is_said_in_a_row_is_one_transaction() {
    each(|[one, two, three]: [_; 3]| async move {
        for version in VERSIONS {
            let room = shared([&one, &two, &three], version).await;
            let mut ids = Vec::new();
            for n in 0..10 {
                let who = if n % 3 == 0 { DAVE } else { ALICE };
                ids.push(say(&one, &room, who, &n.to_string()).await);
            }
            let said = pdus(&one, &ids).await;
            // The first isn't there yet.
            assert_eq!(line(&two, &room, &said[1..]).await, Line::default());
            let before = two.store().counters().now();
            let taken = line(&two, &room, &said).await;
            let done = two.store().counters().now() - before;
            assert_eq!((taken.taken, taken.with_facts), (10, true), "{version}");
            // Numbers may be leased beside it.
            assert_eq!(done.groups, 1, "{done:?}");
            assert!(done.transactions <= 2, "{done:?}");
            // Once.
            assert_eq!(line(&two, &room, &said).await, Line::default());
            assert_eq!(ends(&two, &room).await, ends(&one, &room).await);
            let history = history_of(&two, &room).await;
            assert!(history.ends_with(&ids), "{version}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_line_ends_where_there_is_something_to_find_out() {
    each(|[one, two, three]: [_; 3]| async move {
        let room = shared([&one, &two, &three], "12").await;
        let mut ids = vec![say(&one, &room, ALICE, "1").await];
        ids.push(say(&one, &room, DAVE, "2").await);
        let topic = json!({ "topic": "t" });
        ids.push(set(&one, &room, ALICE, "m.room.topic", "", topic).await);
        ids.push(say(&one, &room, ALICE, "3").await);
        let all = pdus(&one, &ids).await;
        let taken = line(&two, &room, &all).await;
        assert_eq!((taken.taken, taken.with_facts), (2, false));
        // Who isn't allowed to speak, by the state as it is, doesn't.
        let mut draft = message(&room, "@mallory:one", "hello");
        draft.content.insert("n".into(), 1.into());
        let auth = auth_of(&one, &room, &message(&room, ALICE, "")).await;
        let forged = forged(
            &one,
            &draft,
            &[all[1].clone()],
            &auth,
            all[1].origin_server_ts(),
        );
        assert_eq!(line(&two, &room, &[forged]).await, Line::default());
        assert_eq!(take(&two, &room, &all[2..]).await, 0);
        assert_eq!(current(&two, &room).await, current(&one, &room).await);
        assert_eq!(ends(&two, &room).await, ends(&one, &room).await);
    })
    .await;
}

fn told(event: &StoredEvent) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?} {:?}",
        event.pdu.event_id(),
        event.status,
        event.placement,
        event.depth,
        event.visibility,
        event.redacted_by.is_some(),
    )
}

#[tokio::test]
async fn whatever_happens_ends_as_it_does_one_by_one() {
    each(|[one, two, three]: [_; 3]| async move {
        let mut in_lines = 0;
        for seed in 0..6 {
            let mut dice = Dice(seed);
            let version = ["1", "6", "10", "12"][dice.roll(4)];
            let room = shared([&one, &two, &three], version).await;
            let mut ids = Vec::new();
            for n in 0..40 {
                let id = match dice.roll(12) {
                    0 => {
                        let topic = json!({ "topic": n });
                        set(&one, &room, ALICE, "m.room.topic", "", topic).await
                    }
                    1 => {
                        let action = [Action::Leave, Action::Join][dice.roll(2)];
                        let done = change(&one, &room, DAVE, DAVE, action).await;
                        match done {
                            Ok(Some(sent)) if sent.fresh => sent.event_id,
                            _ => continue,
                        }
                    }
                    2 if !ids.is_empty() => {
                        let mut draft = message(&room, ALICE, "");
                        draft.kind = "m.room.redaction".into();
                        let target: &OwnedEventId = &ids[dice.roll(ids.len())];
                        draft.content = object(json!({ "redacts": target }));
                        draft.redacts = Some(target.clone());
                        sent(&one, draft).await
                    }
                    _ => say(&one, &room, ALICE, &n.to_string()).await,
                };
                ids.push(id);
            }
            let all = pdus(&one, &ids).await;
            let mut rest = &all[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(1 + dice.roll(12)));
                in_lines += take(&two, &room, now).await;
                rest = later;
            }
            for pdu in &all {
                let outcome = receive::pushed(&three, pdu.clone(), &Gathered::default()).await;
                assert_eq!(outcome.unwrap(), Received::Accepted, "{seed}");
            }
            for id in &ids {
                let here = told(&*stored(&two, id).await);
                assert_eq!(here, told(&*stored(&three, id).await), "{seed}");
            }
            // What came before differs.
            for server in [&two, &three] {
                let mut history = history_of(server, &room).await;
                history.retain(|id| ids.contains(id));
                assert_eq!(history, ids, "{seed}");
            }
            assert_eq!(
                current(&two, &room).await,
                current(&three, &room).await,
                "{seed}"
            );
            assert_eq!(ends(&two, &room).await, ends(&three, &room).await, "{seed}");
        }
        assert!(in_lines > 20, "{in_lines}");
    })
    .await;
}
