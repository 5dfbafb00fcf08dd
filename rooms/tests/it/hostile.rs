//! What servers may do to a room without harm.

use std::sync::Arc;

use rhizome_protocol::{
    Pdu,
    draft::{self, Draft, Place},
};
use rhizome_rooms::{
    Rooms,
    membership::Action,
    receive::{self, Gathered, Received, packed::Packed},
};
use ruma::{OwnedEventId, RoomId};

use crate::rig::*;

/// An event that claims to be so deep.
pub async fn lying(
    by: &Rooms,
    room: &RoomId,
    draft: &Draft,
    prev: &OwnedEventId,
    depth: i64,
) -> Arc<Pdu> {
    let ids = |pdus: &[Arc<Pdu>]| pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let prevs = [pdu(by, prev).await];
    let place = Place {
        prev_events: ids(&prevs),
        auth_events: ids(&auth_of(by, room, draft).await),
        depth,
        ..Place::default()
    };
    let rules = prevs[0].rules();
    Arc::new(draft::build(rules, draft, &place, by.server_name(), by.key()).unwrap())
}

async fn receive(rooms: &Rooms, pdu: &Arc<Pdu>) -> Received {
    receive::receive(rooms, pdu.clone(), &Gathered::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_false_depth_moves_nothing_in_the_history() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let abyss = (1 << 53) - 1;
        let draft = |text| message(&room, "@bob:two", text);
        let deep = lying(&two, &room, &draft("so deep"), &joined, abyss).await;
        assert_eq!(receive(&one, &deep).await, Received::Accepted);
        // What others say beside it, and what is said upon it.
        let beside = lying(&two, &room, &draft("beside it"), &joined, 1).await;
        assert_eq!(receive(&one, &beside).await, Received::Accepted);
        let upon = say(&one, &room, "@alice:one", "upon both").await;
        assert_eq!(
            pdu(&one, &upon).await.depth(),
            abyss,
            "as the specification wants it"
        );
        let last = say(&one, &room, "@alice:one", "and on").await;

        let log = log_of(&one, &room).await;
        let ids: Vec<_> = log.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        assert_eq!(history_of(&one, &room).await, ids, "as it came");
        assert_eq!(ids.last(), Some(&last));
        let join_depth = stored(&one, &joined).await.depth;
        assert_eq!(stored(&one, deep.event_id()).await.depth, join_depth + 1);
        assert_eq!(stored(&one, beside.event_id()).await.depth, join_depth + 1);
        assert_eq!(stored(&one, &last).await.depth, join_depth + 3);
    })
    .await;
}

#[tokio::test]
async fn history_stays_above_what_follows_it_whatever_it_claims() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        let first = say(&one, &room, "@alice:one", "first").await;
        let draft = message(&room, "@alice:one", "so deep");
        let deep = lying(&one, &room, &draft, &first, 1 << 40).await;
        assert_eq!(receive(&one, &deep).await, Received::Accepted);
        // Bob's own server claims less.
        let join = state(
            &room,
            "@bob:two",
            "m.room.member",
            "@bob:two",
            serde_json::json!({ "membership": "join" }),
        );
        let join = {
            let auth = auth_of(&one, &room, &join).await;
            let place = Place {
                prev_events: vec![deep.event_id().to_owned()],
                auth_events: auth.iter().map(|pdu| pdu.event_id().to_owned()).collect(),
                depth: 100,
                ..Place::default()
            };
            let built = draft::build(deep.rules(), &join, &place, two.server_name(), two.key());
            Arc::new(built.unwrap())
        };
        let admitted = rhizome_rooms::admit::admit_signed(&one, join.clone())
            .await
            .unwrap();
        let (state, chain) = told_before(&one, &admitted).await;
        let answer = rhizome_rooms::admit::RemoteJoin {
            rules: join.rules(),
            given: Packed::of(join.rules(), &room, &state, &chain),
            event: join.clone(),
            without_members: None,
        };
        rhizome_rooms::admit::adopt(&two, answer).await.unwrap();

        let log = log_of(&one, &room).await;
        let history: Vec<_> = log.iter().rev().skip(1).cloned().collect();
        receive::backfilled(&two, &room, history, &Gathered::default())
            .await
            .unwrap();
        assert_eq!(stored(&two, join.event_id()).await.depth, 100);
        assert_eq!(stored(&two, deep.event_id()).await.depth, 99);
        let ids: Vec<_> = log.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        assert_eq!(history_of(&two, &room).await, ids);
    })
    .await;
}

#[tokio::test]
async fn whoever_forks_without_end_undoes_nothing_of_others() {
    each(|[one, two, three]: [_; 3]| async move {
        let room = public_room(&one, "@alice:one").await;
        let mallory = join_via(&one, &two, &room, "@mallory:two").await.unwrap();
        let trent = join_via(&one, &three, &room, "@trent:three").await.unwrap();
        assert_eq!(carry(&one, &two, &trent).await, Received::Accepted);
        // A loose end of somebody else that matters, and one of our own.
        let name = serde_json::json!({ "membership": "join", "displayname": "Trent" });
        let named = set(
            &three,
            &room,
            "@trent:three",
            "m.room.member",
            "@trent:three",
            name,
        )
        .await;
        assert_eq!(carry(&three, &one, &named).await, Received::Accepted);
        changed(&one, &room, "@alice:one", "@eve:two", Action::Ban).await;

        let mut ends_seen = 0;
        for n in 0..150 {
            let draft = message(&room, "@mallory:two", &format!("{n}"));
            let depth = (1 << 53) - 1 - n;
            let fork = lying(&two, &room, &draft, &mallory, depth).await;
            assert_eq!(receive(&one, &fork).await, Received::Accepted);
            ends_seen = ends_seen.max(ends(&one, &room).await.len());
        }
        assert_eq!(ends_seen, 50, "they stay bounded");
        let trents = content(&one, &room, "m.room.member", "@trent:three")
            .await
            .unwrap();
        assert_eq!(trents["displayname"], "Trent");
        let eves = content(&one, &room, "m.room.member", "@eve:two")
            .await
            .unwrap();
        assert_eq!(eves["membership"], "ban");
        // A few words of ours tie up what is left.
        for _ in 0..4 {
            say(&one, &room, "@alice:one", "enough").await;
        }
        assert_eq!(ends(&one, &room).await.len(), 1);
    })
    .await;
}

/// However many loose ends a server has made, one more costs what it did when they were all that are kept.
#[tokio::test]
async fn one_more_fork_costs_no_more() {
    each(|[one, two]: [_; 2]| async move {
        const MALLORY: &str = "@mallory:two";
        let room = public_room(&one, "@alice:one").await;
        let joined = join_via(&one, &two, &room, MALLORY).await.unwrap();
        let mut costs: Vec<u64> = Vec::new();
        for n in 0..300 {
            let name =
                serde_json::json!({ "membership": "join", "displayname": format!("Mallory {n}") });
            let draft = if n % 5 == 0 {
                state(&room, MALLORY, "m.room.member", MALLORY, name)
            } else {
                message(&room, MALLORY, &n.to_string())
            };
            let fork = lying(&two, &room, &draft, &joined, 7).await;
            let before = one.store().counters().now().queries;
            assert_eq!(receive(&one, &fork).await, Received::Accepted);
            costs.push(one.store().counters().now().queries - before);
        }
        // What a database does for itself comes in between, so the middle one counts.
        let middle = |costs: &[u64]| {
            let mut costs = costs.to_vec();
            costs.sort_unstable();
            costs[costs.len() / 2]
        };
        let (early, late) = (middle(&costs[60..140]), middle(&costs[220..]));
        assert!(late <= early + 5, "{early}, then {late}: {costs:?}");
        assert_eq!(ends(&one, &room).await.len(), 50);
    })
    .await;
}
