//! Who wins when a room's servers disagree.

use rhizome_protocol::{StateKey, resolve::resolve};
use serde_json::json;

use super::{each, levels_of};
use crate::room::{ALICE, BOB, CARL, DORA, levels, member, state};

/// Carl is banned on one side while he does things on the other: the ban holds, and what he did goes.
#[test]
fn a_ban_beats_what_the_banned_does_elsewhere() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 50));
        let last = room.send(&[last], ALICE, &power);
        let ban = room.send(&[last.clone()], ALICE, &member(CARL, "ban"));
        let topic = room.send(
            &[last.clone()],
            CARL,
            &state("m.room.topic", "", json!({"topic": "mine"})),
        );
        let renamed = room.send(&[topic], CARL, &member(CARL, "join"));
        assert_eq!(
            room.merged(&[&ban, &renamed], "m.room.member", CARL),
            Some(ban.clone())
        );
        assert_eq!(room.merged(&[&ban, &renamed], "m.room.topic", ""), None);
        // Evasion by rejoining from before the ban, long after.
        let rejoined = room.send_all(
            &[last],
            &[(CARL, member(CARL, "leave")), (CARL, member(CARL, "join"))],
        );
        assert_eq!(
            room.merged(&[&ban, &rejoined], "m.room.member", CARL),
            Some(ban)
        );
    });
}

/// Alice demotes Bob while Bob promotes Carl: the demotion comes first, so the promotion falls.
#[test]
fn demotion_beats_promotion() {
    each(|mut room, last| {
        let (demotion, promotion) = (
            levels(levels_of(&room, 0, 0)),
            levels(levels_of(&room, 50, 50)),
        );
        let promoted = room.send(&[last.clone()], BOB, &promotion);
        let demoted = room.send(&[last], ALICE, &demotion);
        assert_eq!(
            room.merged(&[&promoted, &demoted], "m.room.power_levels", ""),
            Some(demoted.clone())
        );
        // What Carl does with his new power falls with it.
        let topic = room.send(&[promoted], CARL, &state("m.room.topic", "", json!({})));
        assert_eq!(room.merged(&[&topic, &demoted], "m.room.topic", ""), None);
    });
}

/// Two ban each other, Carl with the power that he got on one side only: he has more, so his ban holds.
#[test]
fn of_two_bans_the_mightier_holds() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 60));
        let by_bob = room.send(&[last.clone()], BOB, &member(CARL, "ban"));
        let by_carl = room.send_all(&[last], &[(ALICE, power), (CARL, member(BOB, "ban"))]);
        assert_eq!(
            room.merged(&[&by_bob, &by_carl], "m.room.member", BOB),
            Some(by_carl.clone())
        );
        let carl = room
            .merged(&[&by_bob, &by_carl], "m.room.member", CARL)
            .unwrap();
        assert_ne!(carl, by_bob);
        assert_eq!(
            room.events[&carl].membership(),
            Some(rhizome_protocol::Membership::Join)
        );
    });
}

/// Closing the room beats joining it at the same time.
#[test]
fn closing_beats_joining() {
    each(|mut room, last| {
        let join = room.send(&[last.clone()], DORA, &member(DORA, "join"));
        let closed = room.send(
            &[last],
            ALICE,
            &state("m.room.join_rules", "", json!({"join_rule": "invite"})),
        );
        assert_eq!(room.merged(&[&join, &closed], "m.room.member", DORA), None);
    });
}

/// Ordinary state: later timestamps win on the same power levels.
#[test]
fn the_later_topic_wins() {
    each(|mut room, last| {
        let first = room.send(
            &[last.clone()],
            BOB,
            &state("m.room.topic", "", json!({"topic": 1})),
        );
        let second = room.send(
            &[last.clone()],
            ALICE,
            &state("m.room.topic", "", json!({"topic": 2})),
        );
        let name = room.send(
            &[last],
            ALICE,
            &state("m.room.name", "", json!({"name": "x"})),
        );
        assert_eq!(
            room.merged(&[&second, &first, &name], "m.room.topic", ""),
            Some(second.clone())
        );
        assert_eq!(
            room.merged(&[&second, &first, &name], "m.room.name", ""),
            Some(name)
        );
    });
}

/// On a newer mainline, an older timestamp wins over a newer one on an older mainline.
#[test]
fn newer_power_levels_beat_newer_timestamps() {
    each(|mut room, last| {
        let power = levels(levels_of(&room, 50, 20));
        let powered = room.send(&[last.clone()], ALICE, &power);
        let new_mainline = room.send(
            &[powered],
            BOB,
            &state("m.room.topic", "", json!({"topic": "new"})),
        );
        let old_mainline = room.send(
            &[last],
            BOB,
            &state("m.room.topic", "", json!({"topic": "old"})),
        );
        assert_eq!(
            room.merged(&[&old_mainline, &new_mainline], "m.room.topic", ""),
            Some(new_mainline)
        );
    });
}

/// A rejected event is not used as an auth event, and doesn't come into the state.
#[test]
fn rejected_auth_events_are_not_used() {
    each(|mut room, last| {
        let dora = room.send(&[last.clone()], DORA, &member(DORA, "join"));
        let topic = room.send(
            &[last.clone()],
            ALICE,
            &state("m.room.topic", "", json!({})),
        );
        let renamed = room.send(&[dora.clone()], DORA, &member(DORA, "join"));
        assert_eq!(
            room.merged(&[&renamed, &topic], "m.room.member", DORA),
            Some(renamed.clone())
        );
        let power = room.before(&[last])[&StateKey::new("m.room.power_levels", "")].clone();
        // As if the first join and the levels had been rejected after all.
        room.rejected.extend([dora, power]);
        let forks = [room.after[&renamed].clone(), room.after[&topic].clone()];
        assert!(resolve(room.rules, &forks, &room).is_ok());
    });
}
