//! The WebSocket stream, over real sockets.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use rhizome_storage::testing::{TestDatabase, eventually, readers, soon};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message},
};

use crate::{
    harness::{Server, User, esc, next, story, timeline},
    to_device::{self, device_of, numbers},
    unread::told,
};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub async fn listen(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub async fn connect(address: SocketAddr, user: &User, since: Option<&str>) -> Socket {
    let since = since
        .map(|since| format!("&since={since}"))
        .unwrap_or_default();
    let url = format!(
        "ws://{address}/_matrix/client/unstable/org.rhizome.stream?access_token={}{since}",
        esc(&user.token)
    );
    connect_async(url).await.unwrap().0
}

/// The next frame of a type; others are skipped.
pub async fn frame(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let value = any_frame(socket, kind).await;
        if value["type"] == kind {
            return value;
        }
    }
}

/// The next frame, where one that is called `what` is awaited.
pub async fn any_frame(socket: &mut Socket, what: &str) -> Value {
    loop {
        let message = soon(what, socket.next()).await.unwrap().unwrap();
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// The code with which the server closes.
pub async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        match soon("the socket is closed", socket.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(_)) => {}
            other => panic!("no close frame: {other:?}"),
        }
    }
}

pub async fn send(socket: &mut Socket, value: Value) {
    socket.send(Message::text(value.to_string())).await.unwrap();
}

pub fn message(room: &str, txn: &str, body: &str) -> Value {
    json!({"type": "send", "txn_id": txn, "room_id": room, "event_type": "m.room.message",
        "content": {"msgtype": "m.text", "body": body}})
}

#[tokio::test]
async fn updates_come_as_they_happen_and_a_cut_loses_and_repeats_nothing() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut socket = connect(address, &alice, None).await;
        let first = frame(&mut socket, "sync").await;
        assert!(first["rooms"]["join"][&room]["summary"].is_object());

        let mut said = vec![bob.say(&room, "one").await];
        let mut seen = Vec::new();
        let mut last = frame(&mut socket, "sync").await;
        seen.extend(timeline(&last, &room));
        assert_eq!(told(&last, &room), Some((1, 0)));
        // Cut without a word; what happens meanwhile waits.
        drop(socket);
        said.push(bob.say(&room, "two").await);
        said.push(bob.say(&room, "three").await);
        let mut socket = connect(address, &alice, Some(&next(&last))).await;
        said.push(bob.say(&room, "four").await);
        while seen.len() < said.len() {
            last = frame(&mut socket, "sync").await;
            seen.extend(timeline(&last, &room));
        }
        assert_eq!(seen, said);
        // A frame that was sent but not dealt with comes again when the client says so.
        let mut again = connect(address, &alice, Some(&next(&first))).await;
        assert_eq!(timeline(&frame(&mut again, "sync").await, &room), said);
        // The tokens are those of /sync.
        assert!(
            alice
                .sync(Some(&next(&last)), "")
                .await
                .get("rooms")
                .is_none()
        );
    })
    .await;
}

#[tokio::test]
async fn sending_is_acknowledged_and_shares_transactions_with_http() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let room = alice.create_public().await;
        let mut socket = connect(address, &alice, None).await;
        send(&mut socket, message(&room, "t1", "hello")).await;
        let ack = frame(&mut socket, "ack").await;
        assert_eq!(ack["txn_id"], "t1");
        send(&mut socket, message(&room, "t1", "hello")).await;
        assert_eq!(frame(&mut socket, "ack").await["event_id"], ack["event_id"]);
        let path = format!("/rooms/{}/send/m.room.message/t1", esc(&room));
        let http = alice
            .ok(
                Method::PUT,
                &path,
                json!({"msgtype": "m.text", "body": "hello"}),
            )
            .await;
        assert_eq!(http["event_id"], ack["event_id"]);

        let foreign = server.register("bob").await.create_public().await;
        send(&mut socket, message(&foreign, "t2", "x")).await;
        let error = frame(&mut socket, "error").await;
        assert_eq!(
            (&error["txn_id"], &error["errcode"]),
            (&json!("t2"), &json!("M_FORBIDDEN")),
            "{error}"
        );
        for bad in [
            "",
            "[]",
            "{\"type\":3}",
            "{\"type\":\"send\",\"txn_id\":\"t3\"}",
            "{\"type\":\"nope\"}",
            "\u{0}",
        ] {
            socket.send(Message::text(bad)).await.unwrap();
            assert!(
                frame(&mut socket, "error").await["errcode"].is_string(),
                "{bad}"
            );
        }
        send(&mut socket, json!({"type": "ping"})).await;
        frame(&mut socket, "pong").await;
    })
    .await;
}

#[tokio::test]
async fn a_token_may_come_in_the_first_frame_and_a_wrong_one_is_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let room = alice.create_public().await;
        let url = format!("ws://{address}/_matrix/client/unstable/org.rhizome.stream");
        let (mut socket, _) = connect_async(&url).await.unwrap();
        send(
            &mut socket,
            json!({"type": "auth", "access_token": alice.token}),
        )
        .await;
        assert!(
            frame(&mut socket, "sync").await["rooms"]["join"]
                .get(&room)
                .is_some()
        );

        let (mut socket, _) = connect_async(&url).await.unwrap();
        send(
            &mut socket,
            json!({"type": "auth", "access_token": "wrong"}),
        )
        .await;
        assert_eq!(
            frame(&mut socket, "error").await["errcode"],
            "M_UNKNOWN_TOKEN"
        );
        assert_eq!(close_code(&mut socket).await, 4401);
        let (mut socket, _) = connect_async(&url).await.unwrap();
        send(&mut socket, message(&room, "t", "too soon")).await;
        assert_eq!(close_code(&mut socket).await, 4400);

        let refused = connect_async(format!("{url}?access_token=wrong")).await;
        assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 401));
        let refused = connect_async(format!(
            "{url}?access_token={}&since=rubbish",
            esc(&alice.token)
        ))
        .await;
        assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 400));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_token_and_the_end_of_the_server_close_the_socket() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let other = alice.another_device().await;
        let address = listen(&server).await;
        let mut socket = connect(address, &alice, None).await;
        frame(&mut socket, "sync").await;
        let mut stays = connect(address, &other, None).await;
        frame(&mut stays, "sync").await;
        alice.ok(Method::POST, "/logout", json!({})).await;
        let error = frame(&mut socket, "error").await;
        assert_eq!(error["errcode"], "M_UNKNOWN_TOKEN");
        assert_eq!(error["soft_logout"], false);
        assert_eq!(close_code(&mut socket).await, 4401);
        send(&mut stays, json!({"type": "ping"})).await;
        frame(&mut stays, "pong").await;
        server.shutdown.cancel();
        let bye = frame(&mut stays, "bye").await;
        assert_eq!(bye["reason"], "restart");
        assert!(bye["retry_after_ms"].as_u64().unwrap() <= 1_000, "{bye}");
        assert_eq!(close_code(&mut stays).await, 1012);
    })
    .await;
}

#[tokio::test]
async fn a_slow_client_gets_what_it_missed_merged() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let mut socket = connect(address, &alice, None).await;
        frame(&mut socket, "sync").await;
        // Not read for a while: more than the socket's buffers and the queue hold.
        let long = "x".repeat(20_000);
        let mut said = Vec::new();
        for _ in 0..200 {
            said.push(bob.say(&room, &long).await);
        }
        let (mut seen, mut frames, mut gap) = (Vec::new(), 0, None);
        while seen.last() != said.last() {
            let sync = frame(&mut socket, "sync").await;
            frames += 1;
            let part = &sync["rooms"]["join"][&room]["timeline"];
            if part["limited"] == true {
                gap = part["prev_batch"].as_str().map(str::to_owned);
            }
            seen.extend(timeline(&sync, &room));
        }
        assert!(frames <= said.len());
        // In order and without repetition; what was left out can be paged to.
        let order: Vec<_> = said
            .iter()
            .filter(|id| seen.contains(id))
            .cloned()
            .collect();
        assert_eq!(order, seen);
        assert!(seen.len() == said.len() || gap.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_one_that_answers_is_kept() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let server = Server::with(store.clone(), |config| {
            config.stream_heartbeat = Duration::from_secs(1);
        });
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let mut alive = connect(address, &alice, None).await;
        let mut dead = connect(address, &alice, None).await;
        frame(&mut dead, "sync").await;
        // Reading is what answers pings here.
        let pings = AtomicUsize::new(0);
        let reading = async {
            while let Some(message) = alive.next().await {
                let ping = matches!(message.unwrap(), Message::Ping(_));
                pings.fetch_add(usize::from(ping), Ordering::Relaxed);
            }
        };
        let given_up = eventually("only one is left", async || {
            pings.load(Ordering::Relaxed) >= 2 && readers(&store) == 1
        });
        tokio::select! {
            () = reading => panic!("the one that answers is given up"),
            () = given_up => {}
        }
        send(&mut alive, json!({"type": "ping"})).await;
        frame(&mut alive, "pong").await;
        // Its answers to the old pings break on the closed connection before it reads the reason.
        let ended = async { while let Some(Ok(_)) = dead.next().await {} };
        soon("the silent one is given up", ended).await;
        store.close().await;
        database.remove().await;
    }
}

#[tokio::test]
async fn messages_to_the_device_come_once_and_go_when_they_are_acknowledged() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (address, device) = (listen(&server).await, device_of(&alice).await);
        let mut socket = connect(address, &alice, None).await;
        let first = frame(&mut socket, "sync").await;
        let tell = async |n: u64| {
            let messages = json!({ &alice.id: { &device: { "n": n } } });
            to_device::send(&bob, &format!("n{n}"), messages).await;
        };
        let waiting = async || numbers(&alice.sync(None, "").await);
        tell(0).await;
        let one = frame(&mut socket, "sync").await;
        assert_eq!(numbers(&one), [0]);
        tell(1).await;
        let two = frame(&mut socket, "sync").await;
        assert_eq!(numbers(&two), [1]);
        // What the client says that it has dealt with is gone; the other isn't.
        assert_eq!(waiting().await, [0, 1]);
        let ack = |sync: &Value| json!({ "type": "ack", "next_batch": next(sync) });
        send(&mut socket, ack(&one)).await;
        eventually("it is gone", async || waiting().await == [1]).await;
        send(&mut socket, json!({ "type": "ack" })).await;
        let error = frame(&mut socket, "error").await;
        assert_eq!(error["errcode"], "M_BAD_JSON");
        // Positions that nobody gave out, and those of before, aren't asked about.
        let token = next(&two);
        let (start, rest) = token.split_once('_').unwrap();
        let forged = format!("{start}_99999{rest}");
        let before = server.store.counters().now();
        for _ in 0..25 {
            send(&mut socket, json!({ "type": "ack", "next_batch": forged })).await;
            send(&mut socket, ack(&one)).await;
        }
        send(&mut socket, json!({ "type": "none" })).await;
        let error = frame(&mut socket, "error").await;
        assert_eq!(error["errcode"], "M_UNRECOGNIZED");
        let queries = (server.store.counters().now() - before).queries;
        assert!(queries < 20, "{queries}");
        drop(socket);

        // It comes again when nobody has said so, and more than a frame takes follow at once.
        for n in 2..240 {
            tell(n).await;
        }
        let mut socket = connect(address, &alice, Some(&next(&first))).await;
        let (mut got, mut last) = (Vec::new(), Value::Null);
        while got.len() < 239 {
            last = frame(&mut socket, "sync").await;
            assert!(numbers(&last).len() <= 100);
            got.extend(numbers(&last));
        }
        assert!(got.into_iter().eq(1..240));
        drop(socket);
        // Connecting with the last position acknowledges all.
        let mut socket = connect(address, &alice, Some(&next(&last))).await;
        tell(240).await;
        assert_eq!(numbers(&frame(&mut socket, "sync").await), [240]);
        assert_eq!(waiting().await, [240]);
    })
    .await;
}
