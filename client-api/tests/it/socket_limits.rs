//! What a socket may begin with, and how many there may be.

use futures_util::SinkExt as _;
use rhizome_client_api::config::{Rate, RateLimits};
use rhizome_storage::testing::{TestDatabase, eventually};
use ruma::user_id;
use serde_json::json;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};

use crate::{
    harness::{Server, esc, story},
    stream::{any_frame, close_code, connect, frame, listen, message, send},
};

#[tokio::test]
async fn before_the_first_frame_there_may_be_pings_and_the_end_of_the_server() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let address = listen(&server).await;
        let url = format!("ws://{address}/_matrix/client/unstable/org.rhizome.stream");
        let (mut socket, _) = connect_async(&url).await.unwrap();
        for message in [Message::Ping("p".into()), Message::Pong("p".into())] {
            socket.send(message).await.unwrap();
        }
        let auth = json!({"type": "auth", "access_token": alice.token});
        send(&mut socket, auth).await;
        frame(&mut socket, "sync").await;

        let (mut binary, _) = connect_async(&url).await.unwrap();
        binary.send(Message::Binary("x".into())).await.unwrap();
        assert_eq!(close_code(&mut binary).await, 4400);

        let (mut waits, _) = connect_async(&url).await.unwrap();
        server.shutdown.cancel();
        frame(&mut waits, "bye").await;
        assert_eq!(close_code(&mut waits).await, 1012);
    })
    .await;
}

#[tokio::test]
async fn a_user_has_so_many_sockets() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let address = listen(&server).await;
        let url = format!("ws://{address}/_matrix/client/unstable/org.rhizome.stream");
        let mut open = Vec::new();
        for _ in 0..64 {
            open.push(connect(address, &alice, None).await);
        }
        let named = format!("{url}?access_token={}", esc(&alice.token));
        let refused = connect_async(&named).await;
        assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 429));
        let (mut late, _) = connect_async(&url).await.unwrap();
        let auth = json!({"type": "auth", "access_token": alice.token});
        send(&mut late, auth).await;
        let error = frame(&mut late, "error").await;
        assert_eq!(error["errcode"], "M_LIMIT_EXCEEDED");
        assert_eq!(close_code(&mut late).await, 4400);
        // Others have theirs, and who goes makes room.
        frame(&mut connect(address, &bob, None).await, "sync").await;
        drop(open.pop());
        eventually("there is room again", async || {
            connect_async(&named).await.is_ok()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn whom_limits_do_not_hold_back_they_do_not_on_a_socket() {
    for database in TestDatabase::both().await {
        let store = database.open().await;
        let server = Server::with(store.clone(), |config| {
            config.rate_limits = RateLimits {
                enabled: true,
                message: Rate {
                    per_second: 0.0001,
                    burst: 1,
                },
                exempt_users: [user_id!("@bot:here").to_owned()].into(),
                ..RateLimits::default()
            };
        });
        let (bot, ada) = (server.register("bot").await, server.register("ada").await);
        let room = bot.create_public().await;
        ada.join(&room).await;
        let address = listen(&server).await;
        for (user, second) in [(&bot, "ack"), (&ada, "error")] {
            let mut socket = connect(address, user, None).await;
            frame(&mut socket, "sync").await;
            send(&mut socket, message(&room, "1", "one")).await;
            frame(&mut socket, "ack").await;
            send(&mut socket, message(&room, "2", "two")).await;
            let answer = loop {
                let answer = any_frame(&mut socket, "an answer").await;
                if answer["txn_id"] == "2" {
                    break answer;
                }
            };
            assert_eq!(answer["type"], second, "{answer}");
        }
        store.close().await;
        database.remove().await;
    }
}
