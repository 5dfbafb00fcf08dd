//! Events that came without their content, and whole copies of them. And create events that aren't the room's.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{
    Pdu,
    draft::{self, Draft, Place},
};
use rhizome_rooms::{
    Rooms,
    membership::Action,
    receive::{self, Gathered, Received},
};
use rhizome_storage::{Placement, Status};
use ruma::RoomId;
use serde_json::{Value, json};

use crate::rig::*;

async fn receive(rooms: &Rooms, pdu: &Arc<Pdu>) -> Received {
    receive::receive(rooms, pdu.clone(), &Gathered::default())
        .await
        .unwrap()
}

/// An event of a user of `by` upon the room's end there.
async fn upon(by: &Rooms, room: &RoomId, draft: &Draft) -> Arc<Pdu> {
    let prev = pdu(by, &ends(by, room).await[0]).await;
    let auth = auth_of(by, room, draft).await;
    forged(by, draft, &[prev], &auth, 7)
}

fn mangled(pdu: &Pdu) -> Arc<Pdu> {
    Arc::new(pdu.redacted())
}

fn levels(room: &RoomId, sender: &str, content: Value) -> Draft {
    state(room, sender, "m.room.power_levels", "", content)
}

/// A room of Alice's on `one` with Bob, who has power, on `two`, known to both.
async fn shared(one: &Rooms, two: &Rooms, version: &str) -> ruma::OwnedRoomId {
    let room = public_room_of(one, "@alice:one", version).await;
    join_via(one, two, &room, "@bob:two").await.unwrap();
    let mut users = json!({ "@bob:two": 50 });
    if version != "12" {
        users["@alice:one"] = json!(100);
    }
    let draft = levels(&room, "@alice:one", json!({ "users": users }));
    let power = sent(one, draft).await;
    assert_eq!(carry(one, two, &power).await, Received::Accepted);
    room
}

/// Up to version 10 a redaction takes away what inviting needs.
#[tokio::test]
async fn decisions_follow_the_whole_event() {
    each(|[one, two]: [_; 2]| async move {
        let room = shared(&one, &two, "10").await;
        changed(&two, &room, "@carl:two", "@carl:two", Action::Join).await;
        let draft = levels(
            &room,
            "@alice:one",
            json!({ "users": { "@alice:one": 100, "@bob:two": 50 }, "invite": 50 }),
        );
        let power = upon(&one, &room, &draft).await;
        assert_eq!(receive(&two, &mangled(&power)).await, Received::Accepted);
        let before = stored(&two, power.event_id()).await;
        let key = ("m.room.power_levels", "");
        let now = content(&two, &room, key.0, key.1).await.unwrap();
        assert!(now.get("invite").is_none());
        // So Carl may, and what that rests on is warm.
        changed(&two, &room, "@carl:two", "@dora:two", Action::Invite).await;

        assert_eq!(receive(&two, &power).await, Received::Known);
        let after = stored(&two, power.event_id()).await;
        assert_eq!(after.pdu, power);
        assert_eq!((after.no, after.order), (before.no, before.order));
        let now = content(&two, &room, key.0, key.1).await.unwrap();
        assert_eq!(now["invite"], 50);
        let refused = change(&two, &room, "@carl:two", "@emil:two", Action::Invite).await;
        assert!(refused.is_err());
        // Once more, and mangled again, change nothing.
        assert_eq!(receive(&two, &power).await, Received::Known);
        assert_eq!(receive(&two, &mangled(&power)).await, Received::Known);
        assert_eq!(stored(&two, power.event_id()).await.pdu, power);
        say(&two, &room, "@carl:two", "on it goes").await;
    })
    .await;
}

#[tokio::test]
async fn content_that_isnt_allowed_doesnt_come_in_later() {
    each(|[one, two]: [_; 2]| async move {
        let room = shared(&one, &two, "10").await;
        // Bob may not ask for more power than he has.
        let draft = levels(
            &room,
            "@bob:two",
            json!({ "users": { "@alice:one": 100, "@bob:two": 50 }, "invite": 100 }),
        );
        let power = upon(&two, &room, &draft).await;
        assert_eq!(receive(&one, &mangled(&power)).await, Received::Accepted);
        assert_eq!(receive(&one, &power).await, Received::Known);
        let kept = stored(&one, power.event_id()).await;
        assert_eq!(*kept.pdu, power.redacted());
        assert_eq!(kept.status, Status::Accepted);
    })
    .await;
}

/// Version 8 forgets who let a user in, so that the mangled join isn't allowed.
#[tokio::test]
async fn what_was_refused_for_want_of_its_content_is_decided_again() {
    each(|[one, two]: [_; 2]| async move {
        let room = shared(&one, &two, "8").await;
        let rule = json!({ "join_rule": "restricted", "allow": [] });
        let rule = set(&one, &room, "@alice:one", "m.room.join_rules", "", rule).await;
        assert_eq!(carry(&one, &two, &rule).await, Received::Accepted);
        let via = json!({ "membership": "join", "join_authorised_via_users_server": "@alice:one" });
        let draft = state(&room, "@carl:one", "m.room.member", "@carl:one", via);
        let join = upon(&one, &room, &draft).await;
        let refused = receive(&two, &mangled(&join)).await;
        assert!(matches!(refused, Received::Rejected(_)), "{refused:?}");
        assert_eq!(receive(&two, &join).await, Received::Accepted);
        let now = content(&two, &room, "m.room.member", "@carl:one").await;
        assert_eq!(now.unwrap()["membership"], "join");
        let stored = stored(&two, join.event_id()).await;
        assert_eq!((&stored.pdu, stored.status), (&join, Status::Accepted));
    })
    .await;
}

/// Up to version 10 a redaction that came mangled doesn't say what it redacts.
#[tokio::test]
async fn a_redaction_takes_effect_when_it_is_whole() {
    each(|[one, two]: [_; 2]| async move {
        let room = shared(&one, &two, "10").await;
        let target = say(&one, &room, "@alice:one", "secret").await;
        assert_eq!(carry(&one, &two, &target).await, Received::Accepted);
        let draft = Draft {
            kind: "m.room.redaction".into(),
            content: object(json!({})),
            redacts: Some(target.clone()),
            ..message(&room, "@alice:one", "")
        };
        let redaction = upon(&one, &room, &draft).await;
        assert_eq!(
            receive(&two, &mangled(&redaction)).await,
            Received::Accepted
        );
        assert!(stored(&two, &target).await.redacted_by.is_none());
        assert_eq!(receive(&two, &redaction).await, Received::Known);
        let redacted = stored(&two, &target).await;
        assert!(redacted.redacted_by.is_some() && redacted.pdu.content().is_empty());
    })
    .await;
}

/// What has no place in the history yet is known mangled, or whole: the whole one stays either way.
#[tokio::test]
async fn of_two_copies_the_whole_one_is_taken() {
    each(|[one, two]: [_; 2]| async move {
        let room = shared(&one, &two, "11").await;
        let outlier = async |pdu: Arc<Pdu>| {
            let outcome = receive::outliers(&two, &room, vec![pdu.clone()])
                .await
                .unwrap();
            assert!(outcome.accepted.contains(pdu.event_id()));
        };
        for first_whole in [false, true] {
            let topic = json!({ "topic": format!("{first_whole}") });
            let draft = state(&room, "@alice:one", "m.room.topic", "", topic);
            let topic = upon(&one, &room, &draft).await;
            let [first, second] = if first_whole {
                [topic.clone(), mangled(&topic)]
            } else {
                [mangled(&topic), topic.clone()]
            };
            outlier(first).await;
            outlier(second.clone()).await;
            let known = stored(&two, topic.event_id()).await;
            assert_eq!(known.placement, Placement::Outlier);
            assert_eq!(known.pdu, topic, "the first was whole: {first_whole}");
            // It gets its place by a mangled copy.
            assert_eq!(receive(&two, &mangled(&topic)).await, Received::Accepted);
            assert_eq!(stored(&two, topic.event_id()).await.pdu, topic);
            let now = content(&two, &room, "m.room.topic", "").await.unwrap();
            assert_eq!(now, json!({ "topic": format!("{first_whole}") }));
            assert_eq!(receive(&one, &topic).await, Received::Accepted);
        }
        // And what was an outlier without its content gets it with its place.
        let draft = state(
            &room,
            "@alice:one",
            "m.room.name",
            "",
            json!({ "name": "x" }),
        );
        let name = upon(&one, &room, &draft).await;
        outlier(mangled(&name)).await;
        assert_eq!(receive(&two, &name).await, Received::Accepted);
        assert_eq!(stored(&two, name.event_id()).await.pdu, name);
        let now = content(&two, &room, "m.room.name", "").await;
        assert_eq!(now, Some(json!({ "name": "x" })));
    })
    .await;
}

/// A create event of the room's server, but not the room's.
fn create(
    by: &Rooms,
    rules: &'static rhizome_protocol::RoomRules,
    room: &RoomId,
    key: Option<&str>,
) -> Arc<Pdu> {
    let draft = Draft {
        state_key: key.map(Into::into),
        ..state(
            room,
            "@alice:one",
            "m.room.create",
            "",
            json!({ "creator": "@alice:one", "room_version": rules.id() }),
        )
    };
    let place = Place {
        depth: 1,
        origin_server_ts: 77,
        ..Place::default()
    };
    Arc::new(draft::build(rules, &draft, &place, by.server_name(), by.key()).unwrap())
}

#[tokio::test]
async fn no_other_create_event_comes_in_by_any_door() {
    each(|[one, two]: [_; 2]| async move {
        for version in ["1", "3", "10", "11"] {
            let room = shared(&one, &two, version).await;
            let head = two.store().room(&room).await.unwrap().unwrap();
            let before = (ends(&two, &room).await, current(&two, &room).await);
            for key in [None, Some(""), Some("x")] {
                let live = create(&one, head.rules, &room, key);
                let outcome = receive(&two, &live).await;
                assert!(
                    matches!(outcome, Received::Rejected(_)),
                    "{key:?} {outcome:?}"
                );
                let other = create(&one, head.rules, &room, key.map(|_| "y"));
                let outcome = receive::outliers(&two, &room, vec![other.clone()])
                    .await
                    .unwrap();
                assert!(outcome.accepted.is_empty(), "{key:?}");
                // Nor as a part of a state that somebody tells.
                let draft = message(&room, "@alice:one", "upon it");
                let auth = auth_of(&one, &room, &draft).await;
                let upon = forged(&one, &draft, &[other.clone()], &auth, 8);
                let state = receive::state_map(&[other]);
                let gathered = Gathered {
                    states_after: HashMap::from([(upon.prev_events()[0].clone(), state)]),
                    ..Gathered::default()
                };
                let outcome = receive::receive(&two, upon, &gathered).await.unwrap();
                assert!(
                    !matches!(outcome, Received::Accepted),
                    "{key:?} {outcome:?}"
                );
            }
            assert_eq!(
                (ends(&two, &room).await, current(&two, &room).await),
                before
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_create_event_keeps_its_content() {
    each(|[one, two]: [_; 2]| async move {
        for version in ["1", "3", "10", "11", "12"] {
            let room = shared(&one, &two, version).await;
            let key = rhizome_protocol::StateKey::new("m.room.create", "");
            let create = current(&two, &room).await[&key].clone();
            let before = pdu(&two, &create).await;
            let mut draft = Draft {
                kind: "m.room.redaction".into(),
                content: object(json!({})),
                redacts: Some(create.clone()),
                ..message(&room, "@alice:one", "")
            };
            if before.rules().format.redacts_in_content {
                draft.content.insert("redacts".into(), json!(create));
            }
            let redaction = upon(&one, &room, &draft).await;
            assert_eq!(receive(&two, &redaction).await, Received::Accepted);
            let after = stored(&two, &create).await;
            assert_eq!(
                (&after.pdu, after.redacted_by),
                (&before, None),
                "{version}"
            );
        }
    })
    .await;
}
