//! What strangers send: every text that a client may choose, through every endpoint that stores it, on
//! both databases. Each gets a Matrix error or is stored faithfully; nothing is a 500, and what was
//! refused has changed nothing.

use serde_json::{Value, json};

use crate::{
    client::{Client, path},
    database::Database,
    hostile_requests::requests,
    process,
};

/// Texts that databases, encodings and parsers are known to trip over.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\u{0}",
        "a\u{0}b",
        "\\u0000",
        "\\",
        "'; DROP TABLE event; --",
        "\"quoted\"",
        "%00 %s {} $1 ?",
        "\u{7f}\u{80}\u{9f}",
        "\u{feff}bom",
        "\u{202e}right to left",
        "\u{e000}\u{fffd}\u{ffff}\u{10ffff}",
        "e\u{301} é",
        "👩‍👩‍👧‍👦",
        "line\nbreak\ttab\r",
        "../../etc/passwd",
        "!room:example.org",
        "\u{1}\u{1f}",
    ]
    .map(str::to_owned)
    .into();
    texts.push("long".repeat(64));
    texts.push("é".repeat(127));
    texts
}

/// Bodies that are no JSON object we can take, and what they are told.
fn bodies() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let not_json: &[&str] = &["M_NOT_JSON"];
    let bad_json: &[&str] = &["M_BAD_JSON"];
    let either: &[&str] = &["M_NOT_JSON", "M_BAD_JSON"];
    vec![
        ("an open brace", b"{".to_vec(), not_json),
        ("half an object", b"{\"body\":".to_vec(), not_json),
        ("no UTF-8", b"{\"body\":\"\xff\"}".to_vec(), not_json),
        ("an array", b"[]".to_vec(), bad_json),
        ("a string", b"\"text\"".to_vec(), bad_json),
        ("null", b"null".to_vec(), bad_json),
        (
            "a lone surrogate",
            b"{\"body\":\"\\ud800\"}".to_vec(),
            either,
        ),
        (
            "the same key twice",
            b"{\"body\":\"a\",\"body\":\"b\"}".to_vec(),
            either,
        ),
        ("depth 200", deep.into_bytes(), either),
        ("2^53", b"{\"n\":9007199254740992}".to_vec(), bad_json),
        ("-2^53", b"{\"n\":-9007199254740992}".to_vec(), bad_json),
        ("a fraction", b"{\"n\":1.5}".to_vec(), bad_json),
        (
            "beyond 64 bits",
            b"{\"n\":18446744073709551616}".to_vec(),
            bad_json,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_on_sqlite() {
    hostile(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_on_postgres() {
    hostile(Database::postgres().await).await;
}

async fn hostile(database: Database) {
    let server = process::start(&database, None).await;
    let alice = Client::register(&server.base, "alice").await;
    let room = alice.create_room().await;

    let mut faults = Faults::default();
    refused_bodies(&alice, &room, &mut faults).await;
    sizes(&alice, &room).await;
    tokens(&alice).await;
    for text in texts() {
        stored_texts(&alice, &room, &text, &mut faults).await;
    }
    assert!(faults.0.is_empty(), "{}", faults.0.join("\n"));

    // The room still works, and a process that starts on this database reads the same.
    let event_id = alice
        .say(&room, "last", "still here")
        .await
        .expect("the room still works");
    let before = (alice.state(&room).await, alice.history(&room).await);
    drop(server);
    let server = process::start(&database, None).await;
    let alice = alice.at(&server.base);
    let after = (alice.state(&room).await, alice.history(&room).await);
    assert_eq!(before.0, after.0, "the state is another after a restart");
    let plain = |events: Vec<Value>| -> Vec<Value> {
        events
            .into_iter()
            .map(|event| json!([event["event_id"], event["content"]]))
            .collect()
    };
    assert_eq!(
        plain(before.1),
        plain(after.1),
        "the history is another after a restart"
    );
    assert!(
        alice
            .history(&room)
            .await
            .iter()
            .any(|e| e["event_id"] == event_id.as_str())
    );
}

/// Each body through a send, a state event and account data: refused with the right code, and no trace.
async fn refused_bodies(alice: &Client, room: &str, faults: &mut Faults) {
    let (before, state) = (alice.history(room).await.len(), alice.state(room).await);
    let in_room = format!("/rooms/{}", path(room));
    for (number, (name, body, codes)) in bodies().into_iter().enumerate() {
        let user = path(&alice.user_id);
        for (method, target) in [
            ("PUT", format!("{in_room}/send/m.room.message/bad{number}")),
            ("PUT", format!("{in_room}/state/org.example.bad/{number}")),
            ("PUT", format!("/user/{user}/account_data/org.example.bad")),
            ("POST", "/createRoom".to_owned()),
        ] {
            // Only events are bound to canonical JSON. Account data is kept as it came, and of a
            // request only the fields that it has are read.
            let integers = matches!(name, "2^53" | "-2^53" | "a fraction" | "beyond 64 bits");
            let kept = integers || name == "the same key twice";
            let unread = matches!(name, "a lone surrogate" | "depth 200");
            let (event, create) = (target.starts_with("/rooms"), target == "/createRoom");
            if (kept && !event) || (unread && create) {
                continue;
            }
            let (status, answer) = alice.raw(method, &target, body.clone()).await;
            let code = answer["errcode"].as_str().unwrap_or_default();
            let right = status == 400 && codes.contains(&code);
            faults.check(right, || format!("{name} to {target}: {status} {answer}"));
        }
    }
    assert_eq!(
        alice.history(room).await.len(),
        before,
        "a refused body left an event"
    );
    assert_eq!(alice.state(room).await, state, "a refused body left state");
}

/// An event of 65,536 bytes is the largest; one byte more is too large, whatever it is made of.
async fn sizes(alice: &Client, room: &str) {
    let target = |txn: &str| format!("/rooms/{}/send/m.room.message/{txn}", path(room));
    let body = |n: usize| json!({ "body": "x".repeat(n) }).to_string().into_bytes();
    let (status, _) = alice.raw("PUT", &target("large"), body(64_000)).await;
    assert_eq!(status, 200);
    for (txn, n) in [("larger", 65_536), ("huge", 1_000_000)] {
        let (status, answer) = alice.raw("PUT", &target(txn), body(n)).await;
        assert_eq!(
            (status, answer["errcode"].as_str()),
            (413, Some("M_TOO_LARGE")),
            "{n} bytes"
        );
    }
    // Keys of an event count bytes: 255 of them.
    let long = format!(
        "/rooms/{}/state/org.example.long/{}",
        path(room),
        path(&"é".repeat(128))
    );
    let (status, answer) = alice.raw("PUT", &long, b"{}".to_vec()).await;
    assert!(
        status == 400 || status == 413,
        "a state key of 256 bytes: {status} {answer}"
    );
}

async fn tokens(alice: &Client) {
    for (token, code) in [
        ("", "M_MISSING_TOKEN"),
        ("nobody's", "M_UNKNOWN_TOKEN"),
        ("not.a.token", "M_UNKNOWN_TOKEN"),
    ] {
        let stranger = alice.with_token(token);
        let (status, answer) = stranger.raw("GET", "/account/whoami", Vec::new()).await;
        assert_eq!(
            (status, answer["errcode"].as_str()),
            (401, Some(code)),
            "token {token:?}"
        );
    }
}

/// `text` in every place that stores a text of a client's choice.
async fn stored_texts(alice: &Client, room: &str, text: &str, faults: &mut Faults) {
    let (user, seg) = (path(&alice.user_id), path(text));
    let in_room = format!("/rooms/{}", path(room));
    let global = format!("/user/{user}/account_data/{seg}");
    let of_room = format!("/user/{user}{in_room}/account_data/{seg}");
    let state = format!("{in_room}/state/org.example.hostile/{seg}");
    let typed = format!("{in_room}/state/{seg}/key");
    let content = json!({ "text": text, text: [text] });

    // (where it is put, what is put, where it is read, the part of the answer that must equal it)
    let profile = format!("/profile/{user}/displayname");
    for (put, body, get) in [
        (&state, content.clone(), &state),
        (&typed, content.clone(), &typed),
        (&global, content.clone(), &global),
        (&of_room, content.clone(), &of_room),
        (&profile, json!({ "displayname": text }), &profile),
    ] {
        let (status, answer) = alice.raw("PUT", put, body.to_string().into_bytes()).await;
        if faults.taken(status, &answer, put, text) && !(text.is_empty() && put == &profile) {
            let (status, read) = alice.raw("GET", get, Vec::new()).await;
            assert_eq!(
                (status, &read),
                (200, &body),
                "{text:?} read back from {get}"
            );
        }
    }

    // Message types, transaction ids and bodies: read back by event id.
    let message = format!("{in_room}/send/{seg}/t{seg}");
    let (status, answer) = alice
        .raw("PUT", &message, content.to_string().into_bytes())
        .await;
    if faults.taken(status, &answer, &message, text) {
        let (again, same) = alice
            .raw("PUT", &message, content.to_string().into_bytes())
            .await;
        assert_eq!(
            (again, &same),
            (200, &answer),
            "{text:?} as a transaction id"
        );
        let event_id = path(answer["event_id"].as_str().unwrap());
        let (_, event) = alice
            .raw("GET", &format!("{in_room}/event/{event_id}"), vec![])
            .await;
        let same = event["content"] == content && event["type"] == text;
        faults.check(same, || {
            format!("{text:?} as type and text of a message: {event}")
        });
    }
    answered_texts(alice, room, text, faults).await;
}

/// `text` wherever else a client may name one: it need only be answered.
async fn answered_texts(alice: &Client, room: &str, text: &str, faults: &mut Faults) {
    for (method, target, body) in requests(&alice.user_id, room, text) {
        let body = if method == "GET" {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let (status, answer) = alice.raw(method, &target, body).await;
        faults.taken(status, &answer, &target, text);
    }
}

/// What was answered wrongly, all of it.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.0.push(what());
        }
    }

    /// Whether it was taken; if not, it must have been refused as the specification refuses things.
    fn taken(&mut self, status: u16, answer: &Value, target: &str, text: &str) -> bool {
        // 401 with flows is how user-interactive authentication asks for more.
        let asks = status == 401 && answer["flows"].is_array();
        let refused = (400..500).contains(&status) && (asks || answer["errcode"].is_string());
        // Another server can't be reached from here.
        let unreachable = status == 502 && target.starts_with("/join/");
        let right = status == 200 || refused || unreachable;
        self.check(right, || format!("{text:?} to {target}: {status} {answer}"));
        status == 200
    }
}
