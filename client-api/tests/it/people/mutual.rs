//! Rooms in which two people are.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, story};

const PATHS: [&str; 2] = [
    "/_matrix/client/v1/mutual_rooms",
    "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
];

async fn ask(server: &Server, user: &User, path: &str, query: &str) -> (http::StatusCode, Value) {
    let path = format!("{path}{query}");
    server
        .request(Method::GET, &path, Some(&user.token), None)
        .await
}

async fn shared(server: &Server, user: &User, other: &str) -> Value {
    let mut answers = Vec::new();
    for path in PATHS {
        let (status, answer) = ask(server, user, path, &format!("?user_id={}", esc(other))).await;
        assert_eq!(status, 200, "{answer}");
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
    answers.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_both_are_in_are_told() {
    story(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let none = json!({ "joined": [], "count": 0 });
        assert_eq!(shared(&server, &ada, &bob.id).await, none);
        assert_eq!(shared(&server, &ada, "@nobody:elsewhere").await, none);
        let one = ada.create_public().await;
        let two = bob.create(json!({ "invite": [ada.id] })).await;
        bob.create_public().await;
        assert_eq!(shared(&server, &ada, &bob.id).await, none);
        bob.join(&one).await;
        ada.join(&two).await;
        let both = json!({ "joined": [one, two], "count": 2 });
        assert_eq!(shared(&server, &ada, &bob.id).await, both);
        assert_eq!(shared(&server, &bob, &ada.id).await, both);
        ada.leave(&one).await;
        let left = json!({ "joined": [two], "count": 1 });
        assert_eq!(shared(&server, &bob, &ada.id).await, left);
        let (_, versions) = server
            .request(Method::GET, "/_matrix/client/versions", None, None)
            .await;
        for name in ["", ".stable"] {
            let feature = format!("uk.half-shot.msc2666.query_mutual_rooms{name}");
            assert_eq!(versions["unstable_features"][&feature], true);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused() {
    story(async |server| {
        let ada = server.register("ada").await;
        let myself = format!("?user_id={}", esc(&ada.id));
        for path in PATHS {
            for (query, errcode) in [
                (&*myself, "M_INVALID_PARAM"),
                ("", "M_MISSING_PARAM"),
                ("?user_id=bob", "M_INVALID_PARAM"),
                ("?user_id=%40bob%3Ahere&from=x", "M_INVALID_PARAM"),
            ] {
                let (status, answer) = ask(&server, &ada, path, query).await;
                assert_eq!(
                    (status.as_u16(), &answer["errcode"]),
                    (400, &json!(errcode))
                );
            }
            let (status, _) = server.request(Method::GET, path, None, None).await;
            assert_eq!(status, 401);
        }
    })
    .await;
}
