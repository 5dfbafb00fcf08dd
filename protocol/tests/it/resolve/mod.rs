//! State resolution as stories, and while events are missing.

mod incomplete;
mod stories;

use ruma::OwnedEventId;
use serde_json::json;

use crate::room::{ALICE, BOB, CARL, Room, VERSIONS};

/// The algorithms since version 2 tell these stories alike; version 1's are in `resolve_v1`.
fn each(story: impl Fn(Room, OwnedEventId)) {
    for version in &VERSIONS[1..] {
        let (room, last) = Room::lively(version);
        story(room, last);
    }
}

fn levels_of(room: &Room, bob: i64, carl: i64) -> serde_json::Value {
    let mut users = json!({BOB: bob, CARL: carl});
    if !room.rules.auth.privileged_creators {
        users[ALICE] = json!(100);
    }
    json!({ "users": users })
}
