//! A push gateway.

use std::time::Duration;

use http::Response;
use rhizome_push::{Gateways, Outcome, Schemes};
use serde_json::json;

use crate::service::{Seen, Sender, Service, answer};
use crate::world::{Clock, again, device, hand_over, message};

fn judge(seen: &Seen) -> Response<String> {
    assert_eq!(seen.path, "/_matrix/push/v1/notify");
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.header("content-type"), "application/json");
    let body = seen.json();
    let device = &body["notification"]["devices"][0];
    assert_eq!(device["data"], json!({ "app": { "x": 1 } }));
    match device["pushkey"].as_str().unwrap() {
        "gone" => answer(200, r#"{"rejected":["gone","somebody else's"]}"#),
        "later" => {
            let mut later = answer(429, "");
            later.headers_mut().insert("retry-after", 33.into());
            later
        }
        "moved" => {
            let mut moved = answer(307, "");
            moved
                .headers_mut()
                .insert("location", "/elsewhere".parse().unwrap());
            moved
        }
        "long" => answer(200, "x".repeat(1_000_000)),
        _ => answer(200, r#"{"rejected":[]}"#),
    }
}

#[tokio::test]
async fn a_gateway_gets_notifications_and_says_who_is_gone() {
    let service = Service::start(judge).await;
    let (clock, sender) = (Clock::new(), Sender::new(false));
    let gateways = Gateways::new(Schemes::Any);
    let tell = async |pushkey: &str| {
        let url = format!("{}/_matrix/push/v1/notify", service.url);
        let phone = device(pushkey, &json!({ "url": url, "app": { "x": 1 } }));
        hand_over(&gateways, &message("hello"), &phone, &clock, &sender).await
    };
    assert_eq!(tell("phone").await, Outcome::Accepted);
    let body = service.seen()[0].json();
    assert_eq!(body["notification"]["content"]["body"], "hello");
    assert_eq!(tell("long").await, Outcome::Accepted);
    assert_eq!(
        tell("gone").await,
        Outcome::Rejected(vec!["gone".to_owned()])
    );
    assert_eq!(again(&tell("later").await), Some(Duration::from_secs(33)));
    assert!(matches!(tell("moved").await, Outcome::Dropped { .. }));
    assert_eq!(service.seen().len(), 5);
}

#[tokio::test]
async fn a_gateway_that_isnt_there_is_tried_again() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let url = format!("http://{address}/_matrix/push/v1/notify");
    let phone = device("phone", &json!({ "url": url, "app": { "x": 1 } }));
    let (clock, sender) = (Clock::new(), Sender::new(false));
    let gateways = Gateways::new(Schemes::Any);
    let told = hand_over(&gateways, &message("hello"), &phone, &clock, &sender).await;
    assert_eq!(again(&told), None);
}
