//! Application services as an operator meets them: registrations that are wrong, that come later, and how services are
//! doing.

use std::path::Path;
use std::process::Command;

use rhizome_storage::testing::eventually;

use crate::cli::{Serving, rhizome, serve_with, terminate, texts};

const FILES: (&str, &str) = ("RHIZOME__APPSERVICES__FILES", "[\"services/*.yaml\"]");

fn registration(id: &str) -> String {
    format!(
        "id: {id}\nurl: null\nas_token: {id}-SECRET\nhs_token: {id}-SECRET-too\nsender_localpart: {id}bot\n\
         namespaces:\n  users:\n  - exclusive: true\n    regex: '@{id}_.*'\n"
    )
}

fn write(dir: &Path, id: &str, text: &str) {
    std::fs::create_dir_all(dir.join("services")).unwrap();
    std::fs::write(dir.join(format!("services/{id}.yaml")), text).unwrap();
}

/// A command: its exit code, what it says, and its complaint.
fn run(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = rhizome(dir).args(words).env(FILES.0, FILES.1).output();
    let output = output.unwrap();
    let (out, error) = texts(&output);
    assert!(
        !out.contains("SECRET") && !error.contains("SECRET"),
        "{out}{error}"
    );
    (output.status.code(), out, error)
}

fn done(dir: &Path, words: &[&str]) -> String {
    let (code, out, error) = run(dir, words);
    assert_eq!(code, Some(0), "{words:?}: {error}");
    out
}

/// Whether a token is somebody's.
async fn is_known(serving: &Serving, token: &str) -> bool {
    let url = format!("{}/_matrix/client/v3/account/whoami", serving.base);
    let http = rhizome_demo::http_client().unwrap();
    let answer = http.get(url).bearer_auth(token).send().await.unwrap();
    answer.status() == 200
}

fn hang_up(serving: &Serving) {
    let id = serving.id();
    let killed = Command::new("kill").args(["-HUP", &id]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn a_wrong_registration_stops_the_start_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(
        dir,
        "irc",
        "id: irc\nurl: null\nas_token: SECRET\nhs_token: [SECRET]\n",
    );
    for words in [
        &["serve"][..],
        &["config", "check"],
        &["appservice", "list"],
        &["appservice", "reload"],
    ] {
        let (code, _, error) = run(dir, words);
        assert_eq!(code, Some(2), "{words:?} {error}");
        assert!(
            error.contains("services/irc.yaml:4: `hs_token` isn't text"),
            "{error}"
        );
        assert!(error.contains("to fix it: "), "{error}");
    }
    assert!(!dir.join("rhizome-data").exists());
    write(dir, "irc", &registration("irc"));
    let checked = done(dir, &["config", "check"]);
    assert!(checked.contains("irc as @ircbot:localhost"), "{checked}");
}

#[tokio::test]
async fn registrations_are_read_again_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "irc", &registration("irc"));
    let serving = serve_with(dir, &[FILES]);
    assert!(is_known(&serving, "irc-SECRET").await);
    assert!(!is_known(&serving, "irc-SECRET-too").await);

    // By command.
    write(dir, "xmpp", &registration("xmpp"));
    assert!(!is_known(&serving, "xmpp-SECRET").await);
    let said = done(dir, &["appservice", "reload"]);
    assert!(said.contains("2 registrations are fine"), "{said}");
    let known = async || is_known(&serving, "xmpp-SECRET").await;
    eventually("the new one acts", known).await;

    // By a signal; and what is wrong leaves all as it was.
    write(dir, "irc", "nonsense");
    let log = || std::fs::read_to_string(dir.join("log")).unwrap();
    hang_up(&serving);
    let told = "the application services stay as they were";
    eventually("it says what is wrong", async || log().contains(told)).await;
    assert!(log().contains("services/irc.yaml:1: "), "{}", log());
    assert!(is_known(&serving, "irc-SECRET").await);
    std::fs::remove_file(dir.join("services/irc.yaml")).unwrap();
    hang_up(&serving);
    eventually("the old one is nobody", async || {
        !is_known(&serving, "irc-SECRET").await
    })
    .await;
    assert!(is_known(&serving, "xmpp-SECRET").await);
    assert!(!log().contains("SECRET"), "{}", log());
    assert_eq!(terminate(serving).await, Some(0));
}

#[tokio::test]
async fn an_operator_sees_services_and_pauses_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // As a server has left it that has run here.
    std::fs::create_dir(dir.join("rhizome-data")).unwrap();
    assert!(done(dir, &["appservice", "list"]).contains("there are none"));
    write(dir, "irc", &registration("irc"));
    let there = registration("xmpp").replace("url: null", "url: http://127.0.0.1:9");
    write(dir, "xmpp", &there);
    let list = done(dir, &["appservice", "list"]);
    assert!(
        list.contains("irc  as @ircbot:localhost, told nothing"),
        "{list}"
    );
    assert!(list.contains("xmpp  as @xmppbot:localhost"), "{list}");
    let shown = done(dir, &["appservice", "show", "irc"]);
    for part in [
        "services/irc.yaml",
        "@irc_.* (its alone)",
        "@ircbot:localhost",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&done(dir, &["appservice", "show", "xmpp", "--json"])).unwrap();
    assert_eq!(json["url"], "http://127.0.0.1:9/");
    assert_eq!(json["namespaces"]["users"][0]["exclusive"], true);

    let (code, out, error) = run(dir, &["appservice", "test"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("irc: has no url"), "{out}");
    assert!(out.contains("start the bridge"), "{out}");
    assert!(error.contains("1 of 2 can't be told anything"), "{error}");
    done(dir, &["appservice", "test", "irc"]);

    assert!(done(dir, &["appservice", "pause", "xmpp"]).contains("is paused"));
    assert!(done(dir, &["appservice", "resume", "xmpp"]).contains("goes on"));
    let (code, _, error) = run(dir, &["appservice", "pause", "other"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("appservice list"), "{error}");

    // Nor does an operator make what is a service's alone.
    let password = dir.join("password");
    std::fs::write(&password, "a good password").unwrap();
    let password = password.display().to_string();
    let create = |name| run(dir, &["user", "create", name, "--password-file", &password]);
    let (code, _, error) = create("irc_ann");
    assert_eq!(code, Some(1));
    assert!(error.contains("the application service irc"), "{error}");
    let (code, _, error) = create("ann");
    assert_eq!(code, Some(0), "{error}");
}
