//! What a server tells Prometheus: that what happens moves it, that strangers can't make it grow, and that the list of
//! metrics, the rules and the dashboard name what there is.
#![allow(clippy::float_cmp, reason = "what is compared is counted")]

mod exposition;
mod files;

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rhizome::config::Config;
use rhizome::server;
use rhizome_demo::Socket;
use rhizome_storage::testing::eventually;
use serde_json::json;

use self::exposition::Exposition;
use crate::cli::{rhizome, texts};
use crate::harness::{Kind, Pair, Server, each_database};
use crate::talk::PATIENCE;

/// Switches metrics on, and presence off, which wakes people now and then.
fn measured(config: &mut Config) {
    config.presence.enabled = false;
    config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
}

/// Asks a server's listener of metrics.
async fn ask(server: &Server, method: Method, path: &str) -> (StatusCode, String) {
    let address = server.site.running().unwrap().metrics_address().unwrap();
    let url = format!("http://{address}{path}");
    let answer = server.http.request(method, url).send().await.unwrap();
    let status = answer.status();
    (status, answer.text().await.unwrap())
}

async fn scrape(server: &Server) -> Exposition {
    let (status, text) = ask(server, Method::GET, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    Exposition::read(&text)
}

const REQUESTS: &str = "rhizome_http_request_seconds_count";
const SEND: (&str, &str) = ("route", "/_matrix/client/v3/rooms/{p1}/send/{p2}/{p3}");
const TRANSACTION: (&str, &str) = ("route", "/_matrix/federation/v1/send/{p1}");

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_another_server_moves_the_figures_of_both() {
    each_database(|kind| async move {
        let pair = Pair::start_with(kind, measured).await;
        let (ada, bea) = (
            pair.north.register("ada").await,
            pair.south.register("bea").await,
        );
        let options = json!({ "preset": "public_chat" });
        let room = ada.create_room(options).await.unwrap();
        bea.join(&room, &[pair.north.name()]).await.unwrap();
        let since = bea.now().await.unwrap();
        let before = [scrape(&pair.north).await, scrape(&pair.south).await];

        // She waits before there is something to hear.
        let store = pair.south.site.running().unwrap().store().clone();
        let waits = store.counters().now().waits;
        let heard = async {
            let is_said = |answer: &serde_json::Value| {
                let mut said = rhizome_demo::timeline(answer, &room);
                said.any(|event| event["content"]["body"] == "hello")
                    .then_some(())
            };
            bea.sync_until(&since, PATIENCE, is_said).await.unwrap()
        };
        let told = async {
            eventually("she waits", async || store.counters().now().waits > waits).await;
            eventually("she is seen to wait", async || {
                let told = scrape(&pair.south).await;
                told.sum("rhizome_client_waiting", &[("form", "sync")]) == 1.0
            })
            .await;
            ada.say(&room, "hello").await.unwrap();
        };
        tokio::join!(heard, told);

        let arrived = (
            "rhizome_federation_transactions_total",
            &[("outcome", "arrived")],
        );
        let was_sent = before[0].sum(arrived.0, arrived.1);
        eventually("it has arrived", async || {
            scrape(&pair.north).await.sum(arrived.0, arrived.1) > was_sent
        })
        .await;
        let after = [scrape(&pair.north).await, scrape(&pair.south).await];
        let moved = |of: usize, name: &str, labels: &[(&str, &str)]| {
            after[of].sum(name, labels) - before[of].sum(name, labels)
        };
        assert_eq!(
            moved(0, REQUESTS, &[SEND, ("method", "PUT"), ("status", "2xx")]),
            1.0
        );
        assert!(moved(0, "rhizome_commit_seconds_count", &[]) >= 1.0);
        assert!(moved(0, "rhizome_database_statements_total", &[]) >= 1.0);
        assert!(moved(0, "rhizome_log_position", &[]) >= 1.0);
        let taken = moved(
            1,
            REQUESTS,
            &[TRANSACTION, ("method", "PUT"), ("status", "2xx")],
        );
        assert!(taken >= 1.0, "{taken}");
        let delivered = moved(1, "rhizome_delivery_seconds_count", &[]);
        assert!(delivered >= 1.0, "{delivered}");
        assert_eq!(
            after[1].sum("rhizome_client_waiting", &[("form", "sync")]),
            0.0
        );
        for (of, told) in after.iter().enumerate() {
            assert_eq!(moved(of, "rhizome_database_errors_total", &[]), 0.0);
            assert_eq!(moved(of, "rhizome_task_restarts_total", &[]), 0.0);
            assert_eq!(told.sum("rhizome_database_writable", &[]), 1.0);
            assert_eq!(told.sum("rhizome_queues_known", &[]), 1.0);
        }
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_a_file_and_a_reader_are_seen() {
    each_database(|kind| async move {
        let server = Server::start_with(kind, measured).await;
        let ada = server.register("ada").await;
        let sockets = async || {
            let told = scrape(&server).await;
            told.sum("rhizome_client_waiting", &[("form", "websocket")])
        };
        assert_eq!(sockets().await, 0.0);
        let mut socket = Socket::open(&ada.at(&server.site.base()), "")
            .await
            .unwrap();
        socket.next(Duration::from_secs(10)).await.unwrap();
        assert_eq!(sockets().await, 1.0);
        let told = scrape(&server).await;
        let opened = [
            ("route", "/_matrix/client/unstable/org.rhizome.stream"),
            ("status", "1xx"),
        ];
        assert_eq!(told.sum(REQUESTS, &opened), 1.0);
        drop(socket);
        eventually("it is gone", async || sockets().await == 0.0).await;

        let file = vec![7; 1_000];
        ada.put_bytes("/_matrix/media/v3/upload", "application/octet-stream", file)
            .await
            .unwrap();
        let told = scrape(&server).await;
        let uploaded = told.sum("rhizome_media_bytes_total", &[("way", "uploaded")]);
        assert_eq!(uploaded, 1_000.0);

        ada.create_room(json!({})).await.unwrap();
        eventually("all of the log is read", async || {
            let told = scrape(&server).await;
            told.count("rhizome_log_reader_behind") > 5
                && told.sum("rhizome_log_reader_behind", &[]) == 0.0
        })
        .await;
        server.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_make_no_labels() {
    let server = Server::start_with(Kind::Sqlite, measured).await;
    let ask_for = async |method: &str, path: &str| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}", server.site.base());
        server.http.request(method, url).send().await.unwrap();
    };
    ask_for("GET", "/wp-login.php").await;
    ask_for("BREW", "/_matrix/client/versions").await;
    ask_for("BREW", "/coffee").await;
    let here = server.name();
    ask_for("GET", &format!("/_matrix/client/v3/profile/@a:{here}")).await;
    let before = scrape(&server).await;
    for n in 0..50 {
        ask_for("GET", &format!("/{n}/wp-login.php?{n}")).await;
        ask_for("GET", &format!("/_matrix/client/v3/{n}")).await;
        ask_for("GET", &format!("/_matrix/client/v3/profile/@{n}:{here}")).await;
        ask_for(&format!("BREW{n}"), "/_matrix/client/versions").await;
        ask_for(&format!("BREW{n}"), &format!("/coffee/{n}")).await;
    }
    let after = scrape(&server).await;
    assert_eq!(after.count(REQUESTS), before.count(REQUESTS), "{after:?}");
    let unmatched = [("route", "unmatched")];
    assert_eq!(
        after.sum(REQUESTS, &unmatched) - before.sum(REQUESTS, &unmatched),
        150.0
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_tells_metrics_and_nothing_else() {
    let server = Server::start_with(Kind::Sqlite, measured).await;
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/_matrix/client/versions", 404),
        (Method::POST, "/metrics", 405),
        (Method::HEAD, "/metrics", 200),
    ] {
        let (answered, text) = ask(&server, method, path).await;
        assert_eq!(answered, status, "{path}: {text}");
    }
    // Nor do others tell them.
    let url = format!("{}/metrics", server.site.base());
    let answer = server.http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_off_until_somebody_wants_them() {
    let server = Server::start(Kind::Sqlite).await;
    let running = server.site.running().unwrap();
    assert_eq!(running.metrics_address(), None);
    server.register("ada").await;
    let timings = running.store().counters().timings();
    assert_eq!(timings.commits().count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.server.data_dir = dir.path().join("data");
    config.listeners[0].address = "127.0.0.1:0".parse().unwrap();
    config.metrics.listen = taken.local_addr().ok();
    let error = server::start(config).await.err().unwrap().to_string();
    assert!(
        error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
    assert!(error.contains("metrics.listen"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_told_in_a_few_lines() {
    let server = Server::start_with(Kind::Sqlite, measured).await;
    server.register("ada").await;
    let running = server.site.running().unwrap();
    let listen = running.metrics_address().unwrap().to_string();
    let status = async |listen: Option<String>| {
        let run = move || {
            let dir = tempfile::tempdir().unwrap();
            let mut command = rhizome(dir.path());
            command.arg("status");
            command.envs(listen.map(|listen| ("RHIZOME__METRICS__LISTEN", listen)));
            command.output().unwrap()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let told = status(Some(listen.clone())).await;
    let (text, error) = texts(&told);
    assert!(told.status.success(), "{error}");
    for part in ["running for", "requests", "commits", "readers", "MiB"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Who has no listener, and who doesn't run, is told so.
    let off = status(None).await;
    assert_eq!(off.status.code(), Some(1));
    assert!(texts(&off).1.contains("metrics.listen"), "{off:?}");
    server.stop().await;
    let gone = status(Some(listen)).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(texts(&gone).1.contains("does the server run?"), "{gone:?}");
}
