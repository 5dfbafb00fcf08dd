//! Events that can't be decided when they arrive.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use rhizome_federation::{Federation, testing::Network};
use rhizome_rooms::{
    create::plan::Preset,
    membership::Action,
    receive::{self, Gathered, Received},
};
use rhizome_storage::testing::TestDatabase;
use ruma::RoomVersionId;
use serde_json::json;

use crate::{
    inbound::{forge, newest},
    world::{Server, each, eventually, json_of},
};

/// Says something in the room that was just joined, before the joining server has got the answer.
async fn say_during_join(State(fed): State<Federation>, request: Request, next: Next) -> Response {
    let joins = request.uri().path().contains("/send_join/");
    let response = next.run(request).await;
    if joins {
        let room = fed
            .store()
            .public_rooms(rhizome_storage::RoomNo(0), 1)
            .await
            .unwrap()[0];
        let room = fed.store().room_id(room).await.unwrap();
        let draft = rhizome_protocol::draft::Draft {
            room_id: Some(room),
            sender: "@alice:a.example".try_into().unwrap(),
            kind: "m.room.message".to_owned(),
            state_key: None,
            content: json!({ "body": "welcome" }).as_object().unwrap().clone(),
            redacts: None,
        };
        let said = rhizome_federation::local::send(
            &fed,
            draft,
            rhizome_rooms::send::SendOptions::default(),
        )
        .await
        .unwrap();
        let event = fed.store().event(&said.event_id).await.unwrap().unwrap();
        let body =
            json!({ "origin": "a.example", "origin_server_ts": 1, "pdus": [json_of(&event.pdu)] });
        let body = serde_json::value::to_raw_value(&body).unwrap();
        let answer = fed
            .outbound()
            .call(
                ruma::server_name!("b.example"),
                http::Method::PUT,
                "/_matrix/federation/v1/send/during",
                Some(&body),
                rhizome_federation::outbound::Limits::default(),
            )
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!({ "pdus": { said.event_id: {} } }));
    }
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_during_a_join_is_not_lost() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create_listed(&alice, &RoomVersionId::V12).await;
        let talkative = a.router().layer(middleware::from_fn_with_state(
            a.fed.clone(),
            say_during_join,
        ));
        world.network.attach(&a.name, talkative);
        b.join(&bob, &room, a).await.unwrap();
        eventually("the welcome is heard", async || {
            b.heard(&room).await == ["welcome"]
        })
        .await;
        world.network.attach(&a.name, a.router());
    })
    .await;
}

/// Some servers send an invite to the invited user's server by transaction as well. On a busy machine that comes
/// after the join, and what was said before it must not be told as though it were new.
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_comes_after_the_join_is_no_news() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a
            .create_with(&alice, &RoomVersionId::V12, Preset::PrivateChat)
            .await;
        for n in 0..5 {
            a.say(&alice, &room, &format!("before {n}")).await;
        }
        a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
        b.join(&bob, &room, a).await.unwrap();
        let state = b.state(&room).await;
        let join = &state[&("m.room.member".to_owned(), bob.to_string())];
        let join = b.event(join).await.unwrap();
        let invite = a.event(&join.pdu.prev_events()[0]).await.unwrap();
        let told = a.transaction(b, "late", &[json_of(&invite.pdu)], &[]).await;
        assert_eq!(told, json!({ invite.pdu.event_id(): {} }));
        eventually("nothing waits", async || {
            b.store().inbox_size(&a.name).await.unwrap() == 0
        })
        .await;
        assert!(b.heard(&room).await.is_empty());
        assert_eq!(b.state(&room).await, state);
        // It is history, and comes as such.
        while b.backfill(&room, 10).await {}
        let invite = b.event(invite.pdu.event_id()).await.unwrap();
        assert!(invite.order.unwrap() < 0, "history, not news");
        assert!(b.heard(&room).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_restart() {
    let network = Network::default();
    let databases = [TestDatabase::sqlite(), TestDatabase::sqlite()];
    let a = Server::new(&network, databases[0].open().await, 0);
    let mut b = Server::new(&network, databases[1].open().await, 1);
    b.run();
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, &RoomVersionId::V12).await;
    b.join(&bob, &room, &a).await.unwrap();
    let (first, second) = (
        a.say(&alice, &room, "first").await,
        a.say(&alice, &room, "second").await,
    );
    let second = a.event(&second).await.unwrap();

    // The first is missing, and nobody gives it.
    network.cut(&a.name);
    let told = a.transaction(&b, "gap", &[json_of(&second.pdu)], &[]).await;
    assert_eq!(told, json!({ second.pdu.event_id(): {} }));
    let origin = a.name.clone();
    assert_eq!(b.store().inbox_size(&origin).await.unwrap(), 1);
    assert!(b.heard(&room).await.is_empty());

    b.restart(&network, &databases[1], 1).await;
    assert_eq!(b.store().inbox_size(&origin).await.unwrap(), 1);
    network.mend(&a.name);
    eventually("both are there", async || {
        b.heard(&room).await == ["first", "second"]
    })
    .await;
    eventually("nothing waits", async || {
        b.store().inbox_size(&origin).await.unwrap() == 0
    })
    .await;
    assert!(b.event(&first).await.is_some());
    b.end().await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_by_another_way_is_known() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &room, a).await.unwrap();
        let said = a.say(&alice, &room, "hello").await;
        // Its row is there before the log says so.
        eventually("it arrives", async || b.heard(&room).await == ["hello"]).await;
        let event = a.event(&said).await.unwrap();
        let again = receive::receive(b.fed.rooms(), event.pdu.clone(), &Gathered::default()).await;
        assert_eq!(again.unwrap(), Received::Known);
        assert_eq!(b.heard(&room).await, ["hello"]);
    })
    .await;
}

/// A server that sends nothing by itself, and one that works on its inbox; who are to meet in a room.
async fn silent_and_running(network: &Network, databases: &[TestDatabase]) -> (Server, Server) {
    let a = Server::new(network, databases[0].open().await, 0);
    let mut b = Server::new(network, databases[1].open().await, 1);
    b.run();
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_is_filled_piece_by_piece() {
    let network = Network::default();
    let databases = [TestDatabase::sqlite(), TestDatabase::sqlite()];
    let (a, b) = silent_and_running(&network, &databases).await;
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, &RoomVersionId::V12).await;
    b.join(&bob, &room, &a).await.unwrap();

    // More than one answer holds.
    let said: Vec<String> = (0..120).map(|n| format!("message {n}")).collect();
    for text in &said {
        a.say(&alice, &room, text).await;
    }
    let last = a.event(&newest(&a, &room).await).await.unwrap();
    a.transaction(&b, "the last", &[json_of(&last.pdu)], &[])
        .await;
    eventually("everything is heard, in order", async || {
        b.heard(&room).await == said
    })
    .await;
    b.end().await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_before_a_join_is_no_gap() {
    let network = Network::default();
    let databases = [TestDatabase::sqlite(), TestDatabase::sqlite()];
    let (a, b) = silent_and_running(&network, &databases).await;
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, &RoomVersionId::V12).await;
    let first = a.say(&alice, &room, "long ago").await;
    for _ in 0..120 {
        a.say(&alice, &room, "before the join").await;
    }
    let prev = newest(&a, &room).await;
    b.join(&bob, &room, &a).await.unwrap();

    // Who said this hadn't heard of the join.
    let content = json!({ "body": "beside the join" });
    let kind = "m.room.message";
    let beside = forge(&a, 1, &alice, &room, &[&prev], kind, None, content).await;
    let gathered = Gathered::default();
    let received = receive::receive(a.fed.rooms(), Arc::new(beside.clone()), &gathered).await;
    assert!(matches!(received.unwrap(), Received::Accepted));
    a.transaction(&b, "beside", &[json_of(&beside)], &[]).await;
    eventually("it is heard", async || {
        b.heard(&room).await.last().map(String::as_str) == Some("beside the join")
    })
    .await;
    assert!(b.event(&first).await.is_none());
    b.end().await;
    a.end().await;
}
