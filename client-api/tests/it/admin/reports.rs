//! Reports are looked through and deleted.

use serde_json::{Value, json};

use super::{administrator, delete, get};
use crate::asking::{User, each_server, encoded};

/// Bob has reported what Ada said, Ada, and the room. The event, and the room.
async fn reported(ada: &User, bob: &User) -> (String, String) {
    let room = ada
        .create_room(json!({ "preset": "public_chat", "name": "Hall" }))
        .await;
    bob.join(&room).await;
    let event = ada.say(&room, "something improper").await;
    let of_event = format!("/rooms/{}/report/{}", encoded(&room), encoded(&event));
    for (path, reason) in [
        (of_event, "spam"),
        (format!("/users/{}/report", encoded(&ada.id)), "spammer"),
        (format!("/rooms/{}/report", encoded(&room)), "den"),
    ] {
        bob.post(&path, json!({ "reason": reason })).await.ok();
    }
    (event, room)
}

#[tokio::test]
async fn events_that_were_reported_are_looked_through() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let (event, room) = reported(&ada, &bob).await;
        let list = get(&boss, "/v1/event_reports").await.ok();
        assert_eq!((&list["total"], list.get("next_token")), (&json!(1), None));
        let report = &list["event_reports"][0];
        let id = report["id"].as_i64().unwrap();
        let expected = json!({
            "id": id, "received_ts": crate::asking::START_MS, "room_id": room, "name": "Hall",
            "canonical_alias": null, "event_id": event, "user_id": bob.id, "sender": ada.id,
            "reason": "spam", "score": null,
        });
        assert_eq!(*report, expected);
        let path = format!("/v1/event_reports/{id}");
        let details = get(&boss, &path).await.ok();
        assert_eq!(
            details["event_json"]["content"]["body"],
            "something improper"
        );
        for (query, total) in [
            ("?dir=f", 1),
            ("?user_id=bob", 1),
            ("?user_id=ada", 0),
            ("?event_sender_user_id=ada", 1),
            ("?event_sender_user_id=bob", 0),
            ("?room_id=!none", 0),
            ("?limit=0", 1),
        ] {
            let list = get(&boss, &format!("/v1/event_reports{query}")).await.ok();
            assert_eq!(list["total"], total, "{query}");
        }
        // It is none of a user.
        let other = format!("/v1/user_reports/{id}");
        get(&boss, &other).await.fails(404, "M_NOT_FOUND");
        delete(&boss, &other, Value::Null)
            .await
            .fails(404, "M_NOT_FOUND");
        delete(&boss, &path, Value::Null).await.ok();
        get(&boss, &path).await.fails(404, "M_NOT_FOUND");
        assert_eq!(get(&boss, "/v1/event_reports").await.ok()["total"], 0);
        for wrong in ["x", "-1", "1.5"] {
            let path = format!("/v1/event_reports/{wrong}");
            get(&boss, &path).await.fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn users_who_were_reported_are_looked_through() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        reported(&ada, &bob).await;
        let list = get(&boss, "/v1/user_reports").await.ok();
        assert_eq!(list["total"], 1);
        let report = &list["user_reports"][0];
        let id = report["id"].as_i64().unwrap();
        let expected = json!({
            "id": id, "received_ts": crate::asking::START_MS, "target_user_id": ada.id,
            "user_id": bob.id, "reason": "spammer",
        });
        assert_eq!(*report, expected);
        let path = format!("/v1/user_reports/{id}");
        assert_eq!(get(&boss, &path).await.ok(), expected);
        let none = get(&boss, "/v1/user_reports?target_user_id=bob").await.ok();
        assert_eq!(none["total"], 0);
        delete(&boss, &path, Value::Null).await.ok();
        assert_eq!(get(&boss, "/v1/user_reports").await.ok()["total"], 0);
        // That of the event stays.
        assert_eq!(get(&boss, "/v1/event_reports").await.ok()["total"], 1);
    })
    .await;
}
