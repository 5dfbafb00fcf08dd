//! `rhizome room inspect`, on both databases, while the server runs.

use std::process::{Command, Output, Stdio};

use rhizome_storage::testing::spoil_snapshot;
use ruma::{EventId, RoomId};
use serde_json::{Value, json};

use crate::harness::{Kind, Server};

/// Runs the command on the server's database.
fn inspect(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RHIZOME") {
            command.env_remove(name);
        }
    }
    command
        .args(["room", "inspect"])
        .args(args)
        .env("RHIZOME__SERVER__NAME", server.name())
        .env("RHIZOME__DATABASE__URL", server.database_url())
        .stdin(Stdio::null());
    // The server runs in this process, and may be writing.
    tokio::task::block_in_place(|| command.output().unwrap())
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_explains_itself() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let server = Server::start(kind).await;
        let ada = server.register("ada").await;
        let room = ada
            .create_room(json!({ "room_alias_name": "garden", "topic": "weeds" }))
            .await
            .unwrap();
        let said = ada.say(&room, "hello").await.unwrap();
        let alias = format!("#garden:{}", server.name());

        let shown = inspect(&server, &[&alias]);
        assert!(shown.status.success(), "{}", text(&shown));
        for part in [
            room.as_str(),
            "members    1 join",
            "events     accepted:",
            "heads      1",
            said.as_str(),
        ] {
            assert!(
                text(&shown).contains(part),
                "{part} is missing in {}",
                text(&shown)
            );
        }
        let report = json_of(&inspect(&server, &[&room, "--json"]));
        assert_eq!(report["room_id"], room);
        assert_eq!(report["aliases"][0], alias);
        assert_eq!(report["heads"][0]["event_id"], said);
        let report = json_of(&inspect(&server, &[&room, "--event", &said, "--json"]));
        assert_eq!(report["event"]["type"], "m.room.message");
        assert_eq!(report["around"]["nodes"].as_array().unwrap().len(), 6);
        let shown = inspect(&server, &[&room, "--event", &said, "--around", "2"]);
        assert!(
            text(&shown).contains(&format!("> {said}")),
            "{}",
            text(&shown)
        );
        let dot = inspect(&server, &[&room, "--graphviz"]);
        assert!(text(&dot).starts_with("digraph"), "{}", text(&dot));

        let done = json_of(&inspect(&server, &[&room, "--recompute", "--json"]));
        assert_eq!(done["disagreement"], Value::Null);
        spoil(&server, &room, &said).await;
        let done = inspect(&server, &[&room, "--recompute"]);
        assert_eq!(done.status.code(), Some(1), "{}", text(&done));
        assert!(text(&done).contains("m.room.topic"), "{}", text(&done));

        for (args, why) in [
            (vec!["!nowhere:else"], "does not know the room"),
            (vec![&*room, "--event", "$nothing"], "Event not found"),
            (vec!["garden"], "is no room id"),
        ] {
            let refused = inspect(&server, &args);
            assert_eq!(refused.status.code(), Some(1));
            assert!(text(&refused).contains(why), "{}", text(&refused));
        }
        server.stop().await;
    }
}

/// Takes the topic out of the state at an event, in the database alone.
async fn spoil(server: &Server, room: &str, event: &str) {
    let running = server.site.running().unwrap();
    let store = running.store();
    let room = <&RoomId>::try_from(room).unwrap();
    assert!(store.room(room).await.unwrap().is_some());
    let event = <&EventId>::try_from(event).unwrap();
    let event = store.event(event).await.unwrap().unwrap();
    let key = store.key_no("m.room.topic", "").await.unwrap();
    spoil_snapshot(store, event.state_before.unwrap(), &[(key, None)]).await;
}
