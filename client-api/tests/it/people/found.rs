//! Who is found by whom, and by which name.

use http::Method;
use serde_json::json;

use super::{call_oneself, call_oneself_in, find, finds, following, people, search};
use crate::harness::{Server, esc};
use rhizome_client_api::config::FoundUsers;
use rhizome_storage::{
    NewAccount,
    testing::{each_database, eventually},
};

/// As Complement has it: what somebody is called in a private room is nobody else's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_for_a_private_room_is_found_by_nobody_else() {
    people(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        call_oneself(&alice, "Alice Cooper").await;
        alice.create_public().await;
        let room = bob.create(json!({ "invite": [alice.id] })).await;
        alice.join(&room).await;
        call_oneself_in(&alice, &room, "Freddy").await;
        let found = [(&alice, Some("Alice Cooper"))];
        for user in [&eve, &bob] {
            find(user, "Alice Cooper", &found).await;
            find(user, "@alice", &found).await;
            find(user, &alice.id, &found).await;
            find(user, "coop", &found).await;
            assert!(finds(user, "Freddy").await.is_empty());
        }
        assert!(
            finds(&alice, "alice").await.is_empty(),
            "nobody finds themselves"
        );
        assert!(
            finds(&eve, "bob").await.is_empty(),
            "he is only in a private room"
        );
        find(&alice, "bob", &[(&bob, None)]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_found_goes_by_the_rooms_they_are_in_now() {
    people(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        let found = [(&bob, None)];
        assert!(finds(&ada, "bob").await.is_empty());
        let private = ada.create(json!({ "invite": [bob.id] })).await;
        assert!(finds(&ada, "bob").await.is_empty(), "invited isn't joined");
        bob.join(&private).await;
        find(&ada, "bob", &found).await;
        assert!(finds(&eve, "bob").await.is_empty());
        // Now anybody may look into it, and then not any more.
        let visible = async |how: &str| {
            let content = json!({ "history_visibility": how });
            ada.set_state(&private, "m.room.history_visibility", "", content)
                .await;
        };
        visible("world_readable").await;
        find(&eve, "bob", &found).await;
        visible("shared").await;
        find(&eve, "bob", &[]).await;
        let rule = async |rule: &str| {
            let content = json!({ "join_rule": rule });
            ada.set_state(&private, "m.room.join_rules", "", content)
                .await;
        };
        rule("public").await;
        find(&eve, "bob", &found).await;
        rule("invite").await;
        find(&eve, "bob", &[]).await;
        find(&ada, "bob", &found).await;
        bob.leave(&private).await;
        find(&ada, "bob", &[]).await;
        let public = bob.create_public().await;
        find(&ada, "bob", &found).await;
        bob.leave(&public).await;
        find(&ada, "bob", &[]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_ignored_or_gone_is_not_found() {
    people(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let eve = server.register("eve").await;
        bob.create_public().await;
        find(&ada, "bob", &[(&bob, None)]).await;
        let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&ada.id));
        let list = json!({ "ignored_users": { bob.id.as_str(): {}, "@nobody:elsewhere": {} } });
        ada.ok(Method::PUT, &path, list).await;
        assert!(finds(&ada, "bob").await.is_empty());
        find(&eve, "bob", &[(&bob, None)]).await;
        call_oneself(&bob, "Robert").await;
        find(&eve, "rob", &[(&bob, Some("Robert"))]).await;
        let auth = json!({
            "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": bob.id },
        });
        bob.ok(Method::POST, "/account/deactivate", json!({ "auth": auth }))
            .await;
        assert!(finds(&eve, "bob").await.is_empty(), "at once");
        find(&eve, "robert", &[]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_users_of_the_server_are_found_where_the_operator_wants_it() {
    each_database(async |store| {
        let server = Server::with(store, |config| config.found_users = FoundUsers::AllLocal);
        let told = async {
            let ada = server.register("ada").await;
            let bob = server.register("bob").await;
            find(&ada, "b", &[(&bob, None)]).await;
            call_oneself(&bob, "Дядя Боб 🦊").await;
            let found = [(&bob, Some("Дядя Боб 🦊"))];
            for term in ["дядя", "dyadya", "БОБ", "🦊", "bob", "@bob:here"] {
                find(&ada, term, &found).await;
            }
            call_oneself(&bob, "").await;
            find(&ada, "dyadya", &[]).await;
            find(&ada, "bob", &[(&bob, None)]).await;
            // Who was made by the operator, and has never been here.
            let carl = ruma::user_id!("@carl:here");
            let made = server
                .store
                .create_account(carl, NewAccount::default(), None);
            assert!(made.await.unwrap().is_some());
            eventually("carl is found", async || {
                finds(&ada, "carl").await == [(carl.to_string(), None)]
            })
            .await;
        };
        following(&server, told).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_come_first() {
    people(async |server| {
        let ada = server.register("ada").await;
        let exact = server.register("sam").await;
        let longer = server.register("samuel").await;
        let shared = server.register("samson").await;
        for user in [&exact, &longer, &shared] {
            user.create_public().await;
        }
        let room = ada.create(json!({ "invite": [shared.id] })).await;
        shared.join(&room).await;
        call_oneself(&longer, "Samuel").await;
        let all = [(&shared, None), (&exact, None), (&longer, Some("Samuel"))];
        find(&ada, "sam", &all).await;
        find(&ada, "@sam:here", &[(&exact, None)]).await;
        let answer = search(&ada, json!({ "search_term": "sam", "limit": 2 })).await;
        let ids: Vec<_> = (answer["results"].as_array().unwrap().iter())
            .map(|one| one["user_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, [&*shared.id, &*exact.id]);
        assert_eq!(answer["limited"], true);
        let path = format!("/profile/{}/avatar_url", esc(&longer.id));
        let picture = json!({ "avatar_url": "mxc://here/picture" });
        longer.ok(Method::PUT, &path, picture.clone()).await;
        eventually("the picture is told", async || {
            let answer = search(&ada, json!({ "search_term": "samuel" })).await;
            let found = &answer["results"][0];
            found["avatar_url"] == picture["avatar_url"] && found["display_name"] == "Samuel"
        })
        .await;
    })
    .await;
}
