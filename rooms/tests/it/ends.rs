//! What lies in the current state, whatever others tell about gaps in the history.

use std::sync::Arc;

use rhizome_inspect as inspect;
use rhizome_protocol::{Pdu, draft::Draft, resolve::StateMap};
use rhizome_rooms::{
    Rooms,
    membership::Action,
    receive::{self, Gathered, Received},
    state,
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::json;

use crate::{hostile::lying, rig::*, stories::carry_all};

pub const ALICE: &str = "@alice:one";
pub const MALLORY: &str = "@mallory:two";
pub const EVE: &str = "@eve:two";

/// A room of Alice's on the first server, with Mallory and Eve from the second, who gets banned. The state
/// before that is what the second server would like to go back to.
pub struct Room {
    pub id: OwnedRoomId,
    pub ban: OwnedEventId,
    pub old: StateMap,
    /// What allows Mallory to speak.
    pub auth: Vec<Arc<Pdu>>,
}

impl Room {
    pub async fn new(one: &Rooms, two: &Rooms, version: &str) -> Self {
        let id = public_room_of(one, ALICE, version).await;
        join_via(one, two, &id, MALLORY).await.unwrap();
        let eve = changed(two, &id, EVE, EVE, Action::Join).await;
        carry_all(two, one, &eve).await;
        let old = current(one, &id).await;
        let auth = auth_of(one, &id, &message(&id, MALLORY, "")).await;
        let ban = changed(one, &id, ALICE, EVE, Action::Ban).await;
        carry_all(one, two, &ban).await;
        Self { id, ban, old, auth }
    }

    pub fn says(&self, by: &Rooms, prev: &Arc<Pdu>, text: &str) -> Arc<Pdu> {
        let draft = message(&self.id, MALLORY, text);
        forged(
            by,
            &draft,
            &[prev.clone()],
            &self.auth,
            prev.origin_server_ts() + 1,
        )
    }

    /// The state that the second server tells at an event.
    fn told(&self, at: &Pdu) -> Gathered {
        Gathered {
            states_after: [(at.event_id().to_owned(), self.old.clone())].into(),
            ..Gathered::default()
        }
    }

    /// Says something upon an event that `to` hasn't got, but is told the state after it.
    async fn pushes(&self, from: &Rooms, to: &Rooms, upon: &Arc<Pdu>, text: &str) -> Arc<Pdu> {
        let pushed = self.says(from, upon, text);
        let outcome = receive(to, &pushed, &self.told(upon)).await;
        assert_eq!(outcome, Received::Accepted);
        pushed
    }

    pub async fn check(&self, one: &Rooms) {
        let eve = content(one, &self.id, "m.room.member", EVE).await.unwrap();
        assert_eq!(eve["membership"], "ban");
        agrees(one, &self.id).await;
    }
}

/// What is stored is what the events make.
async fn agrees(rooms: &Rooms, room: &RoomId) {
    let head = inspect::find(rooms.store(), room.as_str()).await.unwrap();
    let done = inspect::recompute(rooms.store(), &head, |_| {}).await;
    assert_eq!(done.unwrap().disagreement, None);
}

pub async fn receive(rooms: &Rooms, pdu: &Arc<Pdu>, gathered: &Gathered) -> Received {
    receive::receive(rooms, pdu.clone(), gathered)
        .await
        .unwrap()
}

async fn backfilled(rooms: &Rooms, room: &RoomId, pdus: &[&Arc<Pdu>]) -> receive::Backfilled {
    let pdus = pdus.iter().copied().cloned().collect();
    receive::backfilled(rooms, room, pdus, &Gathered::default())
        .await
        .unwrap()
}

pub fn none() -> Gathered {
    Gathered::default()
}

pub const MODERN: [&str; 3] = ["10", "11", "12"];

#[tokio::test]
async fn a_state_told_at_a_gap_doesnt_win_when_the_missing_event_comes_late() {
    each(|[one, two]: [_; 2]| async move {
        for version in MODERN {
            let room = Room::new(&one, &two, version).await;
            let withheld = room.says(&two, &pdu(&one, &room.ban).await, "withheld");
            let second = room.pushes(&two, &one, &withheld, "second").await;
            let third = room.says(&two, &second, "third");
            assert_eq!(receive(&one, &third, &none()).await, Received::Accepted);
            room.check(&one).await;
            assert_eq!(receive(&one, &withheld, &none()).await, Received::Accepted);
            room.check(&one).await;
            let fourth = room.says(&two, &third, "fourth");
            assert_eq!(receive(&one, &fourth, &none()).await, Received::Accepted);
            room.check(&one).await;
            // A word of ours ties it all up, and nothing comes loose again.
            say(&one, &room.id, ALICE, "well?").await;
            assert_eq!(ends(&one, &room.id).await.len(), 1);
            room.check(&one).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nor_when_it_comes_as_history() {
    each(|[one, two]: [_; 2]| async move {
        for version in MODERN {
            let room = Room::new(&one, &two, version).await;
            let withheld = room.says(&two, &pdu(&one, &room.ban).await, "withheld");
            let second = room.pushes(&two, &one, &withheld, "second").await;
            let report = backfilled(&one, &room.id, &[&withheld]).await;
            assert_eq!(report.accepted, [withheld.event_id()]);
            room.check(&one).await;
            let third = room.says(&two, &second, "third");
            assert_eq!(receive(&one, &third, &none()).await, Received::Accepted);
            room.check(&one).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nor_by_way_of_a_refused_event() {
    each(|[one, two]: [_; 2]| async move {
        for version in MODERN {
            let room = Room::new(&one, &two, version).await;
            let withheld = room.says(&two, &pdu(&one, &room.ban).await, "withheld");
            let name = json!({ "name": "Mallory's" });
            let refused = state(&room.id, MALLORY, "m.room.name", "", name);
            let ts = withheld.origin_server_ts() + 1;
            let refused = forged(&two, &refused, &[withheld.clone()], &room.auth, ts);
            let outcome = receive(&one, &refused, &room.told(&withheld)).await;
            assert!(matches!(outcome, Received::Rejected(_)), "{outcome:?}");
            assert_eq!(receive(&one, &withheld, &none()).await, Received::Accepted);
            let upon = room.says(&two, &refused, "upon");
            assert_eq!(receive(&one, &upon, &none()).await, Received::Accepted);
            room.check(&one).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_told_truly_leaves_no_loose_ends() {
    each(|[one, two]: [_; 2]| async move {
        for (version, late) in [("10", true), ("11", false), ("12", true)] {
            let mut room = Room::new(&one, &two, version).await;
            room.old = current(&one, &room.id).await;
            let missing = room.says(&two, &pdu(&one, &room.ban).await, "missing");
            let second = room.pushes(&two, &one, &missing, "second").await;
            let third = room.says(&two, &second, "third");
            assert_eq!(receive(&one, &third, &none()).await, Received::Accepted);
            if late {
                assert_eq!(receive(&one, &missing, &none()).await, Received::Accepted);
            } else {
                backfilled(&one, &room.id, &[&missing]).await;
            }
            assert_eq!(ends(&one, &room.id).await, [third.event_id()]);
            room.check(&one).await;
        }
    })
    .await;
}

/// Eve's ban isn't known to the third server yet. The second one hands it over as history, upon an event that it
/// withholds, and tells a state as if it had never been.
async fn hidden_ban(one: &Rooms, two: &Rooms, three: &Rooms) -> (Room, Arc<Pdu>, Arc<Pdu>) {
    let id = public_room_of(one, ALICE, "11").await;
    join_via(one, two, &id, MALLORY).await.unwrap();
    let eve = changed(two, &id, EVE, EVE, Action::Join).await;
    carry_all(two, one, &eve).await;
    let carol = join_via(one, three, &id, "@carol:three").await.unwrap();
    carry_all(one, two, &carol).await;
    let old = current(one, &id).await;
    let auth = auth_of(one, &id, &message(&id, MALLORY, "")).await;
    let aside = say(one, &id, ALICE, "aside").await;
    let ban = changed(one, &id, ALICE, EVE, Action::Ban).await;
    let aside = pdu(one, &aside).await;
    let room = Room { id, ban, old, auth };
    let upon = room.says(two, &pdu(one, &room.ban).await, "upon it");
    (room, aside, upon)
}

#[tokio::test]
async fn history_that_has_happened_since_counts() {
    each(|[one, two, three]: [_; 3]| async move {
        let (room, aside, upon) = hidden_ban(&one, &two, &three).await;
        room.pushes(&two, &three, &upon, "pushed").await;
        let ban = pdu(&one, &room.ban).await;
        let report = backfilled(&three, &room.id, &[&aside, &ban, &upon]).await;
        assert_eq!(report.accepted.len(), 3, "{report:?}");
        room.check(&three).await;
    })
    .await;
}

#[tokio::test]
async fn news_that_came_as_history_counts_when_it_comes_as_news() {
    each(|[one, two, three]: [_; 3]| async move {
        let (room, aside, upon) = hidden_ban(&one, &two, &three).await;
        room.pushes(&two, &three, &upon, "pushed").await;
        let ban = pdu(&one, &room.ban).await;
        let page = vec![ban.clone(), upon.clone()];
        let told = room.told(&aside);
        let report = receive::backfilled(&three, &room.id, page, &told).await;
        assert_eq!(report.unwrap().accepted.len(), 2);
        // From the server that made it.
        for _ in 0..2 {
            assert_eq!(carry(&one, &three, &room.ban).await, Received::Known);
            room.check(&three).await;
        }
        // What lies before all that the third server has seen is no news, whoever sends it.
        let before = ends(&three, &room.id).await;
        let last = say(&one, &room.id, ALICE, "last").await;
        carry_all(&one, &three, &last).await;
        assert_ne!(ends(&three, &room.id).await, before);
        room.check(&three).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_rejected_for_a_told_state_is_decided_again() {
    each(|[one, two, three]: [_; 3]| async move {
        let (room, aside, upon) = hidden_ban(&one, &two, &three).await;
        room.pushes(&two, &three, &upon, "pushed").await;
        // As if Alice had never come in.
        let mut told = room.told(&aside);
        let state = told.states_after.values_mut().next().unwrap();
        state.retain(|key, _| key.kind == "m.room.create");
        let page = vec![pdu(&one, &room.ban).await, upon.clone()];
        let report = receive::backfilled(&three, &room.id, page, &told).await;
        assert!(report.unwrap().rejected.contains(&room.ban));
        let Received::Need(need) = carry(&one, &three, &room.ban).await else {
            panic!("what lies before it isn't known")
        };
        assert_eq!(need.prev, [aside.event_id()]);
        assert_eq!(receive(&three, &aside, &none()).await, Received::Accepted);
        let outcome = carry(&one, &three, &room.ban).await;
        assert_eq!(outcome, Received::Accepted);
        room.check(&three).await;
        assert_eq!(carry(&one, &three, &room.ban).await, Received::Known);
    })
    .await;
}

#[tokio::test]
async fn only_what_leads_to_a_hole_is_history() {
    each(|[one, two]: [_; 2]| async move {
        let room = Room::new(&one, &two, "11").await;
        let ban = pdu(&one, &room.ban).await;
        let missing = room.says(&two, &ban, "missing");
        let second = room.says(&two, &missing, "second");
        let outcome = receive(&one, &second, &room.told(&missing)).await;
        assert_eq!(outcome, Received::Accepted);
        let before = ends(&one, &room.id).await;
        let stray = room.says(&two, &ban, "stray");
        let report = backfilled(&one, &room.id, &[&stray]).await;
        assert!(report.accepted.is_empty(), "{report:?}");
        let known = one.store().event(stray.event_id()).await.unwrap();
        assert!(known.is_none());
        assert_eq!(ends(&one, &room.id).await, before);
        assert!(before.contains(&room.ban));
        let report = backfilled(&one, &room.id, &[&missing, &stray]).await;
        assert_eq!(report.accepted, [missing.event_id()]);
        room.check(&one).await;
    })
    .await;
}

async fn levels(rooms: &Rooms, room: &RoomId, mallory: i64) -> OwnedEventId {
    let mut levels = content(rooms, room, "m.room.power_levels", "")
        .await
        .unwrap();
    levels["users"][MALLORY] = mallory.into();
    set(rooms, room, ALICE, "m.room.power_levels", "", levels).await
}

#[tokio::test]
async fn a_redaction_from_history_needs_the_power_of_today() {
    each(|[one, two]: [_; 2]| async move {
        for (version, mallory, gone) in [("1", 0, false), ("11", 0, false), ("11", 50, true)] {
            let id = public_room_of(&one, ALICE, version).await;
            join_via(&one, &two, &id, MALLORY).await.unwrap();
            let granted = levels(&one, &id, 50).await;
            let old = current(&one, &id).await;
            let auth = auth_of(&one, &id, &message(&id, MALLORY, "")).await;
            let word = say(&one, &id, ALICE, "remember this").await;
            let last = levels(&one, &id, mallory).await;
            let last = if last == granted { word.clone() } else { last };
            let room = Room {
                id,
                ban: last,
                old,
                auth,
            };
            let now = pdu(&one, &room.ban).await;

            let mut draft: Draft = message(&room.id, MALLORY, "");
            draft.kind = "m.room.redaction".into();
            draft.redacts = Some(word.clone());
            if version == "11" {
                draft.content = object(json!({ "redacts": word }));
                draft.redacts = None;
            } else {
                draft.content = object(json!({}));
            }
            let unknown = room.says(&two, &now, "unknown");
            let ts = now.origin_server_ts() + 2;
            let redaction = forged(&two, &draft, &[unknown.clone()], &room.auth, ts);
            let upon = room.says(&two, &redaction, "upon");
            // Its own server is believed about the state, and gives the redaction as history.
            let auth = auth_of(&one, &room.id, &message(&room.id, MALLORY, "")).await;
            let ts = ts + 5;
            let text = message(&room.id, MALLORY, "pushed");
            let pushed = forged(&two, &text, &[upon.clone()], &auth, ts);
            let outcome = receive(&one, &pushed, &room.told(&upon)).await;
            assert_eq!(outcome, Received::Accepted);
            let page = vec![redaction.clone(), upon.clone()];
            let report = receive::backfilled(&one, &room.id, page, &room.told(&unknown)).await;
            assert_eq!(report.unwrap().accepted.len(), 2);
            let redacted = stored(&one, &word).await.redacted_by.is_some();
            assert_eq!(redacted, gone, "version {version}, level {mallory}");
        }
    })
    .await;
}

async fn before(rooms: &Rooms, id: &EventId) -> Vec<OwnedEventId> {
    let event = stored(rooms, id).await;
    let state = state::before(rooms, &event).await.unwrap().unwrap();
    let (state, _) = told(rooms, &state).await;
    let mut ids: Vec<_> = state.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn an_event_that_cant_name_all_ends_rests_on_those_that_it_names() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room_of(&one, ALICE, "11").await;
        let joined = join_via(&one, &two, &room, MALLORY).await.unwrap();
        let topic = json!({ "topic": "in between" });
        let topic = set(&one, &room, ALICE, "m.room.topic", "", topic).await;
        carry_all(&one, &two, &topic).await;
        for n in 0..40 {
            let name = json!({ "membership": "join", "displayname": format!("Mallory {n}") });
            let draft = if n % 8 == 0 {
                state(&room, MALLORY, "m.room.member", MALLORY, name)
            } else {
                message(&room, MALLORY, &format!("{n}"))
            };
            // The topic is neither among the deepest nor among the shallowest.
            let depth = if n % 2 == 0 { 1 } else { 1_000 + n };
            let fork = lying(&two, &room, &draft, &joined, depth).await;
            assert_eq!(receive(&one, &fork, &none()).await, Received::Accepted);
            assert_eq!(receive(&two, &fork, &none()).await, Received::Accepted);
        }
        assert_eq!(ends(&one, &room).await.len(), 41);
        for text in ["one", "two", "three", "four"] {
            let said = say(&one, &room, ALICE, text).await;
            agrees(&one, &room).await;
            assert_eq!(carry(&one, &two, &said).await, Received::Accepted);
            assert_eq!(before(&one, &said).await, before(&two, &said).await);
            assert_eq!(current(&one, &room).await, current(&two, &room).await);
            assert_eq!(ends(&one, &room).await, ends(&two, &room).await);
            let topic = content(&one, &room, "m.room.topic", "").await.unwrap();
            assert_eq!(topic["topic"], "in between");
        }
        assert_eq!(ends(&one, &room).await.len(), 1);
        agrees(&two, &room).await;
    })
    .await;
}
