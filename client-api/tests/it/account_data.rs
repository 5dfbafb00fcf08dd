//! Account data: set, read, deleted, and told.

use http::{Method, StatusCode};
use ruma::UserId;
use serde_json::{Value, json};

use crate::harness::{User, esc, events, next, story};

#[tokio::test]
async fn account_data_of_a_room_and_forbidden_types() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let since = next(&alice.sync(None, "").await);
        let base = format!("/user/{}", esc(&alice.id));
        let tags = format!("{base}/rooms/{}/account_data/org.test.note", esc(&room));
        alice
            .ok(
                Method::PUT,
                &tags,
                json!({"n": 1, "deep": {"\u{0}": "\u{0}"}}),
            )
            .await;
        assert_eq!(alice.read(&tags).await["deep"]["\u{0}"], "\u{0}");
        let told = alice.sync(Some(&since), "").await;
        assert_eq!(
            told["rooms"]["join"][&room]["account_data"]["events"][0]["content"]["n"],
            1
        );
        assert!(told.get("account_data").is_none());
        for forbidden in ["m.fully_read", "m.push_rules"] {
            let path = format!("{base}/account_data/{forbidden}");
            let (status, _) = alice.call(Method::PUT, &path, Some(json!({}))).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        }
        let (status, _) = bob.get(&tags).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, _) = alice.get(&format!("{base}/account_data/absent")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, _) = alice
            .call(
                Method::PUT,
                &format!("{base}/account_data/x"),
                Some(json!([1])),
            )
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}

/// As bridges do, who note what a room is for before they accept.
#[tokio::test]
async fn whoever_is_invited_keeps_account_data_of_the_room() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create(json!({"preset": "private_chat"})).await;
        let note = format!(
            "/user/{}/rooms/{}/account_data/org.test.note",
            esc(&bob.id),
            esc(&room)
        );
        let (status, _) = bob.call(Method::PUT, &note, Some(json!({"n": 1}))).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "a stranger");
        alice.invite(&room, &bob).await;
        let invited = bob.sync(None, "").await;
        assert!(invited["rooms"]["invite"][&room].is_object(), "{invited}");
        bob.ok(Method::PUT, &note, json!({"n": 1})).await;
        assert_eq!(bob.read(&note).await["n"], 1);
        let since = next(&bob.sync(Some(&next(&invited)), "").await);
        bob.join(&room).await;
        let told = bob.sync(Some(&since), "").await;
        let events = events(&told, &["rooms", "join", &room, "account_data", "events"]);
        assert_eq!(events[0]["content"]["n"], 1, "{told}");
    })
    .await;
}

#[tokio::test]
async fn deleted_account_data_is_told_once_and_gone() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let base = format!("/user/{}", esc(&alice.id));
        let unstable = "/_matrix/client/unstable/org.matrix.msc3391";
        let delete = async |user: &User, path: &str| {
            let path = format!("{unstable}{path}");
            let (status, _) = server
                .request(Method::DELETE, &path, Some(&user.token), None)
                .await;
            status
        };
        let in_room = format!("{base}/rooms/{}/account_data", esc(&room));
        let global = format!("{base}/account_data");
        for (folder, at) in [
            (&global, vec!["account_data", "events"]),
            (
                &in_room,
                vec!["rooms", "join", &room, "account_data", "events"],
            ),
        ] {
            let path = format!("{folder}/org.test.note");
            assert_eq!(delete(&alice, &path).await, StatusCode::OK, "nothing there");
            for by_delete in [true, false] {
                alice.ok(Method::PUT, &path, json!({"n": 1})).await;
                let since = next(&alice.sync(None, "").await);
                assert_eq!(delete(&bob, &path).await, StatusCode::FORBIDDEN);
                if by_delete {
                    assert_eq!(delete(&alice, &path).await, StatusCode::OK);
                } else {
                    alice.ok(Method::PUT, &path, json!({})).await;
                }
                let gone = json!({"type": "org.test.note", "content": {}});
                let told = alice.sync(Some(&since), "").await;
                assert_eq!(events(&told, &at), [&gone], "{told}");
                let (status, _) = alice.get(&path).await;
                assert_eq!(status, StatusCode::NOT_FOUND);
                let fresh = alice.sync(None, "").await;
                let is_note = |data: &&Value| data["type"] == "org.test.note";
                assert!(!events(&fresh, &at).iter().any(is_note), "{fresh}");
            }
        }
        let path = format!("{global}/m.fully_read");
        assert_eq!(delete(&alice, &path).await, StatusCode::METHOD_NOT_ALLOWED);
    })
    .await;
}

/// MSC3890: they go with the device, and the others hear of it.
#[tokio::test]
async fn a_devices_settings_of_notifications_go_with_it() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let device = |whoami: Value| whoami["device_id"].as_str().unwrap().to_owned();
        let kind = |id: &str| format!("org.matrix.msc3890.local_notification_settings.{id}");
        let path = |id: &str| format!("/user/{}/account_data/{}", esc(&alice.id), esc(&kind(id)));
        let own = device(alice.read("/account/whoami").await);
        let silenced = json!({ "is_silenced": true });
        alice.ok(Method::PUT, &path(&own), silenced.clone()).await;
        let logout = |user: User| async move { user.ok(Method::POST, "/logout", json!({})).await };
        let others = async |user: User| {
            let (id, auth) = (
                device(user.read("/account/whoami").await),
                "m.login.password",
            );
            let user_id = json!({ "type": "m.id.user", "user": user.id });
            let auth =
                json!({ "type": auth, "password": "a good password", "identifier": user_id });
            let body = json!({ "devices": [id], "auth": auth });
            alice.ok(Method::POST, "/delete_devices", body).await
        };
        for by_itself in [true, false] {
            let phone = alice.another_device().await;
            let id = device(phone.read("/account/whoami").await);
            phone.ok(Method::PUT, &path(&id), silenced.clone()).await;
            let since = next(&alice.sync(None, "").await);
            if by_itself {
                logout(phone).await;
            } else {
                others(phone).await;
            }
            let (status, answer) = alice.get(&path(&id)).await;
            assert_eq!(
                (status, &answer["errcode"]),
                (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND"))
            );
            let told = alice.sync(Some(&since), "").await;
            let told = events(&told, &["account_data", "events"]);
            assert_eq!(told, [&json!({ "type": kind(&id), "content": {} })]);
            assert_eq!(alice.read(&path(&own)).await, silenced);
        }
        let since = next(&alice.sync(None, "").await);
        logout(alice.another_device().await).await;
        let told = alice.sync(Some(&since), "").await;
        assert!(told.get("account_data").is_none());
    })
    .await;
}

/// Whether a room is marked as unread is the client's to say and to take back.
#[tokio::test]
async fn a_room_is_marked_as_unread_for_all_devices() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let phone = alice.another_device().await;
        let since = next(&phone.sync(None, "").await);
        let path = format!(
            "/user/{}/rooms/{}/account_data/m.marked_unread",
            esc(&alice.id),
            esc(&room)
        );
        let mark = json!({ "unread": true });
        alice.ok(Method::PUT, &path, mark.clone()).await;
        let event = json!({ "type": "m.marked_unread", "content": mark });
        let marked = |answer: &Value| {
            let room = &answer["rooms"]["join"][&room];
            room["account_data"]["events"]
                .as_array()
                .is_some_and(|all| all.contains(&event))
        };
        assert!(marked(&phone.sync(Some(&since), "").await));
        assert!(marked(&phone.sync(None, "").await));
        // A receipt doesn't take it back, nor does it change a count.
        let said = alice.say(&room, "hi").await;
        let receipt = format!("/rooms/{}/receipt/m.read/{}", esc(&room), esc(&said));
        alice.ok(Method::POST, &receipt, json!({})).await;
        let answer = phone.sync(None, "").await;
        assert!(marked(&answer));
        let counts = &answer["rooms"]["join"][&room]["unread_notifications"];
        assert_eq!(counts["notification_count"], 0);
    })
    .await;
}

/// Nothing is kept of a type that never was, however often it is emptied.
#[tokio::test]
async fn what_is_empty_from_the_first_is_not_kept() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let id = <&UserId>::try_from(alice.id.as_str()).unwrap();
        let user = server.store.user_no(id).await.unwrap();
        let types = async || server.store.account_data_size(user).await.unwrap().types;
        let before = types().await;
        let path = format!("/user/{}/account_data/org.test.note", esc(&alice.id));
        alice.ok(Method::PUT, &path, json!({})).await;
        assert_eq!(types().await, before);
        alice.ok(Method::PUT, &path, json!({ "a": 1 })).await;
        alice.ok(Method::PUT, &path, json!({})).await;
        assert_eq!(types().await, before + 1, "its row stays, and counts");
    })
    .await;
}
