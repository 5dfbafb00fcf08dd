//! What is asked wrongly, and what attackers ask.

use http::Method;
use serde_json::{Value, json};

use super::{call_oneself, find, finds, people, search};
use crate::asking::HOSTILE;

#[tokio::test(flavor = "multi_thread")]
async fn no_text_is_a_query_language() {
    people(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        bob.create_public().await;
        call_oneself(&bob, "Bob 100% _ * Smith").await;
        let found = [(&bob, Some("Bob 100% _ * Smith"))];
        find(&ada, "bob", &found).await;
        find(&ada, "100% smith", &found).await;
        for nothing in [
            "", " ", "\u{0}", "%", "_", "*", "\"", "'", "@", ":*", "\u{301}",
        ] {
            assert!(finds(&ada, nothing).await.is_empty(), "{nothing:?}");
        }
        for other in [
            "bob OR alice",
            "bob:* | x",
            "NEAR(bob smith)",
            "bob' OR '1'='1",
            "word : bob",
            "-smith carl",
            "@%",
            "@bob:here' --",
        ] {
            assert!(finds(&ada, other).await.is_empty(), "{other:?}");
        }
        for hostile in HOSTILE {
            finds(&ada, hostile).await;
            call_oneself(&bob, hostile).await;
        }
        let last = HOSTILE.last().unwrap();
        find(&ada, "bob", &[(&bob, Some(last))]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_bounded() {
    people(async |server| {
        let ada = server.register("ada").await;
        let refused = async |body: Value| {
            let asked = ada.call(Method::POST, "/user_directory/search", Some(body));
            let (status, answer) = asked.await;
            assert_eq!(status, 400, "{answer}");
            answer["errcode"].as_str().unwrap().to_owned()
        };
        let long = json!({ "search_term": "x".repeat(5_000) });
        assert_eq!(refused(long).await, "M_INVALID_PARAM");
        for wrong in [json!({}), json!({ "search_term": 1 }), json!([])] {
            refused(wrong).await;
        }
        let none = json!({ "results": [], "limited": false });
        let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let many = json!({ "search_term": many.join(" ") });
        assert_eq!(search(&ada, many).await, none);
        let huge = json!({ "search_term": "x", "limit": 9_007_199_254_740_991_i64 });
        assert_eq!(search(&ada, huge).await, none);
        let bob = server.register("bob").await;
        bob.create_public().await;
        find(&ada, "bob", &[(&bob, None)]).await;
        let nobody = search(&ada, json!({ "search_term": "bob", "limit": 0 })).await;
        assert_eq!(nobody, json!({ "results": [], "limited": true }));
        let path = "/_matrix/client/v3/user_directory/search";
        let body = Some(json!({ "search_term": "bob" }));
        let (status, _) = server.request(Method::POST, path, None, body).await;
        assert_eq!(status, 401);
    })
    .await;
}
