//! Services ask whether they can be reached.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, routing::post};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Acting, IRC, PUPPETS, story};
use crate::harness::{Server, watch};

/// What was shown, and what was said.
type Asked = (Option<String>, Value);

/// A service's side: what it answers, and what it was asked.
#[derive(Clone)]
struct Side {
    answer: Arc<Mutex<(StatusCode, Value)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

async fn answer(
    State(side): State<Side>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.map(|shown| shown.to_str().unwrap().to_owned());
    side.asked.lock().unwrap().push((shown, body));
    let (status, answer) = side.answer.lock().unwrap().clone();
    (status, Json(answer))
}

/// Listens somewhere; gives where.
async fn listen(side: &Side) -> String {
    let router = Router::new()
        .route("/_matrix/app/v1/ping", post(answer))
        .with_state(side.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = watch().over_asked(router);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn ping(server: &Server, id: &str, token: Option<&str>) -> (u16, Value) {
    let path = format!("/_matrix/client/v1/appservice/{id}/ping");
    let body = Some(json!({ "transaction_id": "one" }));
    let (status, answer) = server.request(Method::POST, &path, token, body).await;
    (status.as_u16(), answer)
}

#[tokio::test]
async fn a_service_hears_how_it_was_reached() {
    let side = Side {
        answer: Arc::new(Mutex::new((StatusCode::OK, json!({})))),
        asked: Arc::default(),
    };
    let url = listen(&side).await;
    let there = IRC.replace("url: null", &format!("url: {url}"));
    story(&[&there], async |server| {
        side.asked.lock().unwrap().clear();
        *side.answer.lock().unwrap() = (StatusCode::OK, json!({}));
        let ada = server.register("ada").await;
        let (status, answer) = ping(server, "irc", Some("irc-token")).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["duration_ms"].is_u64(), "{answer}");
        let asked = std::mem::take(&mut *side.asked.lock().unwrap());
        let ours = Some("Bearer irc-hs-token".to_owned());
        assert_eq!(asked, [(ours, json!({ "transaction_id": "one" }))]);

        *side.answer.lock().unwrap() = (StatusCode::FORBIDDEN, json!({ "errcode": "M_FORBIDDEN" }));
        let (status, answer) = ping(server, "irc", Some("irc-token")).await;
        assert_eq!((status, &answer["errcode"]), (502, &json!("M_BAD_STATUS")));
        assert_eq!(answer["status"], 403);
        assert_eq!(answer["body"], "{\"errcode\":\"M_FORBIDDEN\"}");

        side.asked.lock().unwrap().clear();
        for (id, token, status, code) in [
            ("other", Some("irc-token"), 403, "M_FORBIDDEN"),
            ("irc", Some(ada.token.as_str()), 403, "M_FORBIDDEN"),
            ("irc", Some("irc-hs-token"), 401, "M_UNKNOWN_TOKEN"),
            ("irc", None, 401, "M_MISSING_TOKEN"),
        ] {
            let (found, answer) = ping(server, id, token).await;
            assert_eq!(
                (found, &answer["errcode"]),
                (status, &json!(code)),
                "{id} {token:?}"
            );
        }
        // Nobody's token gets there, and nobody else's ping.
        assert!(side.asked.lock().unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let there = IRC.replace("url: null", &format!("url: {url}"));
    story(&[&there, PUPPETS], async |server| {
        let (status, answer) = ping(server, "irc", Some("irc-token")).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (502, &json!("M_CONNECTION_FAILED"))
        );
        let text = answer.to_string();
        assert!(
            !text.contains("irc-hs-token") && !text.contains("irc-token"),
            "{text}"
        );
        let (status, answer) = ping(server, "puppets", Some("puppets-token")).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!("M_URL_NOT_SET")));
        // The sender may be who it likes.
        let acting = Acting::of(server, "puppets-token").as_user("@puppeteer:here");
        acting.read("/account/whoami").await;
    })
    .await;
}
