//! Copies of events that came mangled, and the whole ones after them.

use rhizome_protocol::{Membership, Object, Pdu, draft::Draft};
use rhizome_rooms::send::SendOptions;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::{
    inbound::{forge, forge_message, newest},
    mean_events::{message, standing},
    world::{VERSIONS, each, eventually, json_of, still},
};

/// What comes of an event's content on its way through a mean server.
fn mangled(pdu: &Pdu) -> Value {
    let mut json = json_of(pdu);
    json["content"] = match pdu.membership() {
        Some(membership) => json!({ "membership": membership.as_str(), "displayname": "mean" }),
        None => json!({ "mean": true }),
    };
    json
}

/// A mean server is quicker with its copy of an event than the event's own. The whole one takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_mangled_copy_gives_way_to_the_whole_event() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carl) = (a.user("alice"), b.user("bob"), c.user("carl"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            c.join(&carl, &room, a).await.unwrap();
            eventually("all are in", async || {
                let state = a.state(&room).await;
                state == c.state(&room).await && state == b.state(&room).await
            })
            .await;
            // Nothing of it comes by itself.
            world.network.cut(&c.name);
            let acl = json!({ "allow": ["*"], "deny": [b.name] });
            let prev = newest(a, &room).await;
            let kind = "m.room.server_acl";
            let acl = forge(a, 1, &alice, &room, &[&prev], kind, Some(""), acl).await;
            let content = json!({ "membership": "join", "displayname": "Alice" });
            let prevs = [acl.event_id()];
            let kind = "m.room.member";
            let key = Some(alice.as_str());
            let name = forge(a, 1, &alice, &room, &prevs, kind, key, content).await;
            let prevs = [name.event_id()];
            let content = json!({ "body": "now" });
            let said = forge(a, 1, &alice, &room, &prevs, "m.room.message", None, content).await;
            world.network.mend(&c.name);

            let events = [&acl, &name, &said];
            let copies: Vec<Value> = events.iter().map(|event| mangled(event)).collect();
            let txn = format!("mangled-{version}");
            let told = b.transaction(c, &txn, &copies, &[]).await;
            assert_eq!(told.as_object().unwrap().len(), 3, "{told}");
            for event in events {
                let stored = c.event(event.event_id()).await.unwrap();
                assert_eq!(stored.pdu.json(), event.redacted().json());
            }
            let placed = c.event(acl.event_id()).await.unwrap().order;
            let before = standing(c, &room).await;

            let whole: Vec<Value> = events.iter().map(|event| json_of(event)).collect();
            let told = a.transaction(c, &txn, &whole, &[]).await;
            let taken = told
                .as_object()
                .unwrap()
                .values()
                .all(|of| of == &json!({}));
            assert!(taken, "{version}: {told}");
            for event in events {
                let stored = c.event(event.event_id()).await.unwrap();
                assert_eq!(stored.pdu.json(), event.json(), "{version}");
            }
            assert_eq!(c.event(acl.event_id()).await.unwrap().order, placed);
            assert_eq!(standing(c, &room).await, before);
            assert_eq!(c.heard(&room).await, ["now"]);
            assert_eq!(c.membership(&room, &alice).await, Some(Membership::Join));
            // And it has its effect.
            let late = b
                .transaction(c, &format!("late-{version}"), &copies, &[])
                .await;
            assert!(late[acl.event_id().as_str()]["error"].is_string(), "{late}");
        }
    })
    .await;
}

/// Both copies wait for what they build on.
#[tokio::test(flavor = "multi_thread")]
async fn a_mangled_copy_that_waits_gives_way_too() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carl) = (a.user("alice"), b.user("bob"), c.user("carl"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        c.join(&carl, &room, a).await.unwrap();
        let first = message(a, 1, &alice, &room, json!({ "body": "first" })).await;
        let prevs = [first.event_id()];
        let second = forge_message(a, &alice, &room, &prevs, "second").await;
        world.network.cut(&a.name);
        world.network.cut(&b.name);
        b.transaction(c, "mangled", &[mangled(&second)], &[]).await;
        a.transaction(c, "whole", &[json_of(&second)], &[]).await;
        a.transaction(c, "first", &[json_of(&first)], &[]).await;
        eventually("both are heard", async || {
            c.heard(&room).await == ["first", "second"]
        })
        .await;
        world.network.mend(&a.name);
        world.network.mend(&b.name);
    })
    .await;
}

/// What a redaction took away doesn't come back by the whole event.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_event_doesnt_bring_back_what_was_redacted() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            for is_mangled in [false, true] {
                let said = message(b, 2, &bob, &room, json!({ "body": "secret" })).await;
                let (id, whole) = (said.event_id(), json_of(&said));
                let first = if is_mangled {
                    mangled(&said)
                } else {
                    whole.clone()
                };
                let txn = format!("{version}-{is_mangled}");
                b.transaction(a, &format!("first-{txn}"), &[first], &[])
                    .await;
                let mut draft = Draft {
                    room_id: Some(room.clone()),
                    sender: alice.clone(),
                    kind: "m.room.redaction".to_owned(),
                    state_key: None,
                    content: Object::new(),
                    redacts: Some(id.to_owned()),
                };
                draft.content.insert("redacts".into(), json!(id));
                let sent = rhizome_federation::local::send(&a.fed, draft, SendOptions::default());
                sent.await.unwrap();
                b.transaction(a, &format!("again-{txn}"), &[whole], &[])
                    .await;
                let stored = a.event(id).await.unwrap();
                assert!(stored.redacted_by.is_some());
                assert!(stored.pdu.content().is_empty());
            }
        }
    })
    .await;
}
