//! The binary as an operator meets it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rhizome_storage::testing::eventually;
use rhizome_storage::{DeviceList, Fact, NewReport, Options, Store, WriteSet};

pub fn rhizome(dir: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RHIZOME") {
            command.env_remove(name);
        }
    }
    command
}

pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_wrong_configuration_ends_with_2_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("r.toml"),
        "[server]\nname = \"https://x\"\n",
    )
    .unwrap();
    for command in [vec!["config", "check"], vec!["serve"], vec![]] {
        let output = rhizome(dir.path())
            .args(command)
            .args(["--config", "r.toml"])
            .output()
            .unwrap();
        let (_, error) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("r.toml:2: server.name: "), "{error}");
        assert!(error.contains("to fix it: "), "{error}");
    }
    assert!(!dir.path().join("rhizome-data").exists());
    let output = rhizome(dir.path()).arg("nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_example_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let example = rhizome(dir.path())
        .args(["config", "example"])
        .output()
        .unwrap();
    std::fs::write(dir.path().join("r.toml"), example.stdout).unwrap();
    let output = rhizome(dir.path())
        .args(["config", "check"])
        .env("RHIZOME_CONFIG", "r.toml")
        .output()
        .unwrap();
    let (out, error) = texts(&output);
    assert!(output.status.success(), "{error}");
    assert!(out.contains("The configuration is fine (r.toml)"), "{out}");
}

#[test]
fn keys_are_made_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let output = rhizome(dir.path()).arg("keys").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("rhizome keys generate"));
    assert!(
        rhizome(dir.path())
            .args(["keys", "generate"])
            .status()
            .unwrap()
            .success()
    );
    let (out, _) = texts(&rhizome(dir.path()).args(["keys", "show"]).output().unwrap());
    assert!(out.contains("key id  ed25519:a_"), "{out}");
    let output = rhizome(dir.path())
        .args(["keys", "generate"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("is not replaced"));
}

/// After a restore: clients' tokens are made void, but not those of a database that was named by mistake.
#[test]
fn a_restored_database_begins_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rhizome-data");
    std::fs::create_dir(&data).unwrap();
    let restored = || {
        let output = rhizome(dir.path()).args(["database", "restored"]).output();
        let output = output.unwrap();
        (output.status.code(), texts(&output))
    };
    let (code, (_, error)) = restored();
    assert_eq!(code, Some(1));
    assert!(error.contains("nothing was ever written"), "{error}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("sqlite:{}", data.join("rhizome.db").display());
    let open = async || Store::open(Options::new(&url)).await.unwrap();
    let before = runtime.block_on(async {
        let store = open().await;
        let user = store.user_no(ruma::user_id!("@a:localhost")).await.unwrap();
        let set = WriteSet::from(vec![Fact::DeviceList(DeviceList { user, device: None })]);
        store.commit(set).await.unwrap();
        store.close().await;
        store.epoch()
    });
    let (code, (out, error)) = restored();
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("sync anew"), "{out}");
    runtime.block_on(async {
        let store = open().await;
        assert_ne!(store.epoch(), before);
        store.close().await;
    });
}

/// What users report waits for the operator, in words that a terminal bears.
#[test]
fn reports_are_listed_shown_and_dismissed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("rhizome-data");
    std::fs::create_dir(&data).unwrap();
    let report = |words: &[&str]| {
        let output = rhizome(dir.path()).arg("report").args(words).output();
        let output = output.unwrap();
        (output.status.code(), texts(&output))
    };
    let (code, (out, error)) = report(&["list"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{error}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("sqlite:{}", data.join("rhizome.db").display());
    let no = runtime.block_on(async {
        let store = Store::open(Options::new(&url)).await.unwrap();
        let ada = store
            .user_no(ruma::user_id!("@ada:localhost"))
            .await
            .unwrap();
        let report = NewReport {
            room_id: Some(ruma::owned_room_id!("!r:localhost")),
            event_id: Some(ruma::owned_event_id!("$e")),
            user_id: Some(ruma::owned_user_id!("@bob:localhost")),
            event: Some("{\"content\":\"\u{1b}[2J\"}".into()),
            ..NewReport::of(ada, "spam\u{1b}[31m".into())
        };
        let no = store.add_report(&report, 10).await.unwrap().unwrap();
        store.close().await;
        no.to_string()
    });
    let (_, (list, _)) = report(&["list"]);
    assert!(list.starts_with(&no), "{list}");
    assert!(
        list.contains("event $e of @bob:localhost in !r:localhost"),
        "{list}"
    );
    let (_, (shown, _)) = report(&["show", &no]);
    assert!(shown.contains("by: @ada:localhost"), "{shown}");
    assert!(shown.contains("content"), "{shown}");
    assert!(!list.contains('\u{1b}') && !shown.contains('\u{1b}'));
    let (_, (out, _)) = report(&["done", &no, "--by", "eve"]);
    assert!(out.contains("1 reports done with"), "{out}");
    assert_eq!(report(&["list"]).1.0, "");
    assert!(report(&["list", "--all"]).1.0.contains("(done by eve"));
    let (_, (out, _)) = report(&["dismiss", &no]);
    assert!(out.contains("1 reports dismissed"), "{out}");
    let (code, (_, error)) = report(&["show", &no]);
    assert_eq!(code, Some(1));
    assert!(error.contains("there is no report"), "{error}");
}

pub struct Serving {
    child: Mutex<Child>,
    banner: String,
    pub base: String,
}

pub fn serve(dir: &std::path::Path) -> Serving {
    serve_with(dir, &[])
}

pub fn serve_with(dir: &std::path::Path, variables: &[(&str, &str)]) -> Serving {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut child = rhizome(dir)
        .envs(variables.iter().copied())
        .env("RHIZOME__LISTENERS", "[{address = \"127.0.0.1:0\"}]")
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut banner = String::new();
    while !banner.contains("rhizome demo") {
        assert!(
            lines.read_line(&mut banner).unwrap() > 0,
            "it ended: {banner}"
        );
    }
    let base = banner
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .to_owned();
    std::thread::spawn(move || lines.read_to_string(&mut String::new()));
    Serving {
        child: Mutex::new(child),
        banner,
        base,
    }
}

impl Serving {
    /// The process's id, for signals.
    pub fn id(&self) -> String {
        self.child.lock().unwrap().id().to_string()
    }
}

pub async fn terminate(serving: Serving) -> Option<i32> {
    let id = serving.id();
    let mut kill = Command::new("kill");
    assert!(kill.args(["-TERM", &id]).status().unwrap().success());
    let ended = || serving.child.lock().unwrap().try_wait().unwrap();
    eventually("it ends on SIGTERM", async || ended().is_some()).await;
    ended()?.code()
}

impl Drop for Serving {
    fn drop(&mut self) {
        // An error: it has ended.
        let _ = self.child.get_mut().unwrap().kill();
    }
}

#[tokio::test]
async fn alone_it_serves_with_defaults_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(dir.path());
    assert!(
        serving.banner.contains("serves localhost"),
        "{}",
        serving.banner
    );
    assert!(
        serving.banner.contains("rhizome user create alice"),
        "{}",
        serving.banner
    );
    assert!(dir.path().join("rhizome-data/rhizome.db").exists());
    assert!(dir.path().join("rhizome-data/signing.key").exists());
    let data = std::fs::metadata(dir.path().join("rhizome-data")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&data.permissions());
    assert_eq!(mode & 0o777, 0o700, "the data is nobody else's");

    // A user made beside the running server can log in there.
    let mut create = rhizome(dir.path())
        .args(["user", "create", "alice", "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    create
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse battery staple\n")
        .unwrap();
    let output = create.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(texts(&output).0.contains("created @alice:localhost"));
    let http = rhizome_demo::http_client().unwrap();
    let alice = rhizome_demo::Person::login(
        &http,
        &serving.base,
        "alice",
        "correct horse battery staple",
    );
    assert_eq!(alice.await.unwrap().user_id, "@alice:localhost");

    // The name is taken now; the id of another server is not ours to give.
    for name in ["alice", "@bob:elsewhere.example", "Not Valid"] {
        std::fs::write(dir.path().join("password"), "correct horse battery staple").unwrap();
        let output = rhizome(dir.path())
            .args(["user", "create", name, "--password-file", "password"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
    }
    assert_eq!(terminate(serving).await, Some(0));
}

#[tokio::test]
async fn the_log_has_requests_but_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let password = "hunter2-hunter2-hunter2";
    let variables = [
        ("RHIZOME__LOGGING__LEVEL", "trace"),
        ("RHIZOME__REGISTRATION__MODE", "open"),
        (
            "RHIZOME__REGISTRATION__STRANGERS_MAY_REGISTER_AND_I_ACCEPT_THE_ABUSE",
            "true",
        ),
    ];
    let serving = serve_with(dir.path(), &variables);
    let http = rhizome_demo::http_client().unwrap();
    let ada = rhizome_demo::Person::register(&http, &serving.base, "ada", password)
        .await
        .unwrap();
    let room = ada.create_room(serde_json::json!({})).await.unwrap();
    ada.say(&room, "the words of a message").await.unwrap();
    let url = format!(
        "{}/_matrix/client/v3/account/whoami?access_token={}",
        serving.base,
        ada.token()
    );
    assert_eq!(http.get(url).send().await.unwrap().status(), 200);
    let mut socket = rhizome_demo::Socket::open(&ada, "").await.unwrap();
    socket.next(Duration::from_secs(5)).await.unwrap();
    drop(socket);
    assert_eq!(terminate(serving).await, Some(0));
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(
        log.contains("path=\"/_matrix/client/v3/rooms/{"),
        "no span with a route"
    );
    for secret in [ada.token(), password, "the words of a message"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "the log tells a secret: {line:?}");
    }
}

#[tokio::test]
async fn the_demos_servers_can_be_used_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = rhizome(dir.path())
        .args(["demo", "--serve"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let servers: serde_json::Value = serde_json::from_str(&line).unwrap();
    let http = rhizome_demo::http_client().unwrap();
    for name in ["north", "south"] {
        let url = servers[name]["url"].as_str().unwrap();
        let person = rhizome_demo::Person::register(&http, url, "ada", "a good password");
        let domain = servers[name]["name"].as_str().unwrap();
        assert_eq!(person.await.unwrap().user_id, format!("@ada:{domain}"));
    }
    let serving = Serving {
        child: Mutex::new(child),
        banner: String::new(),
        base: String::new(),
    };
    assert_eq!(terminate(serving).await, Some(0));
    assert!(lines.next().is_none(), "one line");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_log_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = rhizome(dir.path())
        .env("RHIZOME__LISTENERS", "[{address = \"127.0.0.1:0\"}]")
        .env("RHIZOME__LOGGING__FORMAT", "json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended");
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }
    std::thread::spawn(move || lines.read_to_string(&mut String::new()));
    let mut out = child.stdout.take().unwrap();
    let serving = Serving {
        child: Mutex::new(child),
        banner: String::new(),
        base: String::new(),
    };
    assert_eq!(terminate(serving).await, Some(0));
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "", "the banner is for people");
}
