//! The authorization rules as stories: who tries what, and which rule forbids it.

mod auth_events;
mod create;
mod levels;
mod memberships;
mod old_versions;
mod owned;

use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::room::{ALICE, BOB, Room, VERSIONS, What, levels, state};

/// A lively room of each version.
fn each(story: impl Fn(Room, OwnedEventId)) {
    for version in VERSIONS {
        let (room, last) = Room::lively(version);
        story(room, last);
    }
}

fn rule(room: &mut Room, last: &OwnedEventId, join_rule: &str) -> OwnedEventId {
    room.send(
        &[last.clone()],
        ALICE,
        &state("m.room.join_rules", "", json!({ "join_rule": join_rule })),
    )
}

/// The levels of a lively room, changed.
fn changed(room: &Room, change: impl FnOnce(&mut Value)) -> What {
    let mut users = json!({ BOB: 50 });
    if !room.rules.auth.privileged_creators {
        users[ALICE] = json!(100);
    }
    let mut content = json!({ "users": users });
    change(&mut content);
    levels(content)
}

/// The rule against a knock where nobody may knock: older versions don't know the membership.
fn no_knock(room: &Room) -> &'static str {
    if room.rules.auth.knock {
        "auth 5.7.1"
    } else {
        "auth 5.8"
    }
}
