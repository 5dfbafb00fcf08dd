//! Rooms, servers and names that the operator keeps out.

use http::Method;
use rhizome_storage::{Block, Store, Way};
use serde_json::{Value, json};

use crate::{
    e2ee::several::several,
    harness::{User, esc, next, story},
};

async fn block(store: &Store, kind: &str, what: &str, way: &str) {
    let block = Block {
        kind: kind.into(),
        what: what.into(),
        way: way.into(),
        reason: "spam".into(),
        since_ms: store.clock().now_ms(),
        blocked: true,
    };
    store.block(block).await.unwrap();
}

async fn tries(user: &User, method: Method, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = user.call(method, path, Some(body)).await;
    let code = answer["errcode"].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), code)
}

fn forbidden() -> (u16, String) {
    (403, "M_FORBIDDEN".to_owned())
}

#[tokio::test]
async fn nobody_comes_into_a_blocked_room_and_who_is_there_stays() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        block(&server.store, Block::ROOM, &room, "").await;
        let join = format!("/join/{}", esc(&room));
        let knock = format!("/knock/{}", esc(&room));
        let invite = format!("/rooms/{}/invite", esc(&room));
        let member = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(&bob.id));
        let (invited, joined) = (
            json!({ "user_id": bob.id }),
            json!({ "membership": "join" }),
        );
        for (user, method, path, body) in [
            (&bob, Method::POST, &join, json!({})),
            (&bob, Method::POST, &knock, json!({})),
            (&bob, Method::PUT, &member, joined.clone()),
            (&ada, Method::POST, &invite, invited.clone()),
            (
                &ada,
                Method::PUT,
                &member,
                json!({ "membership": "invite" }),
            ),
        ] {
            assert_eq!(tries(user, method, path, body).await, forbidden(), "{path}");
        }
        // Who is there goes on, also under another name, and may ask to come.
        ada.join(&room).await;
        ada.say(&room, "still here").await;
        let own = format!("/profile/{}/displayname", esc(&ada.id));
        ada.ok(Method::PUT, &own, json!({ "displayname": "Ada" }))
            .await;
        let unblocked = server.store.unblock(Block::ROOM, &room).await;
        assert!(unblocked.unwrap());
        ada.ok(Method::POST, &invite, invited).await;
        bob.join(&room).await;
    })
    .await;
}

#[tokio::test]
async fn an_invite_to_a_blocked_room_is_not_shown() {
    story(|server| async move {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_public().await;
        let since = next(&bob.sync(None, "").await);
        ada.invite(&room, &bob).await;
        let former = format!("/events?from={}&timeout=0", esc(&since));
        let lists = json!({ "lists": { "all": {
            "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [],
        } } });
        let sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
        let told = async || {
            let sync = bob.sync(None, "").await;
            let stream = bob.read(&former).await;
            let token = Some(bob.token.as_str());
            let asked = server.request(Method::POST, sliding, token, Some(lists.clone()));
            let (status, lists) = asked.await;
            assert_eq!(status, 200, "{lists}");
            [
                sync["rooms"]["invite"].get(&room).is_some(),
                !stream["chunk"].as_array().unwrap().is_empty(),
                lists["rooms"].get(&room).is_some(),
            ]
        };
        assert_eq!(told().await, [true; 3]);
        block(&server.store, Block::ROOM, &room, "").await;
        assert_eq!(told().await, [false; 3]);
        assert!(server.store.unblock(Block::ROOM, &room).await.unwrap());
        assert_eq!(told().await, [true; 3]);
    })
    .await;
}

#[tokio::test]
async fn a_blocked_name_is_registered_by_nobody() {
    story(|server| async move {
        block(&server.store, Block::NAME, "root", "").await;
        let ada = server.register("ada").await;
        let body = json!({"username": "Root", "password": "a good password",
            "auth": {"type": "m.login.dummy"}});
        let refused = tries(&ada, Method::POST, "/register", body.clone()).await;
        assert_eq!(refused, (400, "M_EXCLUSIVE".to_owned()));
        let (status, asked) = ada.get("/register/available?username=root").await;
        assert_eq!(status, 400);
        assert_eq!(asked["errcode"], "M_EXCLUSIVE");
        assert!(server.store.unblock(Block::NAME, "root").await.unwrap());
        server.register("root").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_server_is_neither_heard_nor_asked() {
    several(2, async |all| {
        let ada = all.server(0).register("ada").await;
        let bob = all.server(1).register("bob").await;
        let here = &all.server(0).store;
        let room = ada.create_public().await;
        let there = all.name(1).as_str().to_ascii_lowercase();
        for user in [&ada, &bob] {
            user.create(json!({ "room_alias_name": "here" })).await;
        }
        // Each time it is asked anew.
        let alias = |of: usize| {
            let alias = format!("#here:{}", all.name(of).as_str());
            format!("/directory/room/{}", esc(&alias))
        };

        // Who isn't asked can ask: for that its keys are fetched.
        block(here, Block::SERVER, &there, Way::Out.as_str()).await;
        assert_ne!(ada.get(&alias(1)).await.0, 200);
        bob.read(&alias(0)).await;
        block(here, Block::SERVER, &there, Way::In.as_str()).await;
        assert!(!all.join(&bob, &room).await, "what it asks is refused");
        assert_ne!(bob.get(&alias(0)).await.0, 200);
        // It can still be asked.
        ada.read(&alias(1)).await;
        block(here, Block::SERVER, &there, Way::Both.as_str()).await;
        assert_ne!(ada.get(&alias(1)).await.0, 200);
        assert_ne!(bob.get(&alias(0)).await.0, 200);

        assert!(here.unblock(Block::SERVER, &there).await.unwrap());
        bob.read(&alias(0)).await;
        ada.read(&alias(1)).await;
        // An invite to a room that is blocked there comes from elsewhere to nobody.
        block(&all.server(1).store, Block::ROOM, &room, "").await;
        let invite = format!("/rooms/{}/invite", esc(&room));
        let invited = json!({ "user_id": bob.id });
        let refused = tries(&ada, Method::POST, &invite, invited.clone()).await;
        assert_eq!(refused.0, 403);
        assert!(!all.join(&bob, &room).await);
        let store = &all.server(1).store;
        assert!(store.unblock(Block::ROOM, &room).await.unwrap());
        ada.ok(Method::POST, &invite, invited).await;
        assert!(all.join(&bob, &room).await);
    })
    .await;
}
