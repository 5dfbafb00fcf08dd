//! Events that came without their content and get it later: what clients see.

use std::sync::Arc;

use rhizome_protocol::{Pdu, draft::Draft};
use rhizome_rooms::{
    receive::{self, Gathered, Received},
    send,
};
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, events, ids, next, story, timeline};

/// An event of the user's that other servers might pass on, upon the room's end.
async fn made(user: &User, room: &str, kind: &str, key: Option<&str>, content: Value) -> Arc<Pdu> {
    let draft = Draft {
        room_id: Some(room.try_into().unwrap()),
        sender: user.id.as_str().try_into().unwrap(),
        kind: kind.to_owned(),
        state_key: key.map(ToOwned::to_owned),
        content: content.as_object().unwrap().clone(),
        redacts: None,
    };
    let rooms = user.server.federation.rooms();
    Arc::new(send::prepare(rooms, &draft).await.unwrap())
}

async fn receive(server: &Server, pdu: Arc<Pdu>) -> Received {
    receive::receive(server.federation.rooms(), pdu, &Gathered::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn who_has_seen_it_mangled_is_told_what_the_state_is() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let content = json!({"topic": "the topic"});
        let topic = made(&alice, &room, "m.room.topic", Some(""), content.clone()).await;
        let mangled = Arc::new(topic.redacted());
        assert_eq!(receive(&server, mangled).await, Received::Accepted);
        let told = alice.sync(Some(&since), "").await;
        assert_eq!(timeline(&told, &room), [topic.event_id().as_str()]);
        let since = next(&told);

        assert_eq!(receive(&server, topic.clone()).await, Received::Known);
        for (more, section) in [("", "state"), ("&use_state_after=true", "state_after")] {
            let told = alice.sync(Some(&since), more).await;
            assert!(timeline(&told, &room).is_empty(), "no news: {told}");
            let state = events(&told, &["rooms", "join", &room, section, "events"]);
            assert_eq!(ids(&state), [topic.event_id().as_str()], "{told}");
            assert_eq!(state[0]["content"], content);
        }
        let path = format!("/rooms/{}/state/m.room.topic", esc(&room));
        assert_eq!(alice.read(&path).await, content);
        // And in a first answer.
        let first = alice.sync(None, "").await;
        let shown = events(&first, &["rooms", "join", &room, "timeline", "events"]);
        assert_eq!(shown.last().unwrap()["content"], content);
    })
    .await;
}

#[tokio::test]
async fn a_message_is_whole_wherever_it_is_read() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let content = json!({"msgtype": "m.text", "body": "hello"});
        let said = made(&alice, &room, "m.room.message", None, content.clone()).await;
        let id = said.event_id().as_str();
        let mangled = Arc::new(said.redacted());
        assert_eq!(receive(&server, mangled).await, Received::Accepted);
        let path = format!("/rooms/{}/event/{}", esc(&room), esc(id));
        assert_eq!(alice.read(&path).await["content"], json!({}));
        let since = next(&alice.sync(None, "").await);

        assert_eq!(receive(&server, said.clone()).await, Received::Known);
        assert_eq!(alice.read(&path).await["content"], content);
        let path = format!("/rooms/{}/messages?dir=b&limit=1", esc(&room));
        let page = alice.read(&path).await;
        assert_eq!(events(&page, &["chunk"])[0]["content"], content);
        // That is no news to who has been told.
        let told = alice.sync(Some(&since), "").await;
        assert!(told["rooms"]["join"].get(&room).is_none(), "{told}");
    })
    .await;
}
