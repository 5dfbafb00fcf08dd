//! Account data: set, read, deleted, and told.

use http::{Method, StatusCode};
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
