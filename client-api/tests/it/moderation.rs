//! Moderators redact what banned people have sent, and see what was redacted.

use http::Method;
use rhizome_rooms::redact_banned::RedactBanned;
use rhizome_storage::{LogWork as _, Pos, Stretch};
use serde_json::{Value, json};

use crate::{
    e2ee::several::several,
    harness::{Server, User, esc, story},
};

/// What the reader does with all that has happened since a position; gives where that ends.
async fn cleaned(server: &Server, after: Pos) -> Pos {
    let store = &server.store;
    let upto = store.log().head();
    let stretch = Stretch {
        entries: store.log().read(after, upto, 10_000).await.unwrap(),
        after,
        upto,
        failures: 0,
    };
    let name = server.federation.server_name().to_owned();
    RedactBanned::new(store, name).work(&stretch).await.unwrap();
    upto
}

async fn event(reader: &User, room: &str, id: &str, query: &str) -> (u16, Value) {
    let path = format!("/rooms/{}/event/{}{query}", esc(room), esc(id));
    let (status, event) = reader.get(&path).await;
    (status.as_u16(), event)
}

/// Whether the event has its content, and the type of what redacted it.
async fn state_of(reader: &User, room: &str, id: &str) -> (bool, Value) {
    let (status, event) = event(reader, room, id, "").await;
    assert_eq!(status, 200, "{event}");
    let whole = event["content"].get("body").is_some();
    (whole, event["unsigned"]["redacted_because"]["type"].clone())
}

async fn remove(by: &User, what: &str, room: &str, user: &User, field: &str) {
    let body = json!({ "user_id": user.id, "reason": "spam", field: true });
    by.ok(Method::POST, &format!("/rooms/{}/{what}", esc(room)), body)
        .await;
}

const FIELD: &str = "org.matrix.msc4293.redact_events";

#[tokio::test]
async fn a_ban_redacts_what_was_sent_since_its_user_came() {
    story(|server| async move {
        let (ada, eve) = (server.register("ada").await, server.register("eve").await);
        let bob = server.register("bob").await;
        for (what, field) in [("ban", FIELD), ("kick", FIELD)] {
            let room = ada.create_public().await;
            eve.join(&room).await;
            bob.join(&room).await;
            let before = eve.say(&room, "before").await;
            eve.leave(&room).await;
            eve.join(&room).await;
            let spam = eve.say(&room, "spam").await;
            // A new name saves nothing.
            let path = format!("/profile/{}/displayname", esc(&eve.id));
            eve.ok(Method::PUT, &path, json!({ "displayname": what }))
                .await;
            let more = eve.say(&room, "more spam").await;
            let good = bob.say(&room, "hello").await;
            let at = cleaned(&server, Pos(0)).await;
            assert!(state_of(&ada, &room, &spam).await.0);
            remove(&ada, what, &room, &eve, field).await;
            cleaned(&server, at).await;
            for id in [&spam, &more] {
                assert_eq!(
                    state_of(&ada, &room, id).await,
                    (false, json!("m.room.member"))
                );
            }
            let (_, redacted) = event(&ada, &room, &spam, "").await;
            let because = &redacted["unsigned"]["redacted_because"];
            assert_eq!(because["content"]["reason"], "spam");
            for id in [&before, &good] {
                assert_eq!(state_of(&ada, &room, id).await, (true, Value::Null));
            }
            // Doing it again changes nothing.
            cleaned(&server, Pos(0)).await;
            assert!(state_of(&ada, &room, &good).await.0);
        }
    })
    .await;
}

#[tokio::test]
async fn only_who_may_redact_does_so_by_banning() {
    story(|server| async move {
        let (ada, eve) = (server.register("ada").await, server.register("eve").await);
        let bob = server.register("bob").await;
        let levels = json!({ "users": { ada.id.clone(): 100, bob.id.clone(): 50 }, "redact": 60, "ban": 50 });
        let room = ada
            .create(json!({ "preset": "public_chat", "room_version": "11", "power_level_content_override": levels }))
            .await;
        bob.join(&room).await;
        eve.join(&room).await;
        let said = eve.say(&room, "something").await;
        remove(&bob, "ban", &room, &eve, FIELD).await;
        cleaned(&server, Pos(0)).await;
        assert!(state_of(&ada, &room, &said).await.0);
        // A ban that doesn't ask for it, and somebody's own leaving.
        let room = ada.create_public().await;
        eve.join(&room).await;
        let said = eve.say(&room, "something").await;
        let leave = json!({ "membership": "leave", FIELD: true });
        eve.set_state(&room, "m.room.member", &eve.id, leave).await;
        remove(&ada, "ban", &room, &eve, "org.x").await;
        cleaned(&server, Pos(0)).await;
        assert!(state_of(&ada, &room, &said).await.0);
    })
    .await;
}

#[tokio::test]
async fn each_server_redacts_what_it_has() {
    several(2, async |all| {
        let ada = all.server(0).register("ada").await;
        let (bob, eve) = (
            all.server(1).register("bob").await,
            all.server(1).register("eve").await,
        );
        let room = ada.create_public().await;
        for user in [&bob, &eve] {
            assert!(all.join(user, &room).await);
        }
        let said = eve.say(&room, "spam").await;
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&said));
        rhizome_storage::testing::eventually("it is known", async || {
            ada.get(&path).await.0.is_success()
        })
        .await;
        remove(&ada, "ban", &room, &eve, FIELD).await;
        let member = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(&eve.id));
        rhizome_storage::testing::eventually("the ban is known", async || {
            bob.read(&member).await["membership"] == "ban"
        })
        .await;
        for (index, reader) in [(0, &ada), (1, &bob)] {
            cleaned(all.server(index), Pos(0)).await;
            assert!(!state_of(reader, &room, &said).await.0);
        }
    })
    .await;
}

#[tokio::test]
async fn moderators_see_what_was_redacted() {
    story(|server| async move {
        let (ada, eve) = (server.register("ada").await, server.register("eve").await);
        let room = ada.create_public().await;
        eve.join(&room).await;
        let said = eve.say(&room, "improper").await;
        let kept = eve.say(&room, "kept").await;
        let path = format!("/rooms/{}/redact/{}/1", esc(&room), esc(&said));
        eve.ok(Method::PUT, &path, json!({})).await;
        let asked = "?fi.mau.msc2815.include_unredacted_content=true";
        let (status, whole) = event(&ada, &room, &said, asked).await;
        assert_eq!(
            (status, &whole["content"]["body"]),
            (200, &json!("improper"))
        );
        assert_eq!(
            whole["unsigned"]["redacted_because"]["type"],
            "m.room.redaction"
        );
        assert!(!state_of(&ada, &room, &said).await.0);
        // Who may not redact what others say, not even their own.
        let (status, error) = event(&eve, &room, &said, asked).await;
        assert_eq!((status, &error["errcode"]), (403, &json!("M_FORBIDDEN")));
        let (status, whole) = event(&eve, &room, &kept, asked).await;
        assert_eq!((status, &whole["content"]["body"]), (200, &json!("kept")));
        let (status, error) = event(&ada, &room, &said, &asked.replace("true", "yes")).await;
        assert_eq!(
            (status, &error["errcode"]),
            (400, &json!("M_INVALID_PARAM"))
        );
        let bob = server.register("bob").await;
        assert_eq!(event(&bob, &room, &said, asked).await.0, 404);
    })
    .await;
}
