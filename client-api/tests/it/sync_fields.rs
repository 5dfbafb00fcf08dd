//! Fields of filters and answers of /sync that few clients use.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{User, esc, events, filter, next, story, timeline};

#[tokio::test]
async fn a_presence_that_there_is_none_of_is_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        for presence in ["offline", "online", "unavailable"] {
            alice.sync(None, &format!("&set_presence={presence}")).await;
        }
        let (status, refused) = alice.get("/sync?set_presence=asleep").await;
        assert_eq!(
            (status, &refused["errcode"]),
            (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_url_is_one_whatever_it_is() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let odd = alice.send(&room, "org.example", json!({"url": 5})).await;
        let plain = alice.send(&room, "org.example", json!({"uri": "5"})).await;
        for (contains, expected) in [(true, &odd), (false, &plain)] {
            let asked = filter(&json!({"room": {"timeline":
                {"contains_url": contains, "types": ["org.example"]}}}));
            let told = alice.sync(None, &asked).await;
            assert_eq!(timeline(&told, &room), std::slice::from_ref(expected));
        }
    })
    .await;
}

#[tokio::test]
async fn who_names_senders_wants_nothing_without_one() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let said = alice.say(&room, "hello").await;
        let (user, at) = (esc(&alice.id), esc(&room));
        for path in [
            format!("/user/{user}/account_data/org.example"),
            format!("/user/{user}/rooms/{at}/account_data/org.example"),
        ] {
            alice.ok(Method::PUT, &path, json!({"a": 1})).await;
        }
        let receipt = format!("/rooms/{at}/receipt/m.read/{}", esc(&said));
        alice.ok(Method::POST, &receipt, json!({})).await;
        let told = async |narrow: Value| {
            let asked = json!({"account_data": narrow, "room":
                {"account_data": narrow, "ephemeral": narrow}});
            let told = alice.sync(None, &filter(&asked)).await;
            let of = |path: &[&str]| events(&told, path).len();
            let global = of(&["account_data", "events"]);
            let in_room = of(&["rooms", "join", &room, "account_data", "events"]);
            let ephemeral = of(&["rooms", "join", &room, "ephemeral", "events"]);
            [global > 0, in_room > 0, ephemeral > 0]
        };
        assert_eq!(told(json!({})).await, [true; 3]);
        assert_eq!(told(json!({"senders": [alice.id]})).await, [false; 3]);
        assert_eq!(told(json!({"not_senders": [alice.id]})).await, [true; 3]);
    })
    .await;
}

#[tokio::test]
async fn no_fields_at_all_are_all_fields() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let said = alice.say(&room, "hello").await;
        let asked = filter(&json!({"event_fields": []}));
        let told = alice.sync(None, &asked).await;
        assert_eq!(timeline(&told, &room).last(), Some(&said));
    })
    .await;
}

/// The whole event of an invite or a knock (MSC4319).
fn summons<'a>(sync: &'a Value, section: &str, room: &str) -> &'a Value {
    let path = ["rooms", section, room, "org.matrix.msc4319.state", "events"];
    let told = events(sync, &path);
    assert_eq!(told.len(), 1, "{sync}");
    told[0]
}

async fn knock(user: &User, room: &str) -> String {
    let path = format!("/knock/{}", esc(room));
    user.ok(Method::POST, &path, json!({})).await;
    next(&user.sync(None, "").await)
}

#[tokio::test]
async fn an_invite_and_a_knock_come_with_their_event() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice
            .create(json!({"preset": "private_chat", "initial_state": [
                {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]}))
            .await;
        let since = knock(&bob, &room).await;
        let knocked = bob.sync(None, "").await;
        let event = summons(&knocked, "knock", &room);
        assert_eq!(event["content"]["membership"], "knock");
        assert!(event["event_id"].is_string() && event["unsigned"]["age"].is_number());
        alice.invite(&room, &bob).await;
        let invited = bob.sync(Some(&since), "").await;
        let event = summons(&invited, "invite", &room);
        assert_eq!(event["content"]["membership"], "invite");
        assert_eq!(event["sender"], alice.id.as_str());
        // Whoever answers knocks by itself sees that it was one.
        assert_eq!(event["unsigned"]["prev_content"]["membership"], "knock");
        // The one who invites is known by name.
        let state = events(&invited, &["rooms", "invite", &room, "invite_state", "events"]);
        let inviter = state.iter().find(|event| event["state_key"] == alice.id.as_str());
        assert_eq!(inviter.unwrap()["content"]["membership"], "join");
    })
    .await;
}
