//! What relates to an event is redacted with it, if that is wanted.

use http::{Method, StatusCode};
use rhizome_client_api::RedactRelated;
use rhizome_storage::{LogWork as _, Pos, Stretch};
use serde_json::{Value, json};

use super::{edit, relate, relating};
use crate::{
    harness::{Server, User, esc, story},
    peer::{room_of, story as with_peer},
};

/// What the reader does with all that has happened since a position; gives where that ends.
async fn read(server: &Server, after: Pos) -> Pos {
    let store = &server.store;
    let upto = store.log().head();
    let entries = store.log().read(after, upto, 10_000).await.unwrap();
    let stretch = Stretch {
        entries,
        after,
        upto,
        failures: 0,
    };
    let work = RedactRelated::new(server.federation.clone());
    work.work(&stretch).await.unwrap();
    upto
}

const NAME: &str = "org.matrix.msc3912.with_relations";

async fn redact_with(user: &User, room: &str, target: &str, with: Value) -> StatusCode {
    let path = format!("/rooms/{}/redact/{}/with", esc(room), esc(target));
    let body = json!({"reason": "enough", NAME: with});
    user.call(Method::PUT, &path, Some(body)).await.0
}

/// Those of the events that are redacted.
async fn redacted<'a>(user: &User, room: &str, events: &[&'a String]) -> Vec<&'a String> {
    let mut found = Vec::new();
    for event in events {
        let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
        let event_now = user.read(&path).await;
        if event_now["unsigned"]["redacted_because"].is_object() {
            found.push(*event);
        }
    }
    found
}

#[tokio::test]
async fn what_is_named_goes_as_far_as_one_may() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut at = server.store.log().head();
        let root = bob.say(&room, "root").await;
        let own = relate(&bob, &room, "m.thread", &root).await;
        let others = relate(&alice, &room, "m.thread", &root).await;
        let better = edit(&bob, &room, &root, "better").await;
        let forged = edit(&alice, &room, &root, "not his").await;
        let of_edit = edit(&bob, &room, &better, "of an edit").await;
        let reference = relate(&bob, &room, "m.reference", &root).await;
        let all = [&root, &own, &others, &better, &forged, &of_edit, &reference];
        // What can't be redacted takes nothing with it.
        let status = redact_with(&bob, &room, &others, json!(["*"])).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        at = read(&server, at).await;
        assert_eq!(redacted(&alice, &room, &all).await, Vec::<&String>::new());

        let with = json!(["m.thread", "m.replace"]);
        assert_eq!(redact_with(&bob, &room, &root, with).await, StatusCode::OK);
        assert_eq!(redacted(&alice, &room, &all).await, [&root]);
        at = read(&server, at).await;
        assert_eq!(redacted(&alice, &room, &all).await, [&root, &own, &better]);
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(&own));
        let event = alice.read(&path).await;
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!(because["sender"], bob.id.as_str());
        assert_eq!(because["content"]["reason"], "enough");

        // What comes later goes as well, and nothing goes twice.
        let late = relate(&bob, &room, "m.thread", &root).await;
        let not_meant = relate(&bob, &room, "m.reference", &root).await;
        read(&server, at).await;
        let both = [&late, &not_meant];
        assert_eq!(redacted(&alice, &room, &both).await, [&late]);
        let head = server.store.log().head();
        read(&server, at).await;
        assert_eq!(server.store.log().head(), head);
        at = head;

        // Who may redact everybody's takes all.
        assert_eq!(
            redact_with(&alice, &room, &root, json!(["*"])).await,
            StatusCode::OK
        );
        read(&server, at).await;
        let left = [&others, &reference, &not_meant];
        assert_eq!(redacted(&alice, &room, &left).await, left);
        // But not what relates to what relates to it, nor what is none.
        let left = [&forged, &of_edit];
        assert_eq!(redacted(&alice, &room, &left).await, Vec::<&String>::new());
    })
    .await;
}

#[tokio::test]
async fn without_names_nothing_else_goes() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let at = server.store.log().head();
        let root = alice.say(&room, "root").await;
        let reply = relate(&alice, &room, "m.thread", &root).await;
        for wrong in [
            json!("m.thread"),
            json!([1]),
            json!(["x".repeat(300)]),
            json!(vec!["t"; 30]),
        ] {
            let status = redact_with(&alice, &room, &root, wrong.clone()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        // Of what relates to it, not what it relates to.
        assert_eq!(
            redact_with(&alice, &room, &reply, json!(["*"])).await,
            StatusCode::OK
        );
        let other = relate(&alice, &room, "m.thread", &root).await;
        assert_eq!(
            redact_with(&alice, &room, &root, json!([])).await,
            StatusCode::OK
        );
        read(&server, at).await;
        let all = [&root, &reply, &other];
        assert_eq!(redacted(&alice, &room, &all).await, [&root, &reply]);
        let versions = server
            .request(Method::GET, "/_matrix/client/versions", None, None)
            .await;
        assert_eq!(versions.1["unstable_features"]["org.matrix.msc3912"], true);
    })
    .await;
}

#[tokio::test]
async fn what_another_server_sends_later_goes_too() {
    with_peer(|ada, peer, room| async move {
        let id = room_of(&room);
        let root = ada.say(&room, "root").await;
        peer.hears(&root).await;
        let mut at = ada.server.store.log().head();
        // Its server doesn't know of the redaction yet.
        let content = relating("m.thread", &root);
        let late = peer.send(&id, "m.room.message", None, content).await;
        assert_eq!(
            redact_with(&ada, &room, &root, json!(["m.thread"])).await,
            StatusCode::OK
        );
        at = read(&ada.server, at).await;
        peer.push(&late).await;
        read(&ada.server, at).await;
        assert_eq!(redacted(&ada, &room, &[&late]).await, [&late]);
        peer
    })
    .await;
}
