//! The command line about the signing key: changing it, what was before, and being killed in between.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use rhizome_protocol::server_keys::{self, ServerKeys};
use rhizome_protocol::sign::KeyPair;

use crate::cli::{Serving, rhizome, serve, serve_with, terminate, texts};

/// `rhizome keys …`: its exit code, what it says, and its complaint.
fn keys(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = rhizome(dir).arg("keys").args(words).output().unwrap();
    let (out, error) = texts(&output);
    (output.status.code(), out, error)
}

fn done(dir: &Path, words: &[&str]) -> String {
    let (code, out, error) = keys(dir, words);
    assert_eq!(code, Some(0), "{words:?}: {error}");
    out
}

fn refused(dir: &Path, words: &[&str]) -> String {
    let (code, _, error) = keys(dir, words);
    assert_eq!(code, Some(1), "{words:?}: {error}");
    error
}

/// The id of the key in the file.
fn current(dir: &Path) -> String {
    let shown = done(dir, &["show"]);
    let line = shown.lines().find_map(|line| line.strip_prefix("key id"));
    line.unwrap().trim().to_owned()
}

/// What the server tells others of its keys.
async fn told(serving: &Serving) -> ServerKeys {
    let url = format!("{}/_matrix/key/v2/server", serving.base);
    let http = rhizome_demo::http_client().unwrap();
    let answer = http.get(url).send().await.unwrap().text().await.unwrap();
    let object = rhizome_protocol::canonical::parse_object(answer.as_bytes()).unwrap();
    server_keys::verify(&object, ruma::server_name!("localhost")).unwrap()
}

#[tokio::test]
async fn a_key_is_changed_and_the_one_of_before_is_told_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(refused(dir, &["rotate"]).contains("rhizome keys generate"));
    assert_eq!(terminate(serve(dir)).await, Some(0));
    let first = current(dir);
    let said = done(dir, &["rotate"]);
    let second = current(dir);
    assert_ne!(first, second);
    for part in [&*first, &*second, "restart the server", "60 minutes"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(done(dir, &["show"]).contains("before  1"));
    let old = done(dir, &["old"]);
    assert!(old.contains(&first) && old.contains("in use until the server is restarted"));
    assert!(refused(dir, &["forget", &first]).contains("restart it"));

    let serving = serve(dir);
    let keys = told(&serving).await;
    assert!(keys.verify_keys.keys().eq([&second]));
    let now = rhizome_storage::Clock::system().now_ms();
    let (_, until) = keys.old_verify_keys[&first];
    // It is signed by the new key alone: `verify` leaves out what is not, and refuses what is wrong.
    assert!(until > now && until <= now + 3_600_000, "{until}");
    let old = done(dir, &["old"]);
    assert!(old.contains(&format!("counts until {until}")), "{old}");
    assert!(refused(dir, &["forget", &first]).contains("still counts"));
    assert!(refused(dir, &["forget", &second]).contains("the key in use"));
    assert!(refused(dir, &["forget", "ed25519:x"]).contains("rhizome keys old"));

    // All are stopped: the old key needn't count for longer.
    assert_eq!(terminate(serving).await, Some(0));
    let said = done(dir, &["rotate", "--overlap", "0s"]);
    assert!(said.contains("must be stopped"), "{said}");
    let serving = serve(dir);
    let keys = told(&serving).await;
    assert_eq!(keys.old_verify_keys.len(), 2);
    assert_eq!(keys.old_verify_keys[&first].1, until);
    let now = rhizome_storage::Clock::system().now_ms();
    assert!(keys.old_verify_keys[&second].1 <= now);
    let said = done(dir, &["forget", &second]);
    assert!(said.contains("old_verify_keys = [{ key_id = "), "{said}");
    assert_eq!(done(dir, &["old"]).lines().count(), 1);
    assert_eq!(terminate(serving).await, Some(0));

    // What it has said brings the key back.
    let (_, back) = said.split_once("old_verify_keys = ").unwrap();
    let setting = [("RHIZOME__FEDERATION__OLD_VERIFY_KEYS", back.trim())];
    let serving = serve_with(dir, &setting);
    assert_eq!(told(&serving).await.old_verify_keys, keys.old_verify_keys);
    assert_eq!(terminate(serving).await, Some(0));
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    let file = std::fs::read_to_string(dir.join("rhizome-data/signing.key")).unwrap();
    let secret = file.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert!(!log.contains(secret), "the log tells the key");
}

#[test]
fn who_is_killed_in_between_leaves_the_key_that_was() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    done(dir, &["generate"]);
    let data = dir.join("rhizome-data");
    let file = || std::fs::read_to_string(data.join("signing.key")).unwrap();
    let files = || std::fs::read_dir(&data).unwrap().count();
    let before = file();
    let first = current(dir);
    // No file may grow, so the first write to one ends it.
    let whole = rhizome(dir);
    let mut command = Command::new("sh");
    command
        .current_dir(dir)
        .args(["-c", "ulimit -c 0; ulimit -f 0; exec \"$0\" \"$@\""])
        .arg(whole.get_program())
        .args(["keys", "rotate"]);
    let killed = command.output().unwrap();
    let (out, error) = texts(&killed);
    assert_eq!(killed.status.signal(), Some(25), "{out}{error}");
    assert_eq!(file(), before);
    assert_eq!(files(), 2, "it was killed too early to show anything");
    assert_eq!(current(dir), first);

    // So it is if all was written and only the name was lacking.
    let paths = std::fs::read_dir(&data).unwrap();
    let mut paths = paths.map(|file| file.unwrap().path());
    let left = paths.find(|path| !path.ends_with("signing.key")).unwrap();
    let other = KeyPair::from_seed("a_left", &[7; 32]).unwrap().to_line();
    std::fs::write(&left, format!("{other}\n")).unwrap();
    assert_eq!(current(dir), first);
    done(dir, &["rotate"]);
    assert_ne!(current(dir), first);
    assert!(!file().contains(&other));
    assert!(file().contains(&format!("old {first} ")), "{first}");
    assert_eq!(files(), 1, "what was left is gone");
}

#[test]
fn settings_that_contradict_the_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), &["generate"]);
    let shown = done(dir.path(), &["show"]);
    let word = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    let (key_id, public) = (word("key id"), word("public"));
    let setting =
        format!("[{{ key_id = \"{key_id}\", key = \"{public}\", expired_ts = 1576767829750 }}]");
    let output = rhizome(dir.path())
        .env("RHIZOME__FEDERATION__OLD_VERIFY_KEYS", setting)
        .env("RHIZOME__LISTENERS", "[{address = \"127.0.0.1:0\"}]")
        .output()
        .unwrap();
    let (_, error) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("the key in use; take it out"), "{error}");
}
