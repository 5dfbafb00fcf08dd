//! Rules 1 and 4: create events, and what they close.

use rhizome_protocol::{
    auth::authorize,
    draft::{Draft, Place, build},
    sign::KeyPair,
};
use ruma::{OwnedEventId, RoomId, server_name};
use serde_json::{Value, json};

use crate::room::{ALICE, BOB, Room, VERSIONS, member, object, state, user};

#[test]
fn rooms_that_do_not_federate() {
    for version in VERSIONS {
        let mut room = Room::bare(version, json!({"m.federate": false}));
        let last = room.send_all(
            &[room.create.clone()],
            &[
                (ALICE, member(ALICE, "join")),
                (
                    ALICE,
                    state("m.room.join_rules", "", json!({"join_rule": "public"})),
                ),
            ],
        );
        assert_eq!(room.denied(&last, BOB, &member(BOB, "join")), "auth 4");
        room.send(&[last], "@ann:one.org", &member("@ann:one.org", "join"));
    }
}

fn create(
    version: &str,
    sender: &str,
    room_id: Option<&str>,
    prev: &[OwnedEventId],
    content: Value,
) -> Result<(), &'static str> {
    let rules = rhizome_protocol::RoomRules::named(version).unwrap();
    let draft = Draft {
        room_id: room_id.map(|id| RoomId::parse(id).unwrap()),
        sender: user(sender),
        kind: "m.room.create".into(),
        state_key: Some(String::new()),
        content: object(content),
        redacts: None,
    };
    let place = Place {
        prev_events: prev.to_vec(),
        depth: 1,
        origin_server_ts: 1,
        ..Place::default()
    };
    let key = KeyPair::from_seed("a", &[1; 32]).unwrap();
    let event = build(rules, &draft, &place, server_name!("one.org"), &key)
        .map_err(|rejection| rejection.rule)?;
    let nothing: &[std::sync::Arc<rhizome_protocol::Pdu>] = &[];
    authorize(&event, nothing).map_err(|rejection| rejection.rule)
}

#[test]
fn forged_create_events() {
    let room = Some("!r:one.org");
    for version in &VERSIONS[..11] {
        assert_eq!(
            create(version, ALICE, room, &[], json!({"room_version": version})),
            Ok(())
        );
        assert_eq!(create(version, ALICE, room, &[], json!({})), Ok(()));
        assert_eq!(
            create(version, BOB, room, &[], json!({})),
            Err("auth 1.2"),
            "another server's room id"
        );
        assert_eq!(
            create(version, ALICE, Some("!r"), &[], json!({})),
            Err("auth 1.2")
        );
        assert_eq!(
            create(version, ALICE, None, &[], json!({})),
            Err("PDU format")
        );
    }
    assert_eq!(
        create("12", ALICE, None, &[], json!({"room_version": "12"})),
        Ok(())
    );
    assert_eq!(create("12", ALICE, room, &[], json!({})), Err("auth 1.2"));
    for creators in [
        json!("@a:b"),
        json!(["a"]),
        json!([1]),
        json!(["@a:b", "@c"]),
        json!({}),
        json!(null),
    ] {
        assert_eq!(
            create(
                "12",
                ALICE,
                None,
                &[],
                json!({"additional_creators": creators})
            ),
            Err("auth 1.4")
        );
        assert_eq!(
            create(
                "11",
                ALICE,
                room,
                &[],
                json!({"additional_creators": creators})
            ),
            Ok(())
        );
    }
    for version in VERSIONS {
        let room = if version == "12" { None } else { room };
        let prev = [OwnedEventId::try_from("$before").unwrap()];
        assert_eq!(
            create(version, ALICE, room, &prev, json!({})),
            Err("auth 1.1")
        );
        for odd in [json!("99"), json!(11), json!(null)] {
            assert_eq!(
                create(version, ALICE, room, &[], json!({"room_version": odd})),
                Err("auth 1.3")
            );
        }
    }
}
