//! When an event was made, services say (`ts`).

use http::Method;
use serde_json::{Value, json};

use super::{Acting, IRC, story};
use crate::harness::esc;

#[tokio::test]
async fn services_say_when_events_were_made() {
    story(&[IRC], async |server| {
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let room = ann.ok(Method::POST, "/createRoom", json!({})).await;
        let room = esc(room["room_id"].as_str().unwrap());
        let made = async |path: &str, body: Value| {
            let sent = ann.ok(Method::PUT, path, body).await;
            let id = esc(sent["event_id"].as_str().unwrap());
            ann.read(&format!("/rooms/{room}/event/{id}")).await
        };
        let message = json!({ "msgtype": "m.text", "body": "long ago" });
        let path = format!("/rooms/{room}/send/m.room.message/1?ts=1234567890123");
        let event = made(&path, message.clone()).await;
        assert_eq!(event["origin_server_ts"], 1_234_567_890_123_i64);
        let path = format!("/rooms/{room}/state/m.room.topic?ts=0");
        assert_eq!(
            made(&path, json!({ "topic": "x" })).await["origin_server_ts"],
            0
        );
        let redacts = json!({ "redacts": event["event_id"] });
        let path = format!("/rooms/{room}/send/m.room.redaction/2?ts=99");
        assert_eq!(made(&path, redacts).await["origin_server_ts"], 99);
        let path = format!("/rooms/{room}/send/m.room.message/3");
        let now = made(&path, message.clone()).await["origin_server_ts"].as_i64();
        assert!(now > Some(1_500_000_000_000), "{now:?}");

        // It is as new as any: it comes last.
        let path = format!("/rooms/{room}/send/m.room.message/4?ts=5");
        let last = made(&path, message.clone()).await;
        let page = ann
            .read(&format!("/rooms/{room}/messages?dir=b&limit=1"))
            .await;
        assert_eq!(page["chunk"][0]["event_id"], last["event_id"]);

        for wrong in [
            "-1",
            "x",
            "",
            "1.5",
            "9007199254740992",
            "99999999999999999999",
        ] {
            for path in [
                format!("/rooms/{room}/send/m.room.message/5?ts={wrong}"),
                format!("/rooms/{room}/state/m.room.topic?ts={wrong}"),
            ] {
                let refusal = (400, "M_INVALID_PARAM");
                ann.refused(Method::PUT, &path, message.clone(), refusal)
                    .await;
            }
        }
        let later =
            format!("/rooms/{room}/send/m.room.message/6?ts=5&org.matrix.msc4140.delay=1000");
        ann.refused(Method::PUT, &later, message, (400, "M_INVALID_PARAM"))
            .await;
    })
    .await;
}

#[tokio::test]
async fn what_people_say_of_that_is_not_heard() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        for (txn, ts) in [(1, "5"), (2, "nonsense")] {
            let path = format!("/rooms/{}/send/m.room.message/{txn}?ts={ts}", esc(&room));
            let body = json!({ "msgtype": "m.text", "body": "now" });
            let sent = ada.ok(Method::PUT, &path, body).await;
            let id = esc(sent["event_id"].as_str().unwrap());
            let event = ada.read(&format!("/rooms/{}/event/{id}", esc(&room))).await;
            let made = event["origin_server_ts"].as_i64();
            assert!(made > Some(1_500_000_000_000), "{made:?}");
        }
    })
    .await;
}
