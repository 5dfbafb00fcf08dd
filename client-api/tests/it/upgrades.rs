//! A room is replaced by one of another version.

use serde_json::{Value, json};

use crate::{
    asking::{Server, User, each_server, encoded, text},
    e2ee::several::several,
    harness::{self, esc},
    members::membership,
};
use http::Method;
use rhizome_storage::testing::eventually;

async fn upgrade(user: &User, room: &str, body: Value) -> crate::asking::HttpAnswer {
    let path = format!("/rooms/{}/upgrade", encoded(room));
    user.post(&path, body).await
}

async fn upgraded(user: &User, room: &str, version: &str) -> String {
    let answer = upgrade(user, room, json!({ "new_version": version })).await;
    text(&answer.ok()["replacement_room"])
}

async fn state(user: &User, room: &str, kind: &str) -> Value {
    user.state(room, kind, "").await.ok()
}

async fn furnished(ada: &User, version: &str) -> String {
    let room = ada
        .create_room(json!({
            "room_version": version, "preset": "public_chat", "visibility": "public",
            "name": "Den", "topic": "Old", "room_alias_name": format!("den{version}"),
            "creation_content": { "type": "org.x.kind", "m.federate": false },
            "initial_state": [
                { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
                { "type": "m.room.server_acl", "content": { "allow": ["*"], "deny": ["bad.test"] } },
                { "type": "m.room.avatar", "content": { "url": "mxc://here.test/a" } },
                { "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } },
                { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
                { "type": "org.x", "content": { "a": 1 } },
            ],
            "power_level_content_override": { "events": { "org.x": 30, "m.room.tombstone": 50 } },
        }))
        .await;
    let more = format!(
        "/directory/room/{}",
        encoded(&format!("#more{version}:here.test"))
    );
    ada.put(&more, json!({ "room_id": room })).await.ok();
    room
}

#[tokio::test]
async fn all_that_makes_the_room_goes_along() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        for version in [
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
        ] {
            let next = if version == "11" { "12" } else { "11" };
            let old = furnished(&ada, version).await;
            bob.join(&old).await;
            eve.join(&old).await;
            let ban = json!({ "user_id": eve.id, "reason": "spam" });
            ada.post(&format!("/rooms/{}/ban", encoded(&old)), ban)
                .await
                .ok();
            let new = upgraded(&ada, &old, next).await;
            ends(&ada, &old, &new).await;

            let create = state(&ada, &new, "m.room.create").await;
            assert_eq!(create["room_version"], next);
            assert_eq!(create["type"], "org.x.kind");
            assert_eq!(create["m.federate"], false);
            assert_eq!(create["predecessor"]["room_id"], old.as_str());
            // Where the room's id is the event's hash, that can't name what is made of it.
            let path = format!(
                "/rooms/{}/state/m.room.tombstone/?format=event",
                encoded(&old)
            );
            let tombstone = ada.get(&path).await.ok()["event_id"].clone();
            let named = create["predecessor"].get("event_id");
            assert_eq!(named, (next != "12").then_some(&tombstone));
            for (kind, content) in [
                ("m.room.name", json!({ "name": "Den" })),
                ("m.room.avatar", json!({ "url": "mxc://here.test/a" })),
                (
                    "m.room.encryption",
                    json!({ "algorithm": "m.megolm.v1.aes-sha2" }),
                ),
                (
                    "m.room.server_acl",
                    json!({ "allow": ["*"], "deny": ["bad.test"] }),
                ),
                (
                    "m.room.history_visibility",
                    json!({ "history_visibility": "joined" }),
                ),
                ("m.room.guest_access", json!({ "guest_access": "can_join" })),
                ("m.room.join_rules", json!({ "join_rule": "public" })),
                (
                    "m.room.canonical_alias",
                    json!({ "alias": format!("#den{version}:here.test") }),
                ),
            ] {
                assert_eq!(state(&ada, &new, kind).await, content, "{version}");
            }
            assert_eq!(state(&ada, &new, "m.room.topic").await["topic"], "Old");
            ada.state(&new, "org.x", "").await.fails(404, "M_NOT_FOUND");
            let levels = state(&ada, &new, "m.room.power_levels").await;
            assert_eq!(levels["events"]["org.x"], 30);
            let ban = ada.state(&new, "m.room.member", &eve.id).await.ok();
            assert_eq!(
                (&ban["membership"], &ban["reason"]),
                (&json!("ban"), &json!("spam"))
            );
            assert_eq!(membership(&ada, &new, &ada.id).await, "join");
            ada.state(&new, "m.room.member", &bob.id)
                .await
                .fails(404, "M_NOT_FOUND");
            bob.join(&format!("#more{version}:here.test")).await;
            assert_eq!(membership(&ada, &new, &bob.id).await, "join");
            // It can be done again, as often as people like.
            let third = upgraded(&ada, &new, "12").await;
            bob.join(&format!("#den{version}:here.test")).await;
            assert_eq!(membership(&ada, &third, &bob.id).await, "join");
        }
    })
    .await;
}

/// The old room leads to the new one, has no names any more, isn't listed, and is silent.
async fn ends(ada: &User, old: &str, new: &str) {
    let tombstone = state(ada, old, "m.room.tombstone").await;
    assert_eq!(tombstone["replacement_room"], new);
    assert_eq!(state(ada, old, "m.room.canonical_alias").await, json!({}));
    let levels = state(ada, old, "m.room.power_levels").await;
    assert_eq!(
        (&levels["events_default"], &levels["invite"]),
        (&json!(50), &json!(50))
    );
    for (room, listed) in [(old, "private"), (new, "public")] {
        let list = ada
            .get(&format!("/directory/list/room/{}", encoded(room)))
            .await
            .ok();
        assert_eq!(list["visibility"], listed);
    }
}

#[tokio::test]
async fn only_who_may_end_the_room_replaces_it() {
    each_server(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let carol = server.register("carol").await;
        let old = furnished(&ada, "10").await;
        for user in [&bob, &carol] {
            user.join(&old).await;
        }
        upgrade(&ada, &old, json!({ "new_version": "99" }))
            .await
            .fails(400, "M_UNSUPPORTED_ROOM_VERSION");
        upgrade(&ada, &old, json!({}))
            .await
            .fails(400, "M_BAD_JSON");
        let creators = json!({ "new_version": "12", "additional_creators": ["nobody"] });
        upgrade(&ada, &old, creators).await.fails(400, "M_BAD_JSON");
        let wanted = || json!({ "new_version": "12" });
        upgrade(&bob, &old, wanted())
            .await
            .fails(403, "M_FORBIDDEN");
        let dan = server.register("dan").await;
        upgrade(&dan, &old, wanted())
            .await
            .fails(403, "M_FORBIDDEN");
        upgrade(&dan, "!nowhere:here.test", wanted())
            .await
            .fails(403, "M_FORBIDDEN");
        ada.state(&old, "m.room.tombstone", "")
            .await
            .fails(404, "M_NOT_FOUND");

        // Who may end the room, but not take others the power to speak, leaves it to others to do so.
        let mut levels = state(&ada, &old, "m.room.power_levels").await;
        levels["events"]["m.room.power_levels"] = 100.into();
        levels["users"] = json!({ ada.id.clone(): 100, bob.id.clone(): 60, carol.id.clone(): 40 });
        ada.set_state(&old, "m.room.power_levels", "", levels)
            .await
            .ok();
        let body =
            json!({ "new_version": "12", "additional_creators": [carol.id, bob.id, carol.id] });
        let new = text(&upgrade(&bob, &old, body).await.ok()["replacement_room"]);
        let create = state(&bob, &new, "m.room.create").await;
        assert_eq!(create["additional_creators"], json!([carol.id]));
        let levels = state(&bob, &new, "m.room.power_levels").await;
        assert_eq!(levels["users"], json!({ ada.id.clone(): 100 }));
        assert_eq!(levels["events"]["m.room.tombstone"], 150);
        assert_eq!(
            state(&bob, &old, "m.room.power_levels").await["events_default"],
            0
        );
        assert_eq!(state(&bob, &old, "m.room.canonical_alias").await, json!({}));
    })
    .await;
}

#[tokio::test]
async fn a_space_keeps_its_rooms_and_a_restricted_room_its_conditions() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let space = json!({ "creation_content": { "type": "m.space" }, "room_version": "9" });
        let space = ada.create_room(space).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        let inside = json!({ "room_version": "9", "initial_state":
            [{ "type": "m.room.join_rules", "content": rules }] });
        let inside = ada.create_room(inside).await;
        let via = json!({ "via": ["here.test"], "suggested": true });
        ada.set_state(&space, "m.space.child", &inside, via.clone())
            .await
            .ok();
        ada.set_state(&space, "m.space.child", "!gone:here.test", json!({}))
            .await
            .ok();

        let new = upgraded(&ada, &inside, "11").await;
        assert_eq!(state(&ada, &new, "m.room.join_rules").await, rules);
        let new = upgraded(&ada, &inside, "6").await;
        assert_eq!(
            state(&ada, &new, "m.room.join_rules").await["join_rule"],
            "invite"
        );
        let new = upgraded(&ada, &space, "12").await;
        assert_eq!(ada.state(&new, "m.space.child", &inside).await.ok(), via);
        let gone = ada.state(&new, "m.space.child", "!gone:here.test");
        gone.await.fails(404, "M_NOT_FOUND");
        assert_eq!(state(&ada, &new, "m.room.create").await["type"], "m.space");
    })
    .await;
}

/// Several at once share a replacement, or the last one's counts; who asks when the room has ended gets another.
#[tokio::test]
async fn several_upgrades_at_once() {
    each_server(async |server: Server| {
        let ada = server.register("ada").await;
        let old = ada.create_room(json!({ "room_alias_name": "den" })).await;
        let upgrades = (0..5).map(|_| {
            let (ada, old) = (ada.clone(), old.clone());
            tokio::spawn(async move { upgraded(&ada, &old, "12").await })
        });
        let upgrades: Vec<_> = upgrades.collect();
        let mut made = Vec::new();
        for upgrade in upgrades {
            made.push(upgrade.await.unwrap());
        }
        let leads = text(&state(&ada, &old, "m.room.tombstone").await["replacement_room"]);
        assert!(made.contains(&leads));
        let another = upgraded(&ada, &old, "12").await;
        assert!(!made.contains(&another));
        let leads = text(&state(&ada, &old, "m.room.tombstone").await["replacement_room"]);
        assert_eq!(leads, another);
    })
    .await;
}

#[tokio::test]
async fn people_of_other_servers_follow() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let old = alice.create_public().await;
        assert!(all.join(&bob, &old).await);
        let path = format!("/rooms/{}/upgrade", esc(&old));
        let answer = alice
            .ok(Method::POST, &path, json!({ "new_version": "11" }))
            .await;
        let new = answer["replacement_room"].as_str().unwrap().to_owned();
        let seen = async |user: &harness::User| {
            let tombstone = format!("/rooms/{}/state/m.room.tombstone/", esc(&old));
            user.get(&tombstone).await.1["replacement_room"] == new.as_str()
        };
        eventually("the end of the room is known", async || seen(&bob).await).await;
        assert!(all.join(&bob, &new).await);
        let create = bob
            .read(&format!("/rooms/{}/state/m.room.create/", esc(&new)))
            .await;
        assert_eq!(create["predecessor"]["room_id"], old.as_str());
    })
    .await;
}
