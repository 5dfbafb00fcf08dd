//! The command line about other servers.

use std::path::Path;

use rhizome_storage::{DestinationState, InboundCounts, InboundSeen, Options, Store};
use ruma::{OwnedServerName, server_name};

use crate::cli::{rhizome, serve, terminate, texts};

/// `rhizome federation …`: its exit code, what it says, and its complaint.
fn federation(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = rhizome(dir);
    command
        .env("RHIZOME__FEDERATION__ALLOWED_RANGES", "[\"127.0.0.1/32\"]")
        .env("RHIZOME__FEDERATION__DENIED_SERVERS", "[\"denied.*\"]");
    let output = command.arg("federation").args(words).output().unwrap();
    let (out, error) = texts(&output);
    (output.status.code(), out, error)
}

#[tokio::test]
async fn servers_that_fail_are_told_tried_again_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(terminate(serve(dir)).await, Some(0));
    let (code, out, error) = federation(dir, &["status"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("all of 0 servers"), "{out}");
    let (code, _, error) = federation(dir, &["retry", "b.example"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("status --all"), "{error}");

    let url = format!("sqlite:{}", dir.join("rhizome-data/rhizome.db").display());
    let store = Store::open(Options::new(url)).await.unwrap();
    let name: OwnedServerName = server_name!("b.example").to_owned();
    let now = store.clock().now_ms();
    let state = DestinationState {
        failures: 4,
        retry_at: now + 3_000_000,
        failing_since: now - 900_000,
        ..DestinationState::default()
    };
    let states = [(name.clone(), state)];
    store.store_destination_states(&states).await.unwrap();
    let why = "can't reach server: nobody is there".to_owned();
    store.store_failures(&[(name.clone(), why)]).await.unwrap();
    let counts = InboundCounts {
        requests: 12,
        ..InboundCounts::default()
    };
    let sent = InboundSeen {
        counts,
        ..InboundSeen::at(name.clone(), now)
    };
    store.add_inbound(&[sent]).await.unwrap();
    store.close().await;

    let (_, out, _) = federation(dir, &["status"]);
    for part in [
        "b.example",
        "15 minutes",
        "nobody is there",
        "1 of 1 servers",
    ] {
        assert!(out.contains(part), "{out}");
    }
    let (_, out, _) = federation(dir, &["status", "--json"]);
    let lines: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(lines[0]["server"], "b.example");
    assert_eq!(lines[0]["failures"], 4);
    let (_, out, _) = federation(dir, &["status", "b.example"]);
    assert!(out.contains("4 times in a row"), "{out}");
    assert!(out.contains("  requests: 12 "), "{out}");
    let (_, out, _) = federation(dir, &["status", "b.example", "--json"]);
    let details: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(details["inbound"]["requests"], 12);
    let (_, out, _) = federation(dir, &["inbound"]);
    assert!(out.starts_with("b.example  "), "{out}");
    let (code, _, error) = federation(dir, &["inbound", "c.example"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("nothing is known of c.example"), "{error}");
    let (_, out, _) = federation(dir, &["status", "denied.example"]);
    assert!(
        out.contains("is denied by this server's configuration"),
        "{out}"
    );

    let (code, _, error) = federation(dir, &["retry", "--all"]);
    assert_eq!(code, Some(0), "{error}");
    let (_, out, _) = federation(dir, &["status", "b.example"]);
    assert!(out.contains("tried again now"), "{out}");
    let (code, _, error) = federation(dir, &["forget", "b.example"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("--yes"), "{error}");
    let (code, out, error) = federation(dir, &["forget", "b.example", "--yes"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("b.example isn't sent"), "{out}");
}

#[test]
fn what_is_wrong_on_the_way_to_a_server_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Nobody listens at port 1 of this machine.
    let (code, out, error) = federation(dir, &["check", "127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("bad   tcp"), "{out}");
    assert!(out.contains("to do: "), "{out}");
    assert!(error.contains("one thing is wrong"), "{error}");
    let (code, out, _) = federation(dir, &["check", "10.0.0.1", "--json"]);
    assert_eq!(code, Some(1), "{out}");
    let findings: serde_json::Value = serde_json::from_str(&out).unwrap();
    let findings = findings.as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|one| one["step"] == "dns" && one["level"] == "bad")
    );
    // Its own key is compared with the one in the file.
    let (code, _, error) = federation(dir, &["check"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("rhizome keys generate"), "{error}");
}
