//! What answers cost.

use serde_json::json;

use super::client::{Client, list, rooms};
use crate::harness::{Server, User, story};

async fn crowd(server: &Server, name: &str, count: usize) -> (User, Vec<String>) {
    let user = server.register(name).await;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(user.create(json!({})).await);
    }
    (user, all)
}

async fn written(server: &Server) {
    server.unfinished.close();
    server.unfinished.wait().await;
    server.unfinished.reopen();
}

#[tokio::test]
async fn a_first_answer_costs_the_same_in_few_rooms_and_many() {
    story(|server| async move {
        let (few, _) = crowd(&server, "few", 5).await;
        let (many, _) = crowd(&server, "many", 40).await;
        let mut body = list(5, 1, json!([["m.room.create", ""], ["m.room.member", "$LAZY"]]));
        body["lists"]["all"]["filters"] = json!({ "not_room_types": ["m.space"] });
        body["extensions"] = json!({
            "account_data": { "enabled": true }, "receipts": { "enabled": true }, "typing": { "enabled": true },
        });
        let mut costs = Vec::new();
        for user in [&few, &many] {
            // Whoever asks for the first time has the order read.
            Client::named(user, "before").sync(&body).await;
            written(&server).await;
            let before = server.store.counters().now();
            let answer = Client::of(user).sync(&body).await;
            costs.push((server.store.counters().now() - before).queries);
            assert_eq!(rooms(&answer).len(), 5);
        }
        assert_eq!(costs[0], costs[1], "{costs:?}");
    })
    .await;
}

#[tokio::test]
async fn whoever_goes_on_costs_what_changed_and_writes_nothing() {
    story(|server| async move {
        let (ada, all) = crowd(&server, "ada", 30).await;
        let body = list(
            100,
            10,
            json!([["m.room.name", ""], ["m.room.member", "$LAZY"]]),
        );
        let mut client = Client::of(&ada);
        client.sync(&body).await;
        ada.say(&all[3], "warm").await;
        client.sync(&body).await;
        client.sync(&body).await;
        written(&server).await;
        let before = server.store.counters().now();
        for _ in 0..10 {
            client.sync(&body).await;
        }
        let cost = server.store.counters().now() - before;
        // A shared database is asked how far the log is.
        assert!(cost.queries <= 10 && cost.write_sets == 0, "{cost:?}");
        for n in 0..10 {
            ada.say(&all[3], &n.to_string()).await;
            let before = server.store.counters().now();
            assert_eq!(rooms(&client.sync(&body).await), [&all[3]]);
            written(&server).await;
            let cost = server.store.counters().now() - before;
            assert!(cost.queries <= 6 && cost.write_sets == 0, "{cost:?}");
        }
    })
    .await;
}
