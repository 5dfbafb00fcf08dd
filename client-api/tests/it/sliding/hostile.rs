//! What strangers ask for.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::client::{Client, first, rooms};
use crate::harness::story;

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let wanted = json!({ "timeline_limit": 1, "required_state": [] });
        let many = |prefix: &str, count: usize| -> Map<String, Value> {
            (0..count).map(|n| (format!("{prefix}{n}"), wanted.clone())).collect()
        };
        let ranged = |range: Value| {
            let list = json!({ "timeline_limit": 1, "required_state": [], "ranges": range });
            json!({ "lists": { "a": list } })
        };
        let filtered = |part: &str| {
            let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
            let list = json!({ "timeline_limit": 1, "required_state": [], "filters": { part: many } });
            json!({ "lists": { "a": list } })
        };
        let elements: Vec<Value> = (0..1_001).map(|n| json!({ "type": n.to_string() })).collect();
        let cases = [
            (json!({ "lists": many("l", 101) }), "M_INVALID_PARAM"),
            (json!({ "room_subscriptions": many("!r", 1_001) }), "M_INVALID_PARAM"),
            (ranged(json!([[5, 4]])), "M_INVALID_PARAM"),
            (ranged(json!([[-1, 4]])), "M_BAD_JSON"),
            (ranged(json!(vec![[0, 1]; 101])), "M_INVALID_PARAM"),
            (ranged(json!((0..11).map(|n| [3 * n, 3 * n + 1]).collect::<Vec<_>>())), "M_INVALID_PARAM"),
            (filtered("spaces"), "M_INVALID_PARAM"),
            (filtered("room_types"), "M_INVALID_PARAM"),
            (filtered("not_room_types"), "M_INVALID_PARAM"),
            (filtered("tags"), "M_INVALID_PARAM"),
            (filtered("not_tags"), "M_INVALID_PARAM"),
            (json!({ "lists": { "a": {} } }), "M_BAD_JSON"),
            (json!({ "lists": [] }), "M_BAD_JSON"),
            (json!({ "lists": { "a".repeat(256): wanted } }), "M_INVALID_PARAM"),
            (json!({ "set_presence": "dancing" }), "M_INVALID_PARAM"),
            (json!({ "extensions": { "to_device": { "enabled": true, "since": "x" } } }), "M_INVALID_PARAM"),
            (json!({ "lists": { "a": { "timeline_limit": 1, "required_state": { "include": elements } } } }),
                "M_INVALID_PARAM"),
        ];
        for client in [Client::of(&ada), Client::accepted(&ada)] {
            for (body, expected) in &cases {
                let (status, answer) = client.ask(body, 0).await;
                assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
                assert_eq!(answer["errcode"], *expected, "{body}");
            }
        }
        let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
        for query in ["?timeout=x", "?timeout=-1", "?set_presence=dancing"] {
            let path = format!("{path}{query}");
            let (status, _) = server.request(Method::POST, &path, Some(&ada.token), Some(json!({}))).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        }
        let (status, _) = server.request(Method::POST, path, None, Some(json!({}))).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    })
    .await;
}

#[tokio::test]
async fn what_is_too_much_is_cut_and_what_is_unknown_is_passed_over() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        for n in 0..120 {
            ada.say(&room, &n.to_string()).await;
        }
        let far = u64::MAX / 2;
        let answer = Client::of(&ada).sync(&json!({
            "lists": {
                "far": { "ranges": [[far, far + 5]], "timeline_limit": 1, "required_state": [] },
                "all": { "ranges": [[0, far], [0, 0]], "timeline_limit": far, "required_state": [["*", "*"]] },
            },
            "room_subscriptions": {
                "!nowhere:here": { "timeline_limit": 1, "required_state": [] },
                "nonsense": { "timeline_limit": 1, "required_state": [] },
            },
            "extensions": { "presence": { "enabled": true }, "org.example": 5 },
            "org.example": [],
        })).await;
        assert_eq!(rooms(&answer), [&room]);
        assert_eq!(answer["rooms"][&room]["timeline"].as_array().unwrap().len(), 100);
        assert_eq!(answer["lists"]["far"]["count"], 1);
        assert_eq!(answer["extensions"], json!({}));
        // Somebody else's room is none of theirs.
        let secret = server.register("bob").await.create(json!({})).await;
        let body = json!({ "room_subscriptions": { secret: { "timeline_limit": 9, "required_state": [["*", "*"]] } } });
        assert_eq!(Client::of(&ada).sync(&body).await["rooms"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn a_made_up_position_is_unknown() {
    story(|server| async move {
        let ada = server.register("ada").await;
        ada.create_public().await;
        let mut client = Client::of(&ada);
        let body = first(5);
        client.sync(&body).await;
        let pos = client.pos.clone().unwrap();
        let (token, rest) = pos.split_once('.').unwrap();
        let (connection, version) = rest.split_once('.').unwrap();
        let (sealed, at) = token.split_once('_').unwrap();
        let made_up = [
            String::new(),
            "nonsense".into(),
            token.into(),
            format!("{token}.{connection}"),
            format!("{token}.{connection}.1"),
            format!("{token}.1.{version}"),
            format!("{sealed}_1_{}.{rest}", at.split_once('_').unwrap().1),
            format!("{sealed}_99999999_0.{rest}"),
            ada.sync(None, "").await["next_batch"]
                .as_str()
                .unwrap()
                .to_owned(),
        ];
        for pos in made_up {
            client.pos = Some(pos.clone());
            client.is_unknown(&body).await;
        }
        client.pos = Some(pos.clone());
        client.sync(&body).await;
        // Histories go on from it, like from a token of /sync.
        let room = ada.create_public().await;
        let said = ada.say(&room, "hello").await;
        client.sync(&body).await;
        let pos = client.pos.clone().unwrap();
        ada.say(&room, "later").await;
        let path = format!(
            "/rooms/{}/messages?dir=b&limit=1&from={pos}",
            crate::harness::esc(&room)
        );
        assert_eq!(ada.read(&path).await["chunk"][0]["event_id"], said.as_str());
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_for_in_ever_other_ways_begins_anew_in_the_end() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        let mut client = Client::of(&ada);
        for n in 0.. {
            let kind = format!("{n}{}", "x".repeat(2_000));
            let body = json!({ "room_subscriptions": { &room: {
                "timeline_limit": 1, "required_state": [[kind, ""]],
            } } });
            let (status, answer) = client.ask(&body, 0).await;
            if status != StatusCode::OK {
                assert_eq!(answer["errcode"], "M_UNKNOWN_POS");
                assert!(n > 5, "{n}");
                break;
            }
            assert!(n < 100);
            client.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_of_today_gets_its_id_back() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let body = json!({ "txn_id": "t\"1" });
        assert_eq!(Client::of(&ada).sync(&body).await["txn_id"], "t\"1");
        assert_eq!(Client::accepted(&ada).sync(&body).await.get("txn_id"), None);
        let (_, versions) = server
            .request(Method::GET, "/_matrix/client/versions", None, None)
            .await;
        assert_eq!(
            versions["unstable_features"]["org.matrix.simplified_msc3575"],
            true
        );
    })
    .await;
}
