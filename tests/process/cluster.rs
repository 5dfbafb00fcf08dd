//! Two processes on one PostgreSQL: one order, no loss, no starvation, every reader sees the same.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use crate::{
    client::{Client, timeline},
    database::Database,
    process,
};

const WRITERS: usize = 4;
const MESSAGES: usize = 30;
const CHANGES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_write_one_room_at_once() {
    let database = Database::postgres().await;
    let nodes = [
        process::start(&database, None).await,
        process::start(&database, None).await,
    ];
    let founder = Client::register(&nodes[0].base, "founder").await;
    let room = founder.create_room().await;

    // Half of the writers on each node; each writes messages and, in between, state that others set too.
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let node = &nodes[number % 2];
        let writer = Client::register(&node.base, &format!("writer{number}")).await;
        writer.join(&room).await;
        let levels = founder.at(&node.base);
        raise(&levels, &room, &writer.user_id).await;
        writers.push(writer);
    }
    let tasks: Vec<_> = writers
        .iter()
        .enumerate()
        .map(|(number, writer)| tokio::spawn(write(writer.clone(), number, room.clone())))
        .collect();
    let mut told = HashMap::new();
    for task in tasks {
        told.extend(task.await.unwrap());
    }

    // A reader asks each node with the other's token, so each must have caught up to be right.
    let mut seen = Vec::new();
    for (here, there) in [(0, 1), (1, 0)] {
        let (here, there) = (
            founder.at(&nodes[here].base),
            founder.at(&nodes[there].base),
        );
        let first = here.sync(None, Duration::ZERO).await.unwrap();
        let since = first["next_batch"].as_str().unwrap();
        let later = there.sync(Some(since), Duration::ZERO).await.unwrap();
        assert!(
            timeline(&later, &room).is_empty(),
            "a token of one node repeats on the other"
        );
        seen.push((
            ids(&timeline(&first, &room)),
            ids(&here.history(&room).await),
        ));
    }
    assert_eq!(seen[0], seen[1], "the nodes show different orders");

    let (_, history) = &seen[0];
    for (text, event_id) in &told {
        let times = history.iter().filter(|id| *id == event_id).count();
        assert_eq!(times, 1, "{text} ({event_id}) is there {times} times");
    }
    let states = [founder.at(&nodes[0].base), founder.at(&nodes[1].base)];
    assert_eq!(states[0].state(&room).await, states[1].state(&room).await);
}

async fn write(writer: Client, number: usize, room: String) -> HashMap<String, String> {
    let mut told = HashMap::new();
    for message in 0..MESSAGES {
        let text = format!("message {message} of writer {number}");
        let event_id = writer
            .say(&room, &format!("t{message}"), &text)
            .await
            .expect("is taken");
        told.insert(text, event_id);
        if message % (MESSAGES / CHANGES) == 0 {
            let text = format!("change {message} by writer {number}");
            let event_id = writer.set(&room, "shared", &text).await.expect("is taken");
            told.insert(text, event_id);
        }
    }
    told
}

/// Lets `user` set state in `room`.
async fn raise(founder: &Client, room: &str, user: &str) {
    let path = format!(
        "/rooms/{}/state/m.room.power_levels",
        crate::client::path(room)
    );
    let mut levels = founder.call("GET", &path, None).await.unwrap();
    levels["users"][user] = 50.into();
    founder.call("PUT", &path, Some(levels)).await.unwrap();
}

fn ids(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|e| e["event_id"].as_str().unwrap().to_owned())
        .collect()
}
