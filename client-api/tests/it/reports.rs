//! What users report.

use rhizome_client_api::config::{Rate, RateLimits};
use serde_json::json;

use crate::asking::{HOSTILE, config, each_server, each_server_with, encoded};

#[tokio::test]
async fn what_is_reported_waits_for_the_operator() {
    each_server(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let store = &server.app.store;
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        let event = ada.say(&room, "something improper").await;
        let of_room = format!("/rooms/{}/report", encoded(&room));
        let of_event = |event: &str| format!("/rooms/{}/report/{}", encoded(&room), encoded(event));
        let reason = || json!({ "reason": HOSTILE[1] });
        // A room by anybody, an event by who is there, a user by anybody; whether there is such looks the same.
        bob.post(&of_room, reason()).await.ok();
        bob.post("/rooms/!none:there.test/report", reason())
            .await
            .ok();
        bob.post(&format!("/users/{}/report", encoded(&ada.id)), reason())
            .await
            .ok();
        bob.post(
            &format!("/users/{}/report", encoded("@no:there.test")),
            reason(),
        )
        .await
        .ok();
        bob.post(&of_event(&event), reason())
            .await
            .fails(404, "M_NOT_FOUND");
        let nowhere = format!("/rooms/!none:there.test/report/{}", encoded(&event));
        bob.post(&nowhere, reason()).await.fails(404, "M_NOT_FOUND");
        bob.join(&room).await;
        bob.post(&of_event("$none"), reason())
            .await
            .fails(404, "M_NOT_FOUND");
        bob.post(
            &of_event(&event),
            json!({ "reason": "spam", "score": -100 }),
        )
        .await
        .ok();
        // Again, it is the same report.
        bob.post(&of_event(&event), json!({})).await.ok();
        let long = json!({ "reason": "x".repeat(4_097) });
        bob.post(&of_room, long).await.fails(413, "M_TOO_LARGE");

        let waiting = store.reports(0, 100).await.unwrap();
        let what: Vec<_> = waiting
            .iter()
            .map(|one| {
                (
                    one.room_id.is_some(),
                    one.event_id.is_some(),
                    one.user_id.is_some(),
                )
            })
            .collect();
        let (room_, event_, user_) = (
            (true, false, false),
            (true, true, true),
            (false, false, true),
        );
        assert_eq!(what, [room_, room_, user_, user_, event_]);
        assert!(waiting.iter().all(|one| one.reporter == bob.id.as_str()));
        assert_eq!(waiting[0].reason, HOSTILE[1]);
        assert_eq!(waiting[4].reason, "spam");
        // It says what it said, though it is redacted.
        let redact = format!("/rooms/{}/redact/{}/1", encoded(&room), encoded(&event));
        ada.put(&redact, json!({})).await.ok();
        let report = store.report(waiting[4].no).await.unwrap().unwrap();
        assert!(report.event.unwrap().contains("something improper"));
        assert_eq!(report.user_id.unwrap(), ada.id.as_str());
        // Who has left may not.
        bob.post(&format!("/rooms/{}/leave", encoded(&room)), json!({}))
            .await
            .ok();
        bob.post(&of_event(&event), reason())
            .await
            .fails(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn who_reports_too_much_is_slowed_down() {
    let slow = || {
        let mut config = config();
        config.rate_limits = RateLimits {
            enabled: true,
            other: Rate {
                per_second: 0.001,
                burst: 2,
            },
            ..RateLimits::default()
        };
        config
    };
    each_server_with(slow, async |server| {
        let ada = server.register("ada").await;
        for _ in 0..2 {
            ada.post("/rooms/!a:here.test/report", json!({ "reason": "" }))
                .await
                .ok();
        }
        for path in [
            "/rooms/!a:here.test/report",
            "/users/@a:here.test/report",
            "/rooms/!a:b/report/$c",
        ] {
            let report = ada.post(path, json!({ "reason": "" })).await;
            report.fails(429, "M_LIMIT_EXCEEDED");
        }
    })
    .await;
}
