//! What may not be sent, for what it relates to.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{redact, relate, relating};
use crate::harness::{User, esc, story};

fn reaction(to: &str, key: &str) -> Value {
    json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": to, "key": key}})
}

async fn put(
    user: &User,
    room: &str,
    kind: &str,
    txn: &str,
    content: Value,
) -> (StatusCode, Value) {
    let path = format!("/rooms/{}/send/{kind}/{txn}", esc(room));
    user.call(Method::PUT, &path, Some(content)).await
}

#[tokio::test]
async fn nobody_annotates_twice_in_the_same_way() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let (one, two) = (alice.say(&room, "one").await, alice.say(&room, "two").await);
        let send = async |user: &User, kind: &str, txn: &str, content: Value| {
            let (status, answer) = put(user, &room, kind, txn, content).await;
            let code = answer["errcode"].as_str().unwrap_or("sent").to_owned();
            assert_eq!(status.is_success(), code == "sent", "{answer}");
            (
                code,
                answer["event_id"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let (_, first) = send(&bob, "m.reaction", "t1", reaction(&one, "👍")).await;
        let (code, _) = send(&bob, "m.reaction", "t2", reaction(&one, "👍")).await;
        assert_eq!(code, "M_DUPLICATE_ANNOTATION");
        // The same request again isn't another one.
        let again = send(&bob, "m.reaction", "t1", reaction(&one, "👍")).await;
        assert_eq!(again, ("sent".into(), first.clone()));
        // Another key, type, event or person.
        for (user, kind, content) in [
            (&bob, "m.reaction", reaction(&one, "👎")),
            (&bob, "org.test.reaction", reaction(&one, "👍")),
            (&bob, "m.reaction", reaction(&two, "👍")),
            (&alice, "m.reaction", reaction(&one, "👍")),
            (&bob, "m.reaction", relating("m.reference", &one)),
        ] {
            let txn = format!("{kind}{}", content.to_string().len());
            assert_eq!(send(user, kind, &txn, content).await.0, "sent");
        }
        // Also with keys that are too long to be kept beside.
        for (n, expected) in [
            (400, "sent"),
            (400, "M_DUPLICATE_ANNOTATION"),
            (401, "sent"),
        ] {
            let txn = format!("long{n}{expected}");
            let content = reaction(&one, &"x".repeat(n));
            assert_eq!(send(&bob, "m.reaction", &txn, content).await.0, expected);
        }
        redact(&bob, &room, &first).await;
        let (code, _) = send(&bob, "m.reaction", "t3", reaction(&one, "👍")).await;
        assert_eq!(code, "sent");
        // State as well.
        let path = format!("/rooms/{}/state/org.test.state", esc(&room));
        for (key, status) in [("a", StatusCode::OK), ("b", StatusCode::BAD_REQUEST)] {
            let path = format!("{path}/{key}");
            let content = Some(reaction(&one, "k"));
            assert_eq!(alice.call(Method::PUT, &path, content).await.0, status);
        }
    })
    .await;
}

#[tokio::test]
async fn no_thread_hangs_off_what_relates_to_another() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let root = alice.say(&room, "root").await;
        let reply = relate(&alice, &room, "m.thread", &root).await;
        let edit = relate(&alice, &room, "m.replace", &root).await;
        for (n, event) in [reply, edit].iter().enumerate() {
            let content = relating("m.thread", event);
            let txn = format!("t{n}");
            let (status, answer) = put(&alice, &room, "m.room.message", &txn, content).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
            assert_eq!(answer["errcode"], "M_UNKNOWN");
        }
        // A plain reply relates to nothing in that sense; what isn't known may become known.
        let plain = json!({"body": "b", "m.relates_to": {"m.in_reply_to": {"event_id": root}}});
        let plain = alice.send(&room, "m.room.message", plain).await;
        relate(&alice, &room, "m.thread", &plain).await;
        relate(&alice, &room, "m.thread", "$unknown").await;
        // Nor does one that has lost what it said.
        let gone = relate(&alice, &room, "m.reference", &root).await;
        redact(&alice, &room, &gone).await;
        relate(&alice, &room, "m.thread", &gone).await;
    })
    .await;
}
