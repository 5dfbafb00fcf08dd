//! Sliding sync over the WebSocket stream.

use std::net::SocketAddr;

use rhizome_storage::testing::soon;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use crate::{
    harness::{User, events, ids, story},
    sliding::profiles::EXTENSION as PROFILES,
    sticky::{EXTENSION, beside, stick},
    stream::{Socket, any_frame, close_code, frame, listen, message, send},
    to_device::{self, device_of, numbers},
};

/// Opens a stream of sliding sync: its first frame is this request.
async fn open(address: SocketAddr, user: &User, mut request: Value) -> Socket {
    let url = format!("ws://{address}/_matrix/client/unstable/org.rhizome.stream");
    let (mut socket, _) = soon("it opens", connect_async(url)).await.unwrap();
    request["type"] = "auth".into();
    request["mode"] = "sliding".into();
    request["access_token"] = user.token.clone().into();
    send(&mut socket, request).await;
    socket
}

fn list(range: [u64; 2]) -> Value {
    json!({"all": {"range": range, "timeline_limit": 5, "required_state": {"include": []}}})
}

/// The next answer, which is acknowledged if `acks`.
async fn answer(socket: &mut Socket, acks: bool) -> Value {
    let answer = frame(socket, "sliding").await;
    if acks {
        send(socket, json!({"type": "ack", "pos": answer["pos"]})).await;
    }
    answer
}

fn told(answer: &Value, room: &str) -> Vec<String> {
    ids(&events(answer, &["rooms", room, "timeline"]))
}

/// That a request is done, and the next answer, which is acknowledged: either may come first.
async fn ack_and_answer(socket: &mut Socket) -> (Value, Value) {
    let (mut ack, mut news) = (None, None);
    loop {
        if let (Some(ack), Some(news)) = (&ack, &news) {
            return (Value::clone(ack), Value::clone(news));
        }
        let told = any_frame(socket, "an ack and an answer").await;
        if told["type"] == "ack" {
            ack = Some(told);
        } else if told["type"] == "sliding" {
            send(socket, json!({"type": "ack", "pos": told["pos"]})).await;
            news = Some(told);
        }
    }
}

#[tokio::test]
async fn rooms_come_by_the_window_and_then_what_happens_in_them() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let old = alice.create_public().await;
        let new = alice.create_public().await;
        bob.join(&old).await;
        bob.join(&new).await;
        let mut socket = open(address, &alice, json!({"lists": list([0, 0])})).await;
        let first = answer(&mut socket, true).await;
        assert_eq!(first["lists"]["all"]["count"], 2);
        assert_eq!(first["rooms"][&new]["initial"], true);
        assert!(first["rooms"].get(&old).is_none());
        let said = bob.say(&new, "hello").await;
        assert_eq!(told(&answer(&mut socket, true).await, &new), [said]);

        // Requests are those of the other mode.
        send(&mut socket, message(&new, "t", "mine")).await;
        let (ack, news) = ack_and_answer(&mut socket).await;
        let mine = ack["event_id"].as_str().unwrap().to_owned();
        assert_eq!(told(&news, &new), [mine]);
        let refused = json!({"type": "filter", "filter": {}, "txn_id": "f"});
        send(&mut socket, refused).await;
        assert_eq!(
            frame(&mut socket, "error").await["errcode"],
            "M_UNRECOGNIZED"
        );

        // A wider window, by a frame.
        let wider = json!({"type": "sliding", "txn_id": "w", "lists": list([0, 9])});
        send(&mut socket, wider).await;
        assert_eq!(frame(&mut socket, "ack").await["txn_id"], "w");
        let more = answer(&mut socket, true).await;
        assert_eq!(more["rooms"][&old]["initial"], true);
        assert!(more["rooms"].get(&new).is_none(), "{more}");
        let wrong =
            json!({"type": "sliding", "lists": {"all": {"range": [3, 1], "timeline_limit": 1}}});
        send(&mut socket, wrong).await;
        assert_eq!(
            frame(&mut socket, "error").await["errcode"],
            "M_INVALID_PARAM"
        );
        let said = bob.say(&old, "there").await;
        assert_eq!(told(&answer(&mut socket, true).await, &old), [said]);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_after_a_cut() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (address, device) = (listen(&server).await, device_of(&alice).await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let request =
            || json!({"lists": list([0, 9]), "extensions": {"to_device": {"enabled": true}}});
        let tell = async |n: u64| {
            let messages = json!({ &alice.id: { &device: { "n": n } } });
            to_device::send(&bob, &format!("n{n}"), messages).await;
        };
        let mut socket = open(address, &alice, request()).await;
        let first = answer(&mut socket, true).await;
        let mail = |answer: &Value| numbers(&answer["extensions"]);
        tell(0).await;
        let one = answer(&mut socket, false).await;
        assert_eq!(mail(&one), [0]);
        // Nothing more comes before it is acknowledged; what happens meanwhile isn't lost.
        tell(1).await;
        let said = bob.say(&room, "meanwhile").await;
        send(&mut socket, json!({"type": "ping"})).await;
        frame(&mut socket, "pong").await;
        drop(socket);

        let again = |pos: &Value, since: &Value| {
            let mut again = request();
            again["pos"] = pos.clone();
            again["extensions"]["to_device"]["since"] =
                since["extensions"]["to_device"]["next_batch"].clone();
            again
        };
        let mut socket = open(address, &alice, again(&first["pos"], &first)).await;
        let both = answer(&mut socket, true).await;
        assert_eq!(mail(&both), [0, 1]);
        assert_eq!(told(&both, &room), [said]);
        tell(2).await;
        let last = answer(&mut socket, true).await;
        assert_eq!(
            mail(&last),
            [2],
            "acknowledged by position, without naming a token"
        );
        drop(socket);

        // A position that nobody gave.
        let mut socket = open(address, &alice, again(&json!("rubbish"), &first)).await;
        let error = frame(&mut socket, "error").await;
        assert!(error["errcode"].is_string(), "{error}");
        assert_eq!(close_code(&mut socket).await, 4400);
    })
    .await;
}

#[tokio::test]
async fn a_token_for_sticky_events_is_needed_once() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        stick(&alice, &room, "0", 300_000).await;
        let wanted = |since: &Value| json!({ "extensions": { EXTENSION: { "enabled": true, "since": since } } });
        let mut socket = open(address, &bob, wanted(&Value::Null)).await;
        let begun = answer(&mut socket, true).await;
        let since = begun["extensions"][EXTENSION]["next_batch"].clone();
        let first = stick(&alice, &room, "1", 300_000).await;
        drop(socket);

        let mut socket = open(address, &bob, wanted(&since)).await;
        let told = answer(&mut socket, true).await;
        assert_eq!(beside(&told, &room), [first]);
        for n in ["2", "3"] {
            let next = stick(&alice, &room, n, 300_000).await;
            assert_eq!(beside(&answer(&mut socket, true).await, &room), [next]);
        }
        // Other wishes don't begin anew either, nor do those that come before the first answer is acknowledged.
        let mut other = wanted(&Value::Null);
        other["type"] = "sliding".into();
        send(&mut socket, other.clone()).await;
        assert!(beside(&answer(&mut socket, true).await, &room).is_empty());
        let mut socket = open(address, &bob, wanted(&since)).await;
        let told = answer(&mut socket, false).await;
        assert_eq!(beside(&told, &room).len(), 3);
        send(&mut socket, other).await;
        send(&mut socket, json!({"type": "ack", "pos": told["pos"]})).await;
        assert!(beside(&answer(&mut socket, true).await, &room).is_empty());
    })
    .await;
}

#[tokio::test]
async fn profiles_come_over_the_socket_and_again_after_a_cut() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let set = async |mood: &str| {
            let path = format!("/profile/{}/org.mood", crate::harness::esc(&bob.id));
            let body = json!({ "org.mood": mood });
            bob.ok(http::Method::PUT, &path, body).await;
        };
        let mood = |answer: &Value| {
            answer["extensions"][PROFILES]["users"][&bob.id]["updated"]["org.mood"].clone()
        };
        let request =
            || json!({"lists": list([0, 9]), "extensions": {PROFILES: {"enabled": true}}});
        set("good").await;
        let mut socket = open(address, &alice, request()).await;
        let first = answer(&mut socket, true).await;
        assert_eq!(mood(&first), "good");
        set("better").await;
        let lost = answer(&mut socket, false).await;
        assert_eq!(mood(&lost), "better");
        drop(socket);
        let mut again = request();
        again["pos"] = first["pos"].clone();
        let mut socket = open(address, &alice, again).await;
        assert_eq!(mood(&answer(&mut socket, true).await), "better");
        set("best").await;
        assert_eq!(mood(&answer(&mut socket, true).await), "best");
    })
    .await;
}
