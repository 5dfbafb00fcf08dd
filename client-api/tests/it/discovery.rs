//! What the server tells of itself.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use rhizome_client_api::{
    ClientConfig,
    config::{Contact, EncryptionByDefault, Turn, TurnCredentials, Welcome},
};
use rhizome_storage::testing::each_database;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{Server, story};

async fn with(change: impl Fn(&mut ClientConfig), tell: impl AsyncFn(Server)) {
    each_database(async |store| tell(Server::with(store, &change)).await).await;
}

async fn get(server: &Server, path: &str) -> (StatusCode, Value) {
    server.request(Method::GET, path, None, None).await
}

const VERSIONS: &str = "/_matrix/client/versions";

#[tokio::test]
async fn versions_say_what_is_there() {
    let encrypting =
        |config: &mut ClientConfig| config.encryption_by_default = EncryptionByDefault::Invite;
    with(encrypting, async |server| {
        let (status, answer) = get(&server, VERSIONS).await;
        assert_eq!(status, StatusCode::OK);
        let name = &answer["net.zemos.msc4383.server"];
        assert!(
            name["name"].is_string() && name["version"].is_string(),
            "{answer}"
        );
        let features = &answer["unstable_features"];
        assert_eq!(features["org.matrix.msc4155"], true);
        assert_eq!(features["net.zemos.msc4383"], true);
        assert_eq!(features["io.element.e2ee_forced.private"], true);
        assert_eq!(features["io.element.e2ee_forced.public"], false);
    })
    .await;
}

/// What each version of the specification added for clients is there if the version is listed.
#[tokio::test]
async fn what_the_listed_versions_added_is_there() {
    story(|server| async move {
        let (_, answer) = get(&server, VERSIONS).await;
        let listed = answer["versions"].as_array().unwrap().clone();
        let room = "rooms/%21r:here";
        let added = [
            ("v1.2", Method::GET, format!("v1/{room}/hierarchy")),
            ("v1.3", Method::POST, "v3/refresh".to_owned()),
            ("v1.3", Method::GET, format!("v1/{room}/relations/%24e")),
            ("v1.4", Method::GET, format!("v1/{room}/threads")),
            ("v1.6", Method::GET, format!("v1/{room}/timestamp_to_event")),
            ("v1.11", Method::GET, "v1/media/config".to_owned()),
            ("v1.11", Method::GET, "v1/media/preview_url".to_owned()),
            ("v1.11", Method::GET, "v1/media/download/here/x".to_owned()),
            ("v1.11", Method::GET, "v1/media/thumbnail/here/x".to_owned()),
            ("v1.13", Method::POST, format!("v3/{room}/report")),
            ("v1.14", Method::POST, "v3/users/@a:here/report".to_owned()),
            ("v1.15", Method::GET, "v1/room_summary/%21r:here".to_owned()),
            ("v1.16", Method::PUT, "v3/profile/@a:here/m.tz".to_owned()),
            (
                "v1.16",
                Method::DELETE,
                "v3/profile/@a:here/m.tz".to_owned(),
            ),
            ("v1.18", Method::PUT, "v1/admin/lock/@a:here".to_owned()),
            ("v1.18", Method::PUT, "v1/admin/suspend/@a:here".to_owned()),
        ];
        for (version, method, path) in added {
            assert!(listed.contains(&version.into()), "{version}");
            // By its path alone: what the endpoint says to this is none of this test's.
            let request = Request::builder()
                .method(method)
                .uri(format!("/_matrix/client/{path}"))
                .body(Body::empty());
            let asked = rhizome_client_api::router(server.app.clone());
            let response = asked.oneshot(request.unwrap()).await.unwrap();
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
            let answer = String::from_utf8_lossy(&bytes.unwrap()).into_owned();
            assert!(
                !answer.contains("M_UNRECOGNIZED"),
                "{version} {path}: {answer}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_configured_is_not_there() {
    story(|server| async move {
        for name in ["client", "server", "support", "policy_server"] {
            let (status, answer) = get(&server, &format!("/.well-known/matrix/{name}")).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{name}");
            assert_eq!(answer["errcode"], "M_NOT_FOUND", "{name}");
        }
        let alice = server.register("alice").await;
        assert_eq!(alice.read("/voip/turnServer").await, json!({}));
        let (status, answer) = get(&server, "/").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(answer["errcode"], "M_UNRECOGNIZED");
    })
    .await;
}

#[tokio::test]
async fn what_is_configured_is_told() {
    let settings = |config: &mut ClientConfig| {
        config.well_known_client = Some("https://matrix.here".to_owned());
        let told = &mut config.discovery;
        let foci = json!([{ "type": "livekit" }]);
        told.client_extra
            .insert("org.matrix.msc4143.rtc_foci".to_owned(), foci);
        told.contacts.push(Contact {
            role: "m.role.admin".to_owned(),
            matrix_id: None,
            email_address: Some("admin@here".to_owned()),
        });
        told.support_page = Some("https://here/help".to_owned());
        told.policy_server_key = Some("6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s".to_owned());
    };
    with(settings, async |server| {
        let told = async |name: &str| {
            let (status, answer) = get(&server, &format!("/.well-known/matrix/{name}")).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            answer
        };
        assert_eq!(
            told("client").await,
            json!({
                "m.homeserver": { "base_url": "https://matrix.here" },
                "org.matrix.msc4143.rtc_foci": [{ "type": "livekit" }],
            })
        );
        let contact = json!({ "role": "m.role.admin", "email_address": "admin@here" });
        assert_eq!(
            told("support").await,
            json!({ "contacts": [contact], "support_page": "https://here/help" })
        );
        let key = "6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s";
        let keys = json!({ "public_keys": { "ed25519": key } });
        assert_eq!(told("policy_server").await, keys);
    })
    .await;
}

fn turn(credentials: TurnCredentials) -> Turn {
    Turn {
        uris: vec!["turn:turn.here:3478?transport=udp".to_owned()],
        credentials,
        ttl: Duration::from_hours(1),
        guests: false,
    }
}

#[tokio::test]
async fn calls_find_their_turn_server() {
    let secret = |config: &mut ClientConfig| {
        config.turn = Some(turn(TurnCredentials::Secret("secret".to_owned())));
        config.guests = true;
    };
    with(secret, async |server| {
        let alice = server.register("alice").await;
        let told = alice.read("/voip/turnServer").await;
        let name = told["username"].as_str().unwrap();
        let (end, user) = name.split_once(':').unwrap();
        assert_eq!(user, alice.id);
        let now = server.store.clock().now_ms() / 1_000;
        let left = end.parse::<i64>().unwrap() - now;
        assert!((3_000..=3_600).contains(&left), "{left}");
        assert!(!told["password"].as_str().unwrap().is_empty());
        assert_eq!(told["ttl"], 3_600);
        assert_eq!(told["uris"], json!(["turn:turn.here:3478?transport=udp"]));
        let path = "/_matrix/client/v3/register?kind=guest";
        let (_, guest) = server
            .request(Method::POST, path, None, Some(json!({})))
            .await;
        let token = guest["access_token"].as_str();
        let path = "/_matrix/client/v3/voip/turnServer";
        let (status, answer) = server.request(Method::GET, path, token, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(answer["errcode"], "M_GUEST_ACCESS_FORBIDDEN");
    })
    .await;
    let shared = |config: &mut ClientConfig| {
        config.turn = Some(turn(TurnCredentials::Shared {
            user: "all".to_owned(),
            password: "word".to_owned(),
        }));
    };
    with(shared, async |server| {
        let alice = server.register("alice").await;
        let told = alice.read("/voip/turnServer").await;
        assert_eq!(
            (&told["username"], &told["password"]),
            (&json!("all"), &json!("word"))
        );
    })
    .await;
}

#[tokio::test]
async fn people_find_a_page() {
    let settings = |config: &mut ClientConfig| {
        config.welcome = Some(Welcome {
            title: Some("We & <you>".to_owned()),
            clients: vec![("App".to_owned(), "https://app.here".to_owned())],
            ..Welcome::default()
        });
    };
    with(settings, async |server| {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header(header::CONTENT_TYPE), "text/html; charset=utf-8");
        let policy = header(header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(
            policy.ends_with("form-action 'none'; frame-ancestors 'none'; base-uri 'none'"),
            "{policy}"
        );
        assert_eq!(header(header::CACHE_CONTROL), "public, max-age=3600");
        assert_eq!(header(header::REFERRER_POLICY), "no-referrer");
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        let page = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(page.contains("<h1>We &amp; &lt;you&gt;</h1>"), "{page}");
        assert!(page.contains("href=\"https://app.here\""), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("izome"),
            "{page}"
        );
        let (status, answer) = get(&server, "/index.html").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(answer["errcode"], "M_UNRECOGNIZED");
    })
    .await;
}
