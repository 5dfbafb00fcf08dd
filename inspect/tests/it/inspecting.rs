//! What an operator is told about a room, its events and its forks.

use std::collections::BTreeSet;

use rhizome_inspect::{self as inspect, ConflictReport, EventReport};
use rhizome_protocol::StateKey;
use rhizome_rooms::{Error, Rooms, membership::Action, receive::Received};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::json;

use crate::rig::*;

async fn report(rooms: &Rooms, room: &RoomId, id: &EventId) -> EventReport {
    let head = rooms.store().room(room).await.unwrap().unwrap();
    inspect::event(rooms.store(), &head, id, 5).await.unwrap()
}

fn conflict<'a>(report: &'a EventReport, kind: &str) -> &'a ConflictReport {
    let fork = report.resolution.as_ref().unwrap();
    let found = fork.conflicts.iter().find(|conflict| conflict.kind == kind);
    found.unwrap_or_else(|| panic!("no conflict about {kind}: {:?}", fork.conflicts))
}

/// Alice demotes Bob on one server and sets the name, while he sets name and topic on the other; then the
/// forks meet in an event of hers.
pub struct Demotion {
    pub room: OwnedRoomId,
    pub levels: OwnedEventId,
    pub hers: OwnedEventId,
    pub profile: OwnedEventId,
    pub topic: OwnedEventId,
    pub his: OwnedEventId,
    pub merge: OwnedEventId,
}

pub async fn demotion(one: &Rooms, two: &Rooms, version: &str) -> Demotion {
    let room = public_room_of(one, "@alice:one", version).await;
    join_via(one, two, &room, "@bob:two").await.unwrap();
    let mut levels = content(one, &room, "m.room.power_levels", "")
        .await
        .unwrap();
    levels["users"]["@bob:two"] = 60.into();
    let raised = set(
        one,
        &room,
        "@alice:one",
        "m.room.power_levels",
        "",
        levels.clone(),
    )
    .await;
    assert_eq!(carry(one, two, &raised).await, Received::Accepted);
    levels["users"]["@bob:two"] = 0.into();
    let levels = set(one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
    let name = |who: &str| json!({ "name": who });
    let hers = set(one, &room, "@alice:one", "m.room.name", "", name("hers")).await;
    // This much is his own business, so that the merge is the same as neither side.
    let profile = json!({ "membership": "join", "displayname": "Bob" });
    let profile = set(two, &room, "@bob:two", "m.room.member", "@bob:two", profile).await;
    let topic = json!({ "topic": "his" });
    let topic = set(two, &room, "@bob:two", "m.room.topic", "", topic).await;
    let his = set(two, &room, "@bob:two", "m.room.name", "", name("his")).await;
    for id in [&levels, &hers] {
        assert_eq!(carry(one, two, id).await, Received::Accepted);
    }
    let merge = say(two, &room, "@bob:two", "who am I?").await;
    assert_eq!(pdu(two, &merge).await.prev_events().len(), 2);
    Demotion {
        room,
        levels,
        hers,
        profile,
        topic,
        his,
        merge,
    }
}

#[tokio::test]
async fn a_fork_tells_who_lost_and_why() {
    each(|[one, two]: [_; 2]| async move {
        for version in ["2", "10", "12"] {
            let story = demotion(&one, &two, version).await;
            let report = report(&two, &story.room, &story.merge).await;
            let fork = report.resolution.as_ref().unwrap();
            assert_eq!(fork.agrees, Some(true), "version {version}");
            assert_eq!(fork.sides.len(), 2);

            let name = conflict(&report, "m.room.name");
            assert_eq!(name.winner.as_ref(), Some(&story.hers));
            assert_eq!(name.candidates.len(), 2);
            for candidate in &name.candidates {
                assert_eq!(candidate.order, Some("mainline"));
                let is_his = candidate.event.event_id == story.his;
                assert_eq!(candidate.fate, if is_his { "refused" } else { "won" });
                let rule = candidate.reason.as_ref().and_then(|r| r.rule.as_deref());
                assert_eq!(rule, is_his.then_some("auth 8"), "version {version}");
            }
            let topic = conflict(&report, "m.room.topic");
            assert_eq!(topic.winner, None);
            assert_eq!(topic.candidates[0].event.event_id, story.topic);
            assert!(topic.candidates[0].because.contains("(auth 8)"));

            // The levels are a power event: tried before everything else.
            let levels = conflict(&report, "m.room.power_levels");
            assert_eq!(levels.winner.as_ref(), Some(&story.levels));
            let won = levels.candidates.iter().find(|c| c.fate == "won").unwrap();
            assert_eq!(won.order, Some("power"));
            let step = |id: &OwnedEventId| {
                fork.steps
                    .iter()
                    .position(|step| step.event_id == *id)
                    .unwrap()
            };
            assert!(step(&story.levels) < step(&story.hers));
            assert!(step(&story.levels) < step(&story.his));
        }
    })
    .await;
}

#[tokio::test]
async fn a_fork_of_version_1_is_judged_by_what_was_settled() {
    each(|[one, two]: [_; 2]| async move {
        let story = demotion(&one, &two, "1").await;
        let report = report(&two, &story.room, &story.merge).await;
        let fork = report.resolution.as_ref().unwrap();
        assert_eq!((fork.algorithm, fork.agrees), ("1", Some(true)));
        assert!(fork.steps.is_empty());
        let name = conflict(&report, "m.room.name");
        let lost = |fate: &str| name.candidates.iter().filter(|c| c.fate == fate).count();
        assert_eq!((lost("won"), lost("refused") + lost("outranked")), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn the_reason_of_a_refusal_is_told() {
    each(|[one, two]: [_; 2]| async move {
        let room = public_room(&one, "@alice:one").await;
        join_via(&one, &two, &room, "@bob:two").await.unwrap();
        let fine = say(&one, &room, "@alice:one", "fine").await;
        // Mallory was never in the room.
        let draft = message(&room, "@mallory:two", "let me in");
        let auth = auth_of(&one, &room, &draft).await;
        let intruder = forged(&two, &draft, &[pdu(&one, &fine).await], &auth, 1);
        let outcome = receive(&one, &intruder).await;
        assert!(matches!(outcome, Received::Rejected(_)), "{outcome:?}");
        // Bob goes on from before his ban.
        changed(&one, &room, "@alice:one", "@bob:two", Action::Ban).await;
        let evasion = say(&two, &room, "@bob:two", "you can't stop me").await;
        let outcome = carry(&two, &one, &evasion).await;
        assert!(matches!(outcome, Received::SoftFailed(_)), "{outcome:?}");

        let rejected = report(&one, &room, intruder.event_id()).await;
        assert_eq!(rejected.event.status, "rejected");
        let reason = rejected.event.reason.unwrap();
        assert_eq!(reason.rule.as_deref(), Some("auth 6"));
        assert!(
            reason
                .reference
                .unwrap()
                .contains("rooms/v12/#authorization-rules")
        );
        assert!(rejected.changes.is_empty());
        let soft = report(&one, &room, &evasion).await;
        assert_eq!(soft.event.status, "soft-failed");
        assert!(soft.event.reason.unwrap().rule.is_some());

        let head = one.store().room(&room).await.unwrap().unwrap();
        let summary = inspect::room(one.store(), &head, 10).await.unwrap();
        let refused: BTreeSet<_> = summary.refused.iter().map(|line| &*line.event_id).collect();
        assert_eq!(refused, BTreeSet::from([intruder.event_id(), &*evasion]));
        assert_eq!(summary.events["rejected"]["live"], 1);
        assert_eq!(summary.events["soft-failed"]["live"], 1);
        assert_eq!(summary.members["ban"], 1);
        assert_eq!(summary.servers, ["one"]);
        assert_eq!(summary.heads.len(), 1);
        let entries = i64::try_from(current(&one, &room).await.len()).unwrap();
        assert_eq!(summary.snapshots.current_entries, entries);
        assert!(summary.snapshots.bytes_per_state_event.unwrap() > 0);
        let one_only = inspect::room(one.store(), &head, 1).await.unwrap();
        assert_eq!(one_only.refused.len(), 1);
    })
    .await;
}

async fn receive(at: &Rooms, event: &std::sync::Arc<rhizome_protocol::Pdu>) -> Received {
    let gathered = rhizome_rooms::receive::Gathered::default();
    rhizome_rooms::receive::receive(at, event.clone(), &gathered)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_an_event_changed_is_told() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let first = set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "a" }),
        )
        .await;
        let second = set(
            &one,
            &room,
            "@alice:one",
            "m.room.topic",
            "",
            json!({ "topic": "b" }),
        )
        .await;
        let told = report(&one, &room, &second).await;
        let [change] = told.changes.as_slice() else {
            panic!("{:?}", told.changes)
        };
        assert_eq!(change.kind, "m.room.topic");
        assert_eq!(change.old.as_ref(), Some(&first));
        assert_eq!(change.new.as_ref(), Some(&second));
        assert!(told.resolution.is_none(), "it has one prev");
        let elsewhere = public_room(&one, "@alice:one").await;
        let head = one.store().room(&elsewhere).await.unwrap().unwrap();
        let error = inspect::event(one.store(), &head, &second, 5).await;
        assert!(matches!(error, Err(Error::UnknownEvent(_))), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn the_graph_is_as_large_as_asked_and_draws() {
    each(|[one, two]: [_; 2]| async move {
        let story = demotion(&one, &two, "12").await;
        let mut tail = vec![story.merge.clone()];
        for n in 0..4 {
            tail.push(say(&two, &story.room, "@bob:two", &format!("{n}")).await);
        }
        let head = two.store().room(&story.room).await.unwrap().unwrap();
        let centre = [stored(&two, &story.merge).await];
        let graph = inspect::around(two.store(), head.room, &centre, 2)
            .await
            .unwrap();
        let ids: BTreeSet<_> = graph
            .nodes
            .iter()
            .map(|node| node.line.event_id.clone())
            .collect();
        // Both sides of the fork before it, two messages after it.
        for id in [
            &story.levels,
            &story.hers,
            &story.topic,
            &story.his,
            &tail[1],
            &tail[2],
        ] {
            assert!(ids.contains(id), "{id} is missing");
        }
        assert!(!ids.contains(&tail[3]));
        assert_eq!(ids.len(), 7);
        assert!(!graph.cut);

        for auth in [false, true] {
            let dot = inspect::dot(&graph, auth);
            for node in &graph.nodes {
                for prev in &node.prev_events {
                    let edge = format!("\"{}\" -> \"{prev}\";", node.line.event_id);
                    assert!(dot.contains(&edge), "{edge} is missing in {dot}");
                }
            }
            assert_eq!(dot.contains("style=dashed"), auth);
            assert_eq!(dot.matches('{').count(), dot.matches('}').count());
            let plain = dot.replace("\\\\", "").replace("\\\"", "");
            assert_eq!(plain.matches('"').count() % 2, 0);
            assert!(dot.starts_with("digraph"));
        }
    })
    .await;
}

#[tokio::test]
async fn rooms_are_found_by_id_and_alias() {
    each(|[one]: [_; 1]| async move {
        let room = public_room(&one, "@alice:one").await;
        let find = |name: String| {
            let store = one.store().clone();
            async move {
                inspect::find(&store, &name)
                    .await
                    .map(|head| head.room_id.clone())
            }
        };
        assert_eq!(find(room.to_string()).await.unwrap(), room);
        let unknown = find("!nowhere:one".into()).await;
        assert!(matches!(unknown, Err(Error::UnknownRoom(_))), "{unknown:?}");
        let alias = find("#nothing:one".into()).await;
        assert!(matches!(alias, Err(Error::NotFound(_))), "{alias:?}");
        let neither = find("hello".into()).await;
        assert!(matches!(neither, Err(Error::Invalid(_))), "{neither:?}");
        let members = current(&one, &room).await;
        assert!(members.contains_key(&StateKey::new("m.room.create", "")));
    })
    .await;
}
