//! `rhizome room`, on both databases, while the server runs.

use std::process::{Command, Output, Stdio};

use rhizome_storage::testing::spoil_snapshot;
use ruma::{EventId, RoomId};
use serde_json::{Value, json};

use crate::harness::{Kind, Server};

/// Runs the command on the server's database.
fn inspect(server: &Server, args: &[&str]) -> Output {
    room(server, "inspect", args)
}

fn room(server: &Server, name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RHIZOME") {
            command.env_remove(name);
        }
    }
    command
        .args(["room", name])
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

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_list_is_read() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let server = Server::start(kind).await;
        let ada = server.register("ada").await;
        let list = ada.create_room(json!({ "room_alias_name": "list" }));
        let list = list.await.unwrap();
        for (kind, key, content) in [
            ("user", "1", ban("@spam*:evil.org", "they sell\u{1b}[2J")),
            ("server", "1", ban("evil.org", "spam")),
            ("room", "1", ban("#pit:evil.org", "abuse")),
            ("room", "2", json!({ "entity": "#odd:evil.org" })),
            ("room", "3", ban("#gone:evil.org", "a mistake")),
            ("room", "3", json!({})),
        ] {
            let kind = format!("m.policy.rule.{kind}");
            ada.set_state(&list, &kind, key, content).await.unwrap();
        }
        let shown = room(&server, "policies", &[&list]);
        let by = &ada.user_id;
        let rules = [
            format!("user   @spam*:evil.org  m.ban  by {by}  they sell\u{fffd}[2J"),
            format!("server evil.org  m.ban  by {by}  spam"),
            format!("room   #pit:evil.org  m.ban  by {by}  abuse"),
            "3 of 3 rules; 1 say nothing, as they are malformed".to_owned(),
        ];
        assert_eq!(text(&shown), rules.join("\n") + "\n");
        let alias = format!("#list:{}", server.name());
        for (entity, found) in [
            ("@Spammer:evil.org", vec!["@spam*:evil.org", "evil.org"]),
            ("@a:evil.org:8448", vec!["evil.org"]),
            ("a.evil.org", vec![]),
            ("#pit:evil.org", vec!["#pit:evil.org"]),
            ("#gone:evil.org", vec![]),
        ] {
            let told = json_of(&room(&server, "policies", &[&alias, entity, "--json"]));
            let rules = told["rules"].as_array().unwrap().iter();
            let entities: Vec<_> = rules.map(|rule| rule["entity"].as_str().unwrap()).collect();
            assert_eq!(entities, found, "{entity}");
            assert_eq!(told["total"], 3);
        }
        let refused = room(&server, "policies", &[&list, "a b"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused).contains("is no user"), "{}", text(&refused));
        server.stop().await;
    }
}

fn ban(entity: &str, reason: &str) -> Value {
    json!({ "entity": entity, "recommendation": "m.ban", "reason": reason })
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
