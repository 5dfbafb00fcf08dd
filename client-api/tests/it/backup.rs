//! Backups of room keys: begun, filled, read, emptied and deleted; and what others and hostile clients get.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use crate::harness::{User, esc, story};

const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";
const ROOM: &str = "!room:here";

async fn begin(user: &User) -> String {
    let body = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "abc" } });
    let begun = user.ok(Method::POST, "/room_keys/version", body).await;
    begun["version"].as_str().unwrap().to_owned()
}

fn key(index: u64, forwarded: u64, verified: bool) -> Value {
    json!({
        "first_message_index": index,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": { "ciphertext": "c", "ephemeral": "e", "mac": "m" },
    })
}

/// The path of all keys, those of a room, or one of them.
fn keys(path: &[&str], version: &str) -> String {
    let parts = ["/room_keys/keys".to_owned()].into_iter();
    let parts = parts.chain(path.iter().map(|part| esc(part)));
    let path: Vec<String> = parts.collect();
    format!("{}?version={version}", path.join("/"))
}

async fn fails(user: &User, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let (status, answer) = user.call(method, path, body).await;
    assert!(!status.is_success(), "{path}: {answer}");
    (status.as_u16(), answer)
}

async fn errcode(user: &User, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, answer) = fails(user, method, path, body).await;
    (status, answer["errcode"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_backup_from_its_beginning_to_its_end() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let none = errcode(&alice, Method::GET, "/room_keys/version", None).await;
        assert_eq!(none, (404, "M_NOT_FOUND".into()));
        let version = begin(&alice).await;
        let this = format!("/room_keys/version/{version}");
        let empty = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "abc" },
            "count": 0, "etag": "0", "version": version });
        assert_eq!(alice.read("/room_keys/version").await, empty);
        assert_eq!(alice.read(&this).await, empty);
        assert_eq!(alice.read(&keys(&[], &version)).await, json!({ "rooms": {} }));
        let room = alice.read(&keys(&[ROOM], &version)).await;
        assert_eq!(room, json!({ "sessions": {} }));

        let put = async |path: &[&str], body: Value| {
            let told = alice.ok(Method::PUT, &keys(path, &version), body).await;
            let now = alice.read("/room_keys/version").await;
            assert_eq!((&told["etag"], &told["count"]), (&now["etag"], &now["count"]));
            told["count"].as_u64().unwrap()
        };
        let (one, other) = (key(1, 2, false), key(3, 0, true));
        assert_eq!(put(&[ROOM, "a/b"], one.clone()).await, 1);
        let sessions = json!({ "sessions": { "a/b": other, "c": one } });
        assert_eq!(put(&[ROOM], sessions.clone()).await, 2);
        let rooms = json!({ "rooms": { ROOM: { "sessions": { "d": one } },
            "!other:there": { "sessions": { "a/b": other } }, "!none:there": { "sessions": {} } } });
        assert_eq!(put(&[], rooms).await, 4);
        assert_eq!(alice.read(&keys(&[ROOM, "a/b"], &version)).await, other);
        let room = alice.read(&keys(&[ROOM], &version)).await;
        assert_eq!(room, json!({ "sessions": { "a/b": other, "c": one, "d": one } }));
        let all = alice.read(&keys(&[], &version)).await;
        let there = json!({ "sessions": { "a/b": other } });
        assert_eq!(all, json!({ "rooms": { ROOM: room, "!other:there": there } }));
        let before = alice.read(&this).await;
        assert_eq!(put(&[ROOM], sessions).await, 4);
        assert_eq!(alice.read(&this).await, before, "nothing is new");

        let delete = async |path: &[&str]| {
            let told = alice.ok(Method::DELETE, &keys(path, &version), json!({})).await;
            told["count"].as_u64().unwrap()
        };
        assert_eq!(delete(&[ROOM, "c"]).await, 3);
        assert_eq!(delete(&[ROOM, "c"]).await, 3);
        let absent = errcode(&alice, Method::GET, &keys(&[ROOM, "c"], &version), None).await;
        assert_eq!(absent, (404, "M_NOT_FOUND".into()));
        assert_eq!(delete(&[ROOM]).await, 1);
        assert_eq!(delete(&[]).await, 0);
        assert_eq!(alice.read(&keys(&[], &version)).await, json!({ "rooms": {} }));

        let signed = json!({ "algorithm": ALGORITHM, "version": version,
            "auth_data": { "public_key": "abc", "signatures": { "@alice:here": { "ed25519:A": "s" } } } });
        alice.ok(Method::PUT, &this, signed.clone()).await;
        assert_eq!(alice.read(&this).await["auth_data"], signed["auth_data"]);
        for _ in 0..2 {
            alice.ok(Method::DELETE, &this, json!({})).await;
        }
        let gone = errcode(&alice, Method::GET, &this, None).await;
        assert_eq!(gone, (404, "M_NOT_FOUND".into()));
        assert_ne!(begin(&alice).await, version);
    })
    .await;
}

/// As Complement's `TestE2EKeyBackupReplaceRoomKeyRules`.
#[tokio::test]
async fn a_better_key_stays() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let version = begin(&alice).await;
        let worse = [
            (false, 11, 5),
            (false, 10, 6),
            (false, 11, 6),
            (true, 11, 5),
            (true, 10, 6),
            (true, 11, 6),
        ];
        for (session, verified) in [("a", false), ("b", true)] {
            let path = keys(&[ROOM, session], &version);
            let first = key(10, 5, verified);
            alice.ok(Method::PUT, &path, first.clone()).await;
            for (of, index, forwarded) in worse {
                if of && !verified {
                    continue;
                }
                alice
                    .ok(Method::PUT, &path, key(index, forwarded, of))
                    .await;
                assert_eq!(alice.read(&path).await, first);
            }
            for better in [key(10, 4, verified), key(9, 9, verified), key(99, 9, true)] {
                if verified && better["first_message_index"] == 99 {
                    continue;
                }
                alice.ok(Method::PUT, &path, better.clone()).await;
                assert_eq!(alice.read(&path).await, better);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn keys_go_only_where_they_belong() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let first = begin(&alice).await;
        let put = |version: &str| keys(&[ROOM, "s"], version);
        alice.ok(Method::PUT, &put(&first), key(1, 0, false)).await;
        let second = begin(&alice).await;
        let paths = [vec![], vec![ROOM], vec![ROOM, "s"]];
        let bodies = [
            json!({ "rooms": {} }),
            json!({ "sessions": {} }),
            key(1, 0, false),
        ];
        for (path, body) in paths.iter().zip(bodies) {
            let old = keys(path, &first);
            let (status, error) = fails(&alice, Method::PUT, &old, Some(body.clone())).await;
            assert_eq!(
                (status, &error["errcode"]),
                (403, &json!("M_WRONG_ROOM_KEYS_VERSION"))
            );
            assert_eq!(error["current_version"], json!(second));
            alice.read(&old).await;
            for odd in [
                "3",
                "0",
                "-1",
                "01",
                "%2B1",
                "1.0",
                "x",
                "",
                "99999999999999999999",
            ] {
                for (method, body) in [
                    (Method::PUT, Some(body.clone())),
                    (Method::GET, None),
                    (Method::DELETE, None),
                ] {
                    let absent = errcode(&alice, method, &keys(path, odd), body).await;
                    assert_eq!(absent, (404, "M_NOT_FOUND".into()), "{odd}");
                }
            }
            let path = keys(path, "").replace("?version=", "");
            let missing = errcode(&alice, Method::PUT, &path, Some(body)).await;
            assert_eq!(missing, (400, "M_MISSING_PARAM".into()));
            let missing = errcode(&alice, Method::GET, &path, None).await;
            assert_eq!(missing.0, 400);
        }
        // Another's backup.
        let absent = errcode(&bob, Method::GET, &put(&first), None).await;
        assert_eq!(absent.0, 404);
        begin(&bob).await;
        begin(&bob).await;
        assert_eq!(bob.read(&keys(&[], &first)).await, json!({ "rooms": {} }));
        bob.ok(Method::DELETE, &keys(&[], &first), json!({})).await;
        bob.ok(Method::DELETE, "/room_keys/version/1", json!({}))
            .await;
        assert_eq!(alice.read(&put(&first)).await, key(1, 0, false));
        // The one before is the current one again.
        alice
            .ok(
                Method::DELETE,
                &format!("/room_keys/version/{second}"),
                json!({}),
            )
            .await;
        let gone = errcode(&alice, Method::PUT, &put(&second), Some(key(1, 0, true))).await;
        assert_eq!(gone, (404, "M_NOT_FOUND".into()));
        assert_eq!(
            alice.read("/room_keys/version").await["version"],
            json!(first)
        );
        alice.ok(Method::PUT, &put(&first), key(1, 0, true)).await;
    })
    .await;
}

#[tokio::test]
async fn what_clients_get_wrong_is_told_them() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let version = begin(&alice).await;
        let this = format!("/room_keys/version/{version}");
        let described = |algorithm: Value, auth_data: Value| {
            json!({ "algorithm": algorithm, "auth_data": auth_data })
        };
        let refused = async |method: Method, path: &str, body: Value| {
            let (status, errcode) = errcode(&alice, method, path, Some(body)).await;
            format!("{status} {errcode}")
        };
        let large = "x".repeat(70_000);
        for (body, wanted) in [
            (described(json!(1), json!({})), "400 M_BAD_JSON"),
            (described(json!(""), json!({})), "400 M_INVALID_PARAM"),
            (described(json!("x".repeat(256)), json!({})), "400 M_INVALID_PARAM"),
            (described(json!("a"), json!([])), "400 M_BAD_JSON"),
            (described(json!("a"), json!({ "a": large })), "413 M_TOO_LARGE"),
            (json!({ "algorithm": "a" }), "400 M_BAD_JSON"),
            (json!([]), "400 M_BAD_JSON"),
        ] {
            let told = refused(Method::POST, "/room_keys/version", body.clone()).await;
            assert_eq!(told, wanted, "{body:.200}");
            let told = refused(Method::PUT, &this, body).await;
            assert_eq!(told, wanted);
        }
        let other = described(json!("m.other"), json!({}));
        let told = refused(Method::PUT, &this, other.clone()).await;
        assert_eq!(told, "400 M_INVALID_PARAM");
        let told = refused(Method::PUT, "/room_keys/version/7", other).await;
        assert_eq!(told, "404 M_NOT_FOUND");
        let elsewhere = json!({ "algorithm": ALGORITHM, "auth_data": {}, "version": "2" });
        let told = refused(Method::PUT, &this, elsewhere).await;
        assert_eq!(told, "400 M_INVALID_PARAM");
        let told = refused(Method::DELETE, "/room_keys/version/7", json!({})).await;
        assert_eq!(told, "404 M_NOT_FOUND");
        for path in [vec![], vec![ROOM], vec![ROOM, "s"]] {
            let told = refused(Method::PUT, &keys(&path, &version), json!([])).await;
            assert_eq!(told, "400 M_BAD_JSON");
        }
        let told = refused(Method::PUT, &keys(&["room", "s"], &version), key(1, 0, true)).await;
        assert_eq!(told, "400 M_INVALID_PARAM");
        // Of a body in which one key is wrong nothing stays.
        let rooms = json!({ "rooms": { ROOM: { "sessions": { "a": key(1, 0, true) } },
            "nowhere": { "sessions": { "a": key(1, 0, true) } } } });
        let told = refused(Method::PUT, &keys(&[], &version), rooms).await;
        assert_eq!(told, "400 M_INVALID_PARAM");
        assert_eq!(alice.read(&this).await["count"], 0);
    })
    .await;
}

#[tokio::test]
async fn a_large_backup_goes_in_and_comes_out() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let version = begin(&alice).await;
        let mut rooms = Map::new();
        for room in 0..7 {
            let sessions = (0..400).map(|session| {
                let mut key = key(session, 0, false);
                key["session_data"]["ciphertext"] = json!("é".repeat(500));
                (format!("session {session}"), key)
            });
            let sessions: Map<String, Value> = sessions.collect();
            rooms.insert(format!("!room{room}:here"), json!({ "sessions": sessions }));
        }
        let body = json!({ "rooms": rooms });
        assert!(body.to_string().len() > 3_000_000);
        let told = alice
            .ok(Method::PUT, &keys(&[], &version), body.clone())
            .await;
        assert_eq!(told["count"], 2_800);
        assert_eq!(alice.read(&keys(&[], &version)).await, body);
        let again = alice.ok(Method::PUT, &keys(&[], &version), body).await;
        assert_eq!(again, told);

        let request = Request::put(format!("/_matrix/client/v3{}", keys(&[], &version)))
            .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
            .body(Body::from(vec![b' '; (64 << 20) + 1]));
        let answer = server.router.clone().oneshot(request.unwrap()).await;
        assert_eq!(answer.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    })
    .await;
}
