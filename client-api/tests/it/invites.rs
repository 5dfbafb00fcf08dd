//! Whose invites users want: blocked ones are refused, ignored ones are made and not told.

use http::{Method, StatusCode};
use rhizome_federation::testing::Network;
use rhizome_storage::testing::TestDatabase;
use ruma::server_name;
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, next, story},
    sliding::client::Client,
};

const STABLE: &str = "m.invite_permission_config";
const RULES: &str = "org.matrix.msc4155.invite_permission_config";

async fn configure(user: &User, kind: &str, content: Value) {
    let path = format!("/user/{}/account_data/{kind}", esc(&user.id));
    user.ok(Method::PUT, &path, content).await;
}

/// Invites by `/invite`; gives what came of it.
async fn invite(by: &User, room: &str, user: &User) -> (StatusCode, Value) {
    let path = format!("/rooms/{}/invite", esc(room));
    let body = json!({ "user_id": user.id });
    by.call(Method::POST, &path, Some(body)).await
}

fn assert_blocked((status, answer): (StatusCode, Value)) {
    let found = (status, answer["errcode"].as_str().unwrap_or(""));
    assert_eq!(
        found,
        (StatusCode::FORBIDDEN, "M_INVITE_BLOCKED"),
        "{answer}"
    );
}

/// The rooms that a first `/sync` and a first list of sliding sync tell the user to be invited to.
async fn told(user: &User) -> Vec<String> {
    let answer = user.sync(None, "").await;
    let invites = answer["rooms"]["invite"].as_object();
    let told: Vec<String> = invites
        .into_iter()
        .flatten()
        .map(|(id, _)| id.clone())
        .collect();
    let list = json!({ "lists": { "all": {
        "ranges": [[0, 9]], "required_state": [], "timeline_limit": 1,
        "filters": { "is_invite": true },
    } } });
    let slid = Client::of(user).sync(&list).await;
    let slid = slid["rooms"].as_object().unwrap();
    assert!(slid.keys().all(|id| told.contains(id)), "{slid:?}");
    assert_eq!(slid.len(), told.len());
    let former = user.read("/initialSync?limit=1").await;
    let former = former["rooms"].as_array().unwrap().iter();
    let former = former.filter(|room| room["membership"] == "invite");
    assert_eq!(former.count(), told.len());
    told
}

#[tokio::test]
async fn who_blocks_invites_gets_none() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let before = bob.create(json!({ "invite": [alice.id] })).await;
        assert_eq!(told(&alice).await, [&*before]);
        let room = bob.create(json!({})).await;
        for kind in [STABLE, "org.matrix.msc4380.invite_permission_config"] {
            configure(&alice, kind, json!({ "default_action": "block" })).await;
            assert_blocked(invite(&bob, &room, &alice).await);
            let member = format!(
                "/rooms/{}/state/m.room.member/{}",
                esc(&room),
                esc(&alice.id)
            );
            let content = json!({ "membership": "invite" });
            assert_blocked(bob.call(Method::PUT, &member, Some(content)).await);
            let body = json!({ "invite": [alice.id], "preset": "trusted_private_chat" });
            assert_blocked(bob.call(Method::POST, "/createRoom", Some(body)).await);
            let joined = bob.read("/joined_rooms").await;
            assert_eq!(joined["joined_rooms"].as_array().unwrap().len(), 2);
            assert_eq!(bob.get(&member).await.0, StatusCode::NOT_FOUND);
            // What came before isn't told any more; it stands, and can be accepted.
            assert!(told(&alice).await.is_empty());
            configure(&alice, kind, json!({})).await;
            assert_eq!(told(&alice).await, [&*before]);
        }
        configure(&alice, STABLE, json!({ "default_action": "block" })).await;
        alice.join(&before).await;
        // Their own knocks are theirs.
        let open = json!({ "initial_state": [{
            "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" }
        }] });
        let open = bob.create(open).await;
        alice
            .ok(Method::POST, &format!("/knock/{}", esc(&open)), json!({}))
            .await;
        let answer = alice.sync(None, "").await;
        assert!(answer["rooms"]["knock"][&open].is_object(), "{answer}");
        assert_blocked(invite(&bob, &open, &alice).await);
        let kick = format!("/rooms/{}/kick", esc(&open));
        bob.ok(Method::POST, &kick, json!({ "user_id": alice.id }))
            .await;
        let told = alice.sync(Some(&next(&answer)), "").await;
        assert!(told["rooms"]["leave"][&open].is_object(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn who_is_ignored_invites_and_is_not_heard() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let rules = json!({ "ignored_users": [bob.id], "blocked_servers": ["*"] });
        configure(&alice, RULES, rules).await;
        let since = next(&alice.sync(None, "").await);
        let from = alice.read("/initialSync").await["end"].clone();
        let (room, other) = (bob.create(json!({})).await, bob.create(json!({})).await);
        bob.invite(&room, &alice).await;
        bob.invite(&other, &alice).await;
        let member = format!(
            "/rooms/{}/state/m.room.member/{}",
            esc(&room),
            esc(&alice.id)
        );
        assert_eq!(bob.read(&member).await["membership"], "invite");
        assert!(told(&alice).await.is_empty());
        let news = alice.sync(Some(&since), "").await;
        assert!(news.get("rooms").is_none(), "{news}");
        let events = format!("/events?timeout=0&from={}", from.as_str().unwrap());
        assert_eq!(alice.read(&events).await["chunk"], json!([]));
        // That one ends which they don't know of isn't told either.
        let kick = format!("/rooms/{}/kick", esc(&other));
        bob.ok(Method::POST, &kick, json!({ "user_id": alice.id }))
            .await;
        let news = alice.sync(Some(&since), "").await;
        assert!(news.get("rooms").is_none(), "{news}");
        // Others are refused.
        let carol = server.register("carol").await;
        let carols = carol.create(json!({})).await;
        assert_blocked(invite(&carol, &carols, &alice).await);
        let rules = json!({ "allowed_users": ["@car*"], "blocked_servers": ["*"] });
        configure(&alice, RULES, rules).await;
        carol.invite(&carols, &alice).await;
        assert_eq!(told(&alice).await, [&*carols]);
        configure(
            &alice,
            RULES,
            json!({ "enabled": false, "blocked_servers": ["*"] }),
        )
        .await;
        let mut all = [room, carols];
        all.sort_unstable();
        let mut found = told(&alice).await;
        found.sort_unstable();
        assert_eq!(found, all);
        // The list of who is ignored comes first.
        configure(&alice, RULES, json!({ "blocked_users": [bob.id] })).await;
        assert_blocked(invite(&bob, &other, &alice).await);
        let list = json!({ "ignored_users": { &bob.id: {} } });
        configure(&alice, "m.ignored_user_list", list).await;
        bob.invite(&other, &alice).await;
        let seen = told(&alice).await;
        assert_eq!(seen.len(), 1, "carol's alone: {seen:?}");
    })
    .await;
}

#[tokio::test]
async fn invites_from_elsewhere_are_filtered() {
    for database in TestDatabase::both().await {
        let elsewhere = TestDatabase::sqlite();
        let network = Network::default();
        let (store, far) = (database.open().await, elsewhere.open().await);
        let here = Server::on(store.clone(), &network, |_| {});
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let first = bob.create(json!({})).await;
        bob.invite(&first, &ada).await;
        assert_eq!(told(&ada).await, [&*first]);

        for (kind, content) in [
            (STABLE, json!({ "default_action": "block" })),
            (RULES, json!({ "blocked_servers": ["th?re"] })),
            (
                RULES,
                json!({ "blocked_users": [bob.id], "allowed_servers": ["there"] }),
            ),
        ] {
            configure(&ada, kind, content).await;
            let room = bob.create(json!({})).await;
            assert_blocked(invite(&bob, &room, &ada).await);
            assert!(told(&ada).await.is_empty());
            configure(&ada, kind, json!({})).await;
        }

        configure(&ada, RULES, json!({ "ignored_servers": ["there"] })).await;
        let since = next(&ada.sync(None, "").await);
        let room = bob.create(json!({})).await;
        bob.invite(&room, &ada).await;
        assert!(told(&ada).await.is_empty());
        assert!(ada.sync(Some(&since), "").await.get("rooms").is_none());
        configure(&ada, RULES, json!({})).await;
        let mut all = [first, room];
        all.sort_unstable();
        let mut found = told(&ada).await;
        found.sort_unstable();
        assert_eq!(found, all);
        store.close().await;
        far.close().await;
        database.remove().await;
        elsewhere.remove().await;
    }
}

/// Those whom somebody ignores don't use up the places of others' invites.
#[tokio::test]
async fn hidden_invites_leave_room_for_others() {
    for database in TestDatabase::both().await {
        let elsewhere = TestDatabase::sqlite();
        let network = Network::default();
        let (store, far) = (database.open().await, elsewhere.open().await);
        let here = Server::on(store.clone(), &network, |_| {});
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let ada = here.register("ada").await;
        let (bob, carol) = (there.register("bob").await, there.register("carol").await);
        configure(&ada, RULES, json!({ "ignored_users": [bob.id] })).await;
        for _ in 0..20 {
            let room = bob.create(json!({})).await;
            bob.invite(&room, &ada).await;
        }
        let room = carol.create(json!({})).await;
        carol.invite(&room, &ada).await;
        assert_eq!(told(&ada).await, [room]);
        configure(&ada, RULES, json!({})).await;
        let answer = ada.sync(None, "").await;
        assert_eq!(answer["rooms"]["invite"].as_object().unwrap().len(), 16);
        store.close().await;
        far.close().await;
        database.remove().await;
        elsewhere.remove().await;
    }
}

#[tokio::test]
async fn rules_that_cannot_be_used_are_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let path = format!("/user/{}/account_data/{RULES}", esc(&alice.id));
        let many: Vec<String> = (0..1_000).map(|n| format!("{n}*")).collect();
        for wrong in [
            json!({ "blocked_servers": many }),
            json!({ "blocked_users": ["a".repeat(65_536)] }),
            json!({ "blocked_users": ["*".to_owned() + &"a".repeat(200)] }),
        ] {
            let (status, answer) = alice.call(Method::PUT, &path, Some(wrong)).await;
            let found = (status, answer["errcode"].as_str().unwrap_or(""));
            assert_eq!(
                found,
                (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
                "{answer}"
            );
        }
        // What means nothing may be kept, as other account data.
        configure(&alice, RULES, json!({ "blocked_servers": "*" })).await;
        assert_eq!(alice.read(&path).await["blocked_servers"], "*");
        let bob = server.register("bob").await;
        let room = bob.create(json!({ "invite": [alice.id] })).await;
        assert_eq!(told(&alice).await, [room]);
    })
    .await;
}
