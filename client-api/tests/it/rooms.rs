//! Making rooms, membership, events, state, aliases, the directory.

use http::Method;
use serde_json::{Value, json};

use crate::{
    asking::{HOSTILE, each_server, encoded, text},
    members::membership,
};

#[tokio::test]
async fn a_room_is_made_as_asked() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        for version in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"] {
            let alias = format!("den{version}");
            let room = ada
                .create_room(json!({
                    "room_version": version, "name": "Den", "topic": "A \u{0} topic",
                    "room_alias_name": alias, "visibility": "public", "preset": "private_chat",
                    "invite": [bob.id], "is_direct": true,
                    "creation_content": { "m.federate": false, "org.x": 1 },
                    "initial_state": [
                        { "type": "m.room.guest_access", "content": { "guest_access": "forbidden" } },
                        { "type": "org.x", "state_key": "k", "content": { "a": HOSTILE } },
                    ],
                    "power_level_content_override": { "events": { "org.x": 75 } },
                }))
                .await;
            assert_eq!(room.contains(':'), version != "12");
            let create = ada.state(&room, "m.room.create", "").await.ok();
            assert_eq!(create["room_version"], version);
            assert_eq!(create["m.federate"], false);
            assert_eq!(create["org.x"], 1);
            assert_eq!(ada.state(&room, "m.room.name", "").await.ok()["name"], "Den");
            assert_eq!(ada.state(&room, "m.room.topic", "").await.ok()["topic"], "A \u{0} topic");
            assert_eq!(ada.state(&room, "org.x", "k").await.ok()["a"], json!(HOSTILE));
            let levels = ada.state(&room, "m.room.power_levels", "").await.ok();
            assert_eq!(levels["events"]["org.x"], 75);
            let canonical = ada.state(&room, "m.room.canonical_alias", "").await.ok();
            assert_eq!(canonical["alias"], format!("#{alias}:here.test"));
            let rules = ada.state(&room, "m.room.join_rules", "").await.ok();
            assert_eq!(rules["join_rule"], "invite");
            let invite = ada.state(&room, "m.room.member", &bob.id).await.ok();
            assert_eq!(invite["membership"], "invite");
            assert_eq!(invite["is_direct"], true);
            bob.join(&format!("#{alias}:here.test")).await;
            assert_eq!(membership(&ada, &room, &bob.id).await, "join");
            let listed = ada.get(&format!("/directory/list/room/{}", encoded(&room))).await.ok();
            assert_eq!(listed["visibility"], "public");
        }
    })
    .await;
}

#[tokio::test]
async fn rooms_that_cannot_be_made() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let create = async |body: Value| ada.post("/createRoom", body).await;
        create(json!({ "room_version": "99" }))
            .await
            .fails(400, "M_UNSUPPORTED_ROOM_VERSION");
        create(json!({ "room_alias_name": "a:b" }))
            .await
            .fails(400, "M_INVALID_PARAM");
        create(json!({ "room_alias_name": "" }))
            .await
            .fails(400, "M_INVALID_PARAM");
        create(json!({ "room_alias_name": "\u{0}" }))
            .await
            .fails(400, "M_INVALID_PARAM");
        create(json!({ "preset": "nonsense" }))
            .await
            .fails(400, "M_BAD_JSON");
        create(json!({ "invite": ["nobody"] }))
            .await
            .fails(400, "M_BAD_JSON");
        create(json!({ "initial_state": [{ "type": "x" }] }))
            .await
            .fails(400, "M_BAD_JSON");
        create(json!({ "creation_content": 7 }))
            .await
            .fails(400, "M_BAD_JSON");
        let twice = json!({ "room_alias_name": "den" });
        create(twice.clone()).await.ok();
        create(twice).await.fails(400, "M_ROOM_IN_USE");
        assert_eq!(
            ada.get("/joined_rooms").await.ok()["joined_rooms"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_is_stored_once_and_as_it_was() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let phone = server.login("ada").await;
        let eve = server.register("eve").await;
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        let path = |kind: &str, txn: &str| {
            format!("/rooms/{}/send/{}/{}", encoded(&room), encoded(kind), encoded(txn))
        };
        let content = json!({ "msgtype": "m.text", "body": "hello" });
        let first = ada.put(&path("m.room.message", "1"), content.clone()).await.ok();
        let again = ada.put(&path("m.room.message", "1"), json!({ "other": 1 })).await.ok();
        assert_eq!(first, again);
        let other_kind = ada.put(&path("org.x", "1"), content.clone()).await.ok();
        let other_device = phone.put(&path("m.room.message", "1"), content.clone()).await.ok();
        assert_ne!(first, other_kind);
        assert_ne!(first, other_device);
        let r0 = format!("/_matrix/client/r0{}", path("m.room.message", "1"));
        let old = server.text(Method::PUT, &r0, Some(&ada.token), content.to_string()).await.ok();
        assert_eq!(first, old);

        for hostile in HOSTILE {
            let content = json!({ "body": hostile, hostile: [hostile, { hostile: 9_007_199_254_740_991_i64 }] });
            let sent = ada.put(&path("m.room.message", hostile), content.clone()).await.ok();
            let event = format!("/rooms/{}/event/{}", encoded(&room), encoded(&text(&sent["event_id"])));
            assert_eq!(ada.get(&event).await.ok()["content"], content);
            let again = ada.put(&path("m.room.message", hostile), content).await.ok();
            assert_eq!(sent, again);
        }

        eve.put(&path("m.room.message", "1"), content.clone()).await.fails(403, "M_FORBIDDEN");
        let send = async |body: &str| {
            let path = format!("/_matrix/client/v3{}", path("m.room.message", "bad"));
            server.text(Method::PUT, &path, Some(&ada.token), body.to_owned()).await
        };
        send("").await.fails(400, "M_NOT_JSON");
        send("{").await.fails(400, "M_NOT_JSON");
        send("[]").await.fails(400, "M_BAD_JSON");
        send("7").await.fails(400, "M_BAD_JSON");
        send("{\"a\": 1, \"a\": 2}").await.fails(400, "M_BAD_JSON");
        send("{\"a\": 9007199254740992}").await.fails(400, "M_BAD_JSON");
        send("{\"a\": 1.5}").await.fails(400, "M_BAD_JSON");
        assert!(send("{\"a\": \"\\ud800\"}").await.status.is_client_error());
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        assert!(send(&deep).await.status.is_client_error());
        let large = json!({ "body": "x".repeat(65_536) }).to_string();
        send(&large).await.fails(413, "M_TOO_LARGE");
        let long = "t".repeat(256);
        ada.put(&path(&long, "kind"), json!({})).await.fails(413, "M_TOO_LARGE");
        ada.put(&path("m.x", &long), json!({})).await.fails(400, "M_INVALID_PARAM");
        ada.put(&path("m.room.create", "c"), json!({})).await.fails(400, "M_BAD_JSON");
        let nowhere = format!("/rooms/{}/send/m.x/1", encoded("!nowhere:here.test"));
        assert!(ada.put(&nowhere, json!({})).await.status.is_client_error());
    })
    .await;
}

#[tokio::test]
async fn state_is_written_and_read() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let eve = server.register("eve").await;
        let room = ada.create_room(json!({})).await;
        for key in HOSTILE.into_iter().chain([""]) {
            let content = json!({ "key": key });
            let sent = ada
                .set_state(&room, "org.x", key, content.clone())
                .await
                .ok();
            let same = ada
                .set_state(&room, "org.x", key, content.clone())
                .await
                .ok();
            assert_eq!(sent, same, "unchanged state isn't repeated");
            assert_eq!(ada.state(&room, "org.x", key).await.ok(), content);
            let path = format!(
                "/rooms/{}/state/org.x/{}?format=event",
                encoded(&room),
                encoded(key)
            );
            let event = ada.get(&path).await.ok();
            assert_eq!(event["event_id"], sent["event_id"]);
            assert_eq!(event["state_key"], key);
            assert_eq!(event["room_id"], room.as_str());
        }
        let without_key = format!("/rooms/{}/state/org.x", encoded(&room));
        assert_eq!(ada.get(&without_key).await.ok()["key"], "");
        ada.put(&without_key, json!({ "key": "new" })).await.ok();
        assert_eq!(ada.state(&room, "org.x", "").await.ok()["key"], "new");

        let all = ada
            .get(&format!("/rooms/{}/state", encoded(&room)))
            .await
            .ok();
        let all = all.as_array().unwrap();
        assert_eq!(
            all.iter().filter(|event| event["type"] == "org.x").count(),
            HOSTILE.len() + 1
        );
        assert!(all.iter().all(|event| event["event_id"].is_string()));

        ada.state(&room, "org.none", "")
            .await
            .fails(404, "M_NOT_FOUND");
        eve.state(&room, "org.x", "")
            .await
            .fails(403, "M_FORBIDDEN");
        eve.get(&format!("/rooms/{}/state", encoded(&room)))
            .await
            .fails(403, "M_FORBIDDEN");
        eve.set_state(&room, "org.x", "", json!({}))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.set_state(
            &room,
            "m.room.member",
            "@x:here.test",
            json!({ "membership": 7 }),
        )
        .await
        .fails(403, "M_FORBIDDEN");
        ada.set_state(&room, "m.room.create", "", json!({}))
            .await
            .fails(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn who_has_left_sees_the_state_as_it_was_then() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_room(json!({})).await;
        ada.set_state(&room, "org.x", "", json!({ "key": "new" }))
            .await
            .ok();
        ada.post(
            &format!("/rooms/{}/invite", encoded(&room)),
            json!({ "user_id": bob.id }),
        )
        .await
        .ok();
        bob.join(&room).await;
        bob.post(&format!("/rooms/{}/leave", encoded(&room)), json!({}))
            .await
            .ok();
        ada.set_state(&room, "org.x", "", json!({ "key": "later" }))
            .await
            .ok();
        assert_eq!(bob.state(&room, "org.x", "").await.ok()["key"], "new");
    })
    .await;
}

#[tokio::test]
async fn redactions() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        for version in ["1", "3", "10", "12"] {
            let room = ada
                .create_room(json!({ "preset": "public_chat", "room_version": version }))
                .await;
            bob.join(&room).await;
            let said = ada.say(&room, "regret").await;
            let path = |event: &str, txn: &str| {
                format!("/rooms/{}/redact/{}/{txn}", encoded(&room), encoded(event))
            };
            bob.put(&path(&said, "1"), json!({}))
                .await
                .fails(403, "M_FORBIDDEN");
            let done = ada
                .put(&path(&said, "1"), json!({ "reason": "r \u{0}" }))
                .await
                .ok();
            assert_eq!(ada.put(&path(&said, "1"), json!({})).await.ok(), done);
            let event = format!("/rooms/{}/event/{}", encoded(&room), encoded(&said));
            let redacted = bob.get(&event).await.ok();
            assert_eq!(redacted["content"], json!({}));
            assert_eq!(
                redacted["unsigned"]["redacted_because"]["event_id"],
                done["event_id"]
            );

            // As an event, in any version.
            let said = bob.say(&room, "again").await;
            let send = format!("/rooms/{}/send/m.room.redaction/2", encoded(&room));
            bob.put(&send, json!({ "redacts": said })).await.ok();
            let event = format!("/rooms/{}/event/{}", encoded(&room), encoded(&said));
            assert_eq!(ada.get(&event).await.ok()["content"], json!({}));
            bob.put(&send.replace("/2", "/3"), json!({}))
                .await
                .fails(400, "M_BAD_JSON");
            bob.put(&path("nonsense", "4"), json!({}))
                .await
                .fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn what_clients_rely_on_at_the_edges() {
    each_server(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada
            .create_room(json!({ "preset": "public_chat", "room_version": "11" }))
            .await;
        let path = |verb: &str| format!("/rooms/{}/{verb}", encoded(&room));

        // What a client says of its joining is part of the event, but for what only servers say.
        let body = json!({ "org.test.from": "a link", "reason": "curious", "membership": "ban" });
        bob.post(&path("join"), body).await.ok();
        let member = format!("state/m.room.member/{}", encoded(&bob.id));
        let content = ada.get(&path(&member)).await.ok();
        assert_eq!(content["membership"], "join");
        assert_eq!(content["org.test.from"], "a link");
        assert_eq!(content["reason"], "curious");

        // Both keys are there for who has neither.
        let joined = ada.get(&path("joined_members")).await.ok();
        let bobs = joined["joined"][&bob.id].as_object().unwrap();
        assert!(bobs.contains_key("display_name") && bobs.contains_key("avatar_url"));

        // A timeline from the room's beginning has a `prev_batch` with which members can be asked for.
        let sync = ada.get("/sync").await.ok();
        let before = text(&sync["rooms"]["join"][&room]["timeline"]["prev_batch"]);
        let members = ada.get(&path(&format!("members?at={before}"))).await.ok();
        let members = members["chunk"].as_array().unwrap();
        assert_eq!(members.len(), 1, "{members:?}");
        assert_eq!(members[0]["state_key"], ada.id);

        // Who can't read the room isn't told first that the question is wrong.
        ada.get(&path("messages"))
            .await
            .fails(400, "M_MISSING_PARAM");
        let since = text(&bob.get("/sync").await.ok()["next_batch"]);
        ada.post(&path("forget"), json!({}))
            .await
            .fails(400, "M_UNKNOWN");
        bob.post(&path("leave"), json!({})).await.ok();
        bob.post(&path("forget"), json!({})).await.ok();
        bob.get(&path("messages")).await.fails(403, "M_FORBIDDEN");
        // Bob's other devices hear that he left; who comes later doesn't.
        let news = bob.get(&format!("/sync?since={since}")).await.ok();
        assert!(news["rooms"]["leave"][&room].is_object(), "{news}");
        let leavers = encoded(r#"{"room":{"include_leave":true}}"#);
        let all = bob.get(&format!("/sync?filter={leavers}")).await.ok();
        assert!(all["rooms"]["leave"][&room].is_null());

        // Nobody has the power for these.
        let create = json!({ "room_version": "11", "more": true });
        ada.put(&path("state/m.room.create/"), create)
            .await
            .fails(400, "M_BAD_JSON");
        let room = ada.create_room(json!({ "room_version": "12" })).await;
        let levels = format!("/rooms/{}/state/m.room.power_levels/", encoded(&room));
        ada.put(&levels, json!({ "users": { ada.id.as_str(): 100 } }))
            .await
            .fails(400, "M_BAD_JSON");
    })
    .await;
}
