//! State that belongs to users (MSC3757).

use rhizome_protocol::{Rejection, RoomRules};
use serde_json::json;

use crate::room::{ALICE, BOB, CARL, DORA, Room, state};

#[test]
fn state_belongs_to_whom_its_key_names_and_to_whoever_has_more_power() {
    for version in ["org.matrix.msc3757.10", "org.matrix.msc3757.11"] {
        let (mut room, last) = Room::lively(version);
        let own = |key: &str| {
            let content = json!({ "key": key });
            state("org.x", key, content)
        };
        let power = json!({ "users": { ALICE: 100, BOB: 50 }, "events": { "org.x": 0 } });
        let last = room.send(&[last], ALICE, &crate::room::levels(power));
        for (who, key) in [
            (CARL, CARL.to_owned()),
            (CARL, format!("{CARL}_phone:@!_")),
            (BOB, format!("{CARL}_phone")),
            (ALICE, BOB.to_owned()),
            (BOB, DORA.to_owned()),
            (CARL, "nobody's_@".to_owned()),
            (CARL, format!("{CARL}_{}", "x".repeat(255))),
        ] {
            room.send(&[last.clone()], who, &own(&key));
        }
        for (who, key) in [
            (CARL, BOB.to_owned()),
            (CARL, format!("{DORA}_phone")),
            (BOB, ALICE.to_owned()),
            (CARL, format!("{CARL}x_phone")),
            (CARL, format!("{CARL}.evil_phone")),
        ] {
            assert_eq!(room.denied(&last, who, &own(&key)), "auth 9", "{key}");
        }
        for key in [
            "@oops".to_owned(),
            format!("{ALICE}@_phone"),
            format!("{ALICE}_{}", "x".repeat(256)),
            "x".repeat(256),
        ] {
            let rule = room.denied(&last, ALICE, &own(&key));
            assert_eq!(rule, Rejection::OWNED_KEY, "{key}");
        }
    }
}

#[test]
fn versions_of_proposals_are_known_but_not_offered() {
    let offered: Vec<_> = RoomRules::supported().map(RoomRules::id).collect();
    assert_eq!(offered.len(), 12);
    for rules in RoomRules::known().skip(12) {
        assert!(!offered.contains(&rules.id()));
        assert_eq!(RoomRules::named(rules.id()), Some(rules));
    }
    assert_eq!(RoomRules::known().count(), 14);
}
