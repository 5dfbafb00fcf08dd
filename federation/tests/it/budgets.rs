//! What is asked of a request before its body is read, and how many of them there may be.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
};
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH},
};
use rhizome_edge::limits::Rate;
use rhizome_federation::{FederationConfig, RateLimits, testing::Network};
use rhizome_storage::testing::TestDatabase;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::{Server, enc, still};

/// A body that notes whether anybody reads it.
fn watched() -> (Body, Arc<AtomicBool>) {
    let read = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&read);
    let body = futures_util::stream::once(async move {
        note.store(true, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(b"{\"pdus\":[]}"))
    });
    (Body::from_stream(body), read)
}

/// Of a request whose head can't be right, the body isn't read.
#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_judged_before_the_body_comes() {
    still(2, async |world| {
        let (_, b) = world.two();
        let sig = "A".repeat(86);
        let header = |origin: &str, destination: &str, key: &str| {
            format!(
                "X-Matrix origin=\"{origin}\",destination=\"{destination}\",key=\"{key}\",sig=\"{sig}\""
            )
        };
        for authorization in [
            None,
            Some("Bearer x".to_owned()),
            Some("X-Matrix rubbish".to_owned()),
            Some(header("a.example", "c.example", "ed25519:k1")),
            Some(header("b.example", "b.example", "ed25519:k1")),
            Some(header("a.example", "b.example", "rsa:k1")),
            // A server that can't be asked for its key, and a key that the server doesn't have.
            Some(header("nobody.example", "b.example", "ed25519:k1")),
            Some(header("a.example", "b.example", "ed25519:another")),
        ] {
            let (body, read) = watched();
            let mut request = Request::builder()
                .method(Method::PUT)
                .uri("/_matrix/federation/v1/send/1");
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(body).unwrap();
            let answer = tower::ServiceExt::oneshot(b.router(), request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{authorization:?}");
            assert!(!read.load(Ordering::SeqCst), "{authorization:?}");
        }
        // One that may be right is read, and found wrong.
        let (body, read) = watched();
        let request = Request::builder()
            .method(Method::PUT)
            .uri("/_matrix/federation/v1/send/1")
            .header(AUTHORIZATION, header("a.example", "b.example", "ed25519:k1"))
            .body(body)
            .unwrap();
        let answer = tower::ServiceExt::oneshot(b.router(), request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(read.load(Ordering::SeqCst));
    })
    .await;
}

/// A server with small budgets and two others that know nothing of it.
async fn with_small_budgets(network: &Network, databases: &[TestDatabase; 3]) -> [Server; 3] {
    let small = Rate {
        per_second: 0.001,
        burst: 3,
    };
    let config = FederationConfig {
        rate_limits: RateLimits {
            enabled: true,
            transaction: small,
            state: small,
            media: small,
            other: small,
            unsigned: Rate { burst: 7, ..small },
            keys: small,
            ..RateLimits::default()
        },
        ..Server::config()
    };
    [
        Server::new(network, databases[0].open().await, 0),
        Server::with(network, databases[1].open().await, 1, config),
        Server::new(network, databases[2].open().await, 2),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_has_its_budget() {
    let network = Network::default();
    let databases = [(); 3].map(|()| TestDatabase::sqlite());
    let [a, b, c] = with_small_budgets(&network, &databases).await;
    let bob = b.user("bob");
    let room = b.create_listed(&bob, &RoomVersionId::V11).await;
    let rooms = "/_matrix/federation/v1/publicRooms";
    let missing = format!("/_matrix/federation/v1/make_join/{}/x", enc(&room));
    for (path, status) in [(rooms, 200), (&missing, 400)] {
        for _ in 0..3 {
            let answer = a.get(&b, path).await;
            assert_eq!(
                answer.map_or_else(|error| error.status.as_u16(), |_| 200),
                status
            );
        }
        let error = a.get(&b, path).await.unwrap_err();
        assert_eq!(
            (error.status.as_u16(), &*error.errcode),
            (429, "M_LIMIT_EXCEEDED")
        );
        assert!(error.extra["retry_after_ms"].as_u64().unwrap() > 1_000);
    }
    // Whoever has used up one kind of request has others left, and other servers have their own.
    assert_eq!(a.transaction(&b, "1", &[], &[]).await, json!({}));
    assert!(c.get(&b, rooms).await.is_ok());
    for server in [a, b, c] {
        server.end().await;
    }
}

/// Requests that needn't be signed are counted by the address, and so are the servers whose keys are looked for.
#[tokio::test(flavor = "multi_thread")]
async fn each_address_has_its_budget() {
    let network = Network::default();
    let databases = [(); 3].map(|()| TestDatabase::sqlite());
    let [a, b, c] = with_small_budgets(&network, &databases).await;
    let ask = async |from: &str, request: http::request::Builder, body: Value| {
        let peer = SocketAddr::new(from.parse().unwrap(), 1);
        let request = request.extension(ConnectInfo(peer));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = tower::ServiceExt::oneshot(b.router(), request).await;
        answer.unwrap()
    };
    let own = || Request::get("/_matrix/key/v2/server");
    for _ in 0..7 {
        assert_eq!(ask("2001:db8::1", own(), json!({})).await.status(), 200);
    }
    // An IPv6 subscriber has many addresses.
    let refused = ask("2001:db8::2", own(), json!({})).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(ask("192.0.2.1", own(), json!({})).await.status(), 200);

    let query = || Request::post("/_matrix/key/v2/query");
    let names = |names: &[&str]| -> Value {
        let names = names.iter().map(|name| ((*name).to_owned(), json!({})));
        json!({ "server_keys": names.collect::<serde_json::Map<_, _>>() })
    };
    let two = names(&["a.example", "c.example"]);
    assert_eq!(ask("192.0.2.2", query(), two.clone()).await.status(), 200);
    assert_eq!(ask("192.0.2.2", query(), two.clone()).await.status(), 429);
    assert_eq!(ask("192.0.2.3", query(), two).await.status(), 200);

    // So is the key of whoever says to have signed a request, if it isn't known.
    let sig = "A".repeat(86);
    let signed = |name: &str| {
        let header = format!("X-Matrix origin=\"{name}\",key=\"ed25519:k1\",sig=\"{sig}\"");
        Request::get("/_matrix/federation/v1/publicRooms").header(AUTHORIZATION, header)
    };
    let looked_for = async || {
        let requests = network.requests();
        let of_strangers = requests
            .iter()
            .filter(|(to, _)| to.as_str().starts_with("nobody"));
        of_strangers.count()
    };
    for n in 0..9 {
        let answer = ask(
            "192.0.2.4",
            signed(&format!("nobody{n}.example")),
            json!({}),
        )
        .await;
        assert_eq!(answer.status(), if n < 3 { 401 } else { 429 });
    }
    assert_eq!(looked_for().await, 3);
    // One that is known costs nothing.
    assert_eq!(
        ask("192.0.2.4", signed("a.example"), json!({}))
            .await
            .status(),
        401
    );
    for server in [a, b, c] {
        server.end().await;
    }
}

/// A signed request as it looks to whoever hasn't its body.
fn signed(name: &str, key: &str) -> String {
    let sig = "A".repeat(86);
    format!("X-Matrix origin=\"{name}\",key=\"ed25519:{key}\",sig=\"{sig}\"")
}

/// Who announces a large body and sends nothing takes no room away from those who send theirs.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_block_nobody() {
    still(2, async |world| {
        let (_, b) = world.two();
        let put = |address: [u8; 4], size: usize, body: Body| {
            let request = Request::put("/_matrix/federation/v1/send/1")
                .header(AUTHORIZATION, signed("a.example", "k1"))
                .header(CONTENT_LENGTH, size)
                .extension(ConnectInfo(SocketAddr::from((address, 1))));
            tower::ServiceExt::oneshot(b.fed.router(), request.body(body).unwrap())
        };
        // The key of a.example is known from here on.
        let first = put([192, 0, 2, 9], 2, Body::from("{}")).await.unwrap();
        assert_eq!(first.status(), StatusCode::UNAUTHORIZED);
        let mut stalled = Vec::new();
        for n in 0..18 {
            let asked = Arc::new(Notify::new());
            let note = Arc::clone(&asked);
            let never = futures_util::stream::poll_fn(move |_| {
                note.notify_one();
                Poll::<Option<Result<Bytes, std::io::Error>>>::Pending
            });
            let mut waiting = Box::pin(put([192, 0, 2, n % 6], 16 << 20, Body::from_stream(never)));
            // Its head is judged: either it is being waited for, or it was refused.
            tokio::select! {
                _ = &mut waiting => {}
                () = asked.notified() => stalled.push(waiting),
            }
        }
        let honest = format!("{{\"pdus\":[],\"x\":\"{}\"}}", "x".repeat(100 << 10));
        let size = honest.len();
        let answer = put([192, 0, 2, 77], size, Body::from(honest))
            .await
            .unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::UNAUTHORIZED,
            "its signature was looked at"
        );
        assert_eq!(stalled.len(), 18);
    })
    .await;
}

/// A server that signs with a key that we know, and with another one, needs no budget for keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_at_hand_is_enough() {
    let network = Network::default();
    let databases = [(); 3].map(|()| TestDatabase::sqlite());
    let [a, b, c] = with_small_budgets(&network, &databases).await;
    let ask = async |headers: &[String]| {
        let mut request = Request::get("/_matrix/federation/v1/publicRooms")
            .extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 4], 1))));
        for header in headers {
            request = request.header(AUTHORIZATION, header);
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(b.fed.router(), request).await;
        answer.unwrap().status().as_u16()
    };
    // Several keys of one server cost one question, of three that there are.
    let several = ["another", "third", "fourth"].map(|key| signed("nobody.example", key));
    assert_eq!(ask(&several).await, 401);
    assert_eq!(ask(&[signed("a.example", "k1")]).await, 401);
    assert_eq!(ask(&[signed("nobody1.example", "k1")]).await, 401);
    assert_eq!(ask(&[signed("nobody2.example", "k1")]).await, 429);
    let both = ["another", "k1"].map(|key| signed("a.example", key));
    assert_eq!(ask(&both).await, 401, "one of them is known");
    for server in [a, b, c] {
        server.end().await;
    }
}
