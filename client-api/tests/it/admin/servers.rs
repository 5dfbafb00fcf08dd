//! Other servers, and the server itself, as administrators see them.

use http::Method;
use rhizome_client_api::tasks;
use rhizome_storage::{DestinationState, Pos, TaskState, testing::eventually};
use ruma::server_name;
use serde_json::{Value, json};

use super::{
    administrator, get, post,
    redacting::{administrator as administrator_of, ask},
};
use crate::{
    asking::{START_MS, each_server},
    e2ee::several::several,
    harness::esc,
};

const ALL: &str = "/v1/federation/destinations";

#[tokio::test]
async fn servers_that_fail_are_tried_again() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let store = &server.app.store;
        let (well, bad) = (server_name!("a.example"), server_name!("b.example"));
        let fails = DestinationState {
            failures: 3,
            retry_at: START_MS + 60_000,
            failing_since: START_MS - 5,
            ..DestinationState::default()
        };
        let stands = DestinationState {
            sent: Pos(7),
            ..DestinationState::default()
        };
        let states = [(well.to_owned(), stands), (bad.to_owned(), fails)];
        store.store_destination_states(&states).await.unwrap();
        let list = get(&boss, ALL).await.ok();
        assert_eq!((&list["total"], list.get("next_token")), (&json!(2), None));
        let expected = json!({
            "destination": well, "retry_last_ts": 0, "retry_interval": 0, "failure_ts": null,
            "last_successful_stream_ordering": 7,
        });
        assert_eq!(list["destinations"][0], expected);
        let one = get(&boss, &format!("{ALL}/b.example")).await.ok();
        assert_eq!(one, list["destinations"][1]);
        assert_eq!(one["failure_ts"], START_MS - 5);
        let (last, pause) = (&one["retry_last_ts"], &one["retry_interval"]);
        let (last, pause) = (last.as_i64().unwrap(), pause.as_i64().unwrap());
        assert!(pause > 0 && last + pause == START_MS + 60_000, "{one}");
        for (query, first) in [
            ("?order_by=failure_ts&dir=b", "b.example"),
            ("?order_by=retry_interval&dir=b", "b.example"),
            ("?order_by=retry_last_ts", "a.example"),
            (
                "?order_by=last_successful_stream_ordering&dir=b",
                "a.example",
            ),
            ("?destination=b.", "b.example"),
            ("?from=1", "b.example"),
        ] {
            let list = get(&boss, &format!("{ALL}{query}")).await.ok();
            assert_eq!(list["destinations"][0]["destination"], first, "{query}");
        }
        let page = get(&boss, &format!("{ALL}?limit=1")).await.ok();
        assert_eq!(page["next_token"], "1");

        let reset = |name: &str| format!("{ALL}/{name}/reset_connection");
        post(&boss, &reset("b.example"), json!({})).await.ok();
        let state = store.destination_state(bad).await.unwrap();
        assert_eq!(state.retry_at, 0);
        post(&boss, &reset("a.example"), json!({}))
            .await
            .fails(400, "M_UNKNOWN");
        for what in ["", "/rooms"] {
            let path = format!("{ALL}/none.example{what}");
            get(&boss, &path).await.fails(404, "M_NOT_FOUND");
            let path = format!("{ALL}/no%20name{what}");
            get(&boss, &path).await.fails(400, "M_INVALID_PARAM");
        }
        get(&boss, &format!("{ALL}?order_by=x"))
            .await
            .fails(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn the_rooms_that_two_servers_share_are_told() {
    several(2, async |all| {
        let (here, there) = (all.server(0), all.server(1));
        let boss = administrator_of(here, "boss").await;
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let (room, own) = (ada.create_public().await, ada.create_public().await);
        let join = format!("/join/{}?via=a.example", esc(&room));
        bob.ok(Method::POST, &join, json!({})).await;
        ada.say(&room, "hello").await;
        ada.say(&own, "nobody there").await;
        let path = format!("{ALL}/b.example/rooms");
        eventually("something was sent there", async || {
            ask(&boss, Method::GET, &path, None).await.0 == 200
        })
        .await;
        let (_, told) = ask(&boss, Method::GET, &path, None).await;
        assert_eq!(told["total"], 1);
        assert_eq!(told["rooms"][0]["room_id"], json!(room));
        assert!(told["rooms"][0]["stream_ordering"].as_i64().unwrap() > 0);
        let (_, none) = ask(&boss, Method::GET, &format!("{path}?from=1"), None).await;
        assert_eq!((&none["rooms"], &none["total"]), (&json!([]), &json!(1)));
    })
    .await;
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let version = get(&boss, "/v1/server_version").await.ok();
        let version = version["server_version"].as_str().unwrap().to_owned();
        assert!(version.starts_with("Rhizome "), "{version}");

        let store = &server.app.store;
        let one = store.add_task(tasks::REDACT, "@a:here.test").await.unwrap();
        let two = store.add_task(tasks::LEAVE, "@b:here.test").await.unwrap();
        assert!(store.task_goes_on(two, 1, "x").await.unwrap());
        let failed = store.end_task(two, TaskState::Failed, Some("why"));
        assert!(failed.await.unwrap());
        let list = async |query: &str| {
            let list = get(&boss, &format!("/v1/scheduled_tasks{query}"))
                .await
                .ok();
            list["scheduled_tasks"].as_array().unwrap().clone()
        };
        let all = list("").await;
        let ids: Vec<&Value> = all.iter().map(|task| &task["id"]).collect();
        assert_eq!(ids, [&json!(two.to_string()), &json!(one.to_string())]);
        let expected = json!({
            "id": two.to_string(), "action": tasks::LEAVE, "status": "failed",
            "timestamp_ms": START_MS, "resource_id": "@b:here.test", "result": null, "error": "why",
        });
        assert_eq!(all[0], expected);
        let max = format!("?max_timestamp={START_MS}");
        for (query, count) in [
            ("?job_status=scheduled", 1),
            ("?status=scheduled&job_status=failed", 1),
            ("?status=active", 0),
            ("?job_status=failed", 1),
            ("?job_status=active", 0),
            ("?job_status=complete", 0),
            ("?action_name=leave%20rooms", 1),
            ("?resource_id=%40a%3Ahere.test", 1),
            (&*max, 0),
        ] {
            assert_eq!(list(query).await.len(), count, "{query}");
        }
        for wrong in ["status", "job_status"] {
            let path = format!("/v1/scheduled_tasks?{wrong}=done");
            get(&boss, &path).await.fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}
