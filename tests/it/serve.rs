//! Starting, answering, stopping; and what hostile or slow peers get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use rhizome::config::{Api, Config, Listener, Size, Span};
use rhizome::server;
use rhizome_demo::{Authority, http_client};
use rhizome_storage::testing::{eventually, soon};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Kind, Server, each_database};

async fn get(base: &str, path: &str) -> (StatusCode, String) {
    let response = http_client()
        .unwrap()
        .get(format!("{base}{path}"))
        .send()
        .await
        .unwrap();
    (response.status(), response.text().await.unwrap())
}

/// A server with one plain listener on a port that the system chooses.
fn small(dir: &std::path::Path) -> Config {
    let mut config = Config::default();
    config.server.data_dir = dir.join("data");
    config.listeners[0].address = "127.0.0.1:0".parse().unwrap();
    config
}

#[tokio::test]
async fn it_starts_answers_and_stops_on_both_databases() {
    each_database(|kind| async move {
        let server = Server::start(kind).await;
        let (status, body) = get(&server.site.base(), "/_matrix/client/versions").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("\"versions\""), "{body}");
        assert_eq!(get(&server.site.base(), "/health").await.0, 200);
        let address = server.site.config().listeners[1].address;
        server.stop().await;
        assert!(
            TcpStream::connect(address).await.is_err(),
            "it still listens"
        );
    })
    .await;
}

#[tokio::test]
async fn the_defaults_serve_and_the_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let running = server::start(small(dir.path())).await.unwrap();
    assert!(running.made_key());
    let base = format!("http://{}", running.addresses()[0]);
    assert_eq!(get(&base, "/_matrix/client/versions").await.0, 200);
    assert_eq!(get(&base, "/_matrix/federation/v1/version").await.0, 200);
    running.shutdown().await;
    let running = server::start(small(dir.path())).await.unwrap();
    assert!(!running.made_key());
    running.shutdown().await;
}

#[tokio::test]
async fn another_server_name_is_refused_with_the_remedy() {
    each_database(|kind| async move {
        let mut server = Server::start(kind).await;
        server.site.stop().await;
        let mut config = server.site.config().clone();
        config.server.name = "elsewhere.example".try_into().unwrap();
        let error = server::start(config).await.err().unwrap().to_string();
        assert!(
            error.contains("belongs to the server `localhost:"),
            "{error}"
        );
        assert!(error.contains("set server.name = \"localhost:"), "{error}");
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = small(dir.path());
    config.listeners[0].address = taken.local_addr().unwrap();
    let error = server::start(config).await.err().unwrap().to_string();
    assert!(error.contains("can't listen on 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_long_poll_is_answered_when_the_server_stops() {
    let mut server = Server::start(Kind::Sqlite).await;
    let ada = server.register("ada").await;
    let since = ada.now().await.unwrap();
    let store = server.site.running().unwrap().store().clone();
    let before = store.counters().now().waits;
    let poll = tokio::spawn(async move { ada.sync(Some(&since), Duration::from_mins(2)).await });
    eventually("the poll waits", async || {
        store.counters().now().waits > before
    })
    .await;
    soon("the server stops", server.site.stop()).await;
    let answer = poll.await.unwrap().expect("the poll is answered, not cut");
    assert!(answer["next_batch"].is_string(), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn each_listener_serves_its_apis_only() {
    let server = Server::start(Kind::Sqlite).await;
    let (status, body) = get(&server.site.base(), "/_matrix/federation/v1/version").await;
    assert_eq!(status, 404);
    assert!(body.contains("M_UNRECOGNIZED"), "{body}");
    assert_eq!(
        get(&server.site.base(), "/_matrix/key/v2/server").await.0,
        404
    );
    server.stop().await;

    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    config.listeners = vec![
        Listener {
            address: any,
            apis: vec![Api::Federation],
            tls: None,
        },
        Listener {
            address: any,
            apis: vec![Api::Client],
            tls: None,
        },
    ];
    let running = server::start(config).await.unwrap();
    let [federation, client] =
        [0, 1].map(|index: usize| format!("http://{}", running.addresses()[index]));
    assert_eq!(get(&federation, "/_matrix/key/v2/server").await.0, 200);
    assert_eq!(get(&federation, "/_matrix/client/versions").await.0, 404);
    assert_eq!(get(&client, "/_matrix/client/versions").await.0, 200);
    assert_eq!(get(&client, "/_synapse/admin/v1/register").await.0, 404);
    running.shutdown().await;
}

#[tokio::test]
async fn federation_switched_off_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.federation.enabled = false;
    let running = server::start(config).await.unwrap();
    let base = format!("http://{}", running.addresses()[0]);
    let (status, body) = get(&base, "/_matrix/federation/v1/version").await;
    assert_eq!(status, 404);
    assert!(body.contains("M_UNRECOGNIZED"), "{body}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_tls_listener_speaks_tls_with_http2_and_reads_its_certificate_again() {
    let server = Server::start(Kind::Sqlite).await;
    let tls = server.site.config().listeners[0].tls.clone().unwrap();
    let address = server.site.config().listeners[0].address;
    let ca = |file: &std::path::Path| CertificateDer::from_pem_file(file).unwrap();
    let old = ca(&tls.certificate.with_file_name("ca.pem"));
    let ask = |authority: CertificateDer<'static>| async move {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("https://localhost:{}/_matrix/key/v2/server", address.port());
        client.get(url).send().await
    };
    let response = ask(old.clone()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), reqwest::Version::HTTP_2);

    // A new certificate in the same files.
    let fresh = tempfile::tempdir().unwrap();
    let authority = Authority::create(fresh.path()).unwrap();
    std::fs::copy(authority.certificate(), &tls.certificate).unwrap();
    std::fs::copy(authority.key(), &tls.key).unwrap();
    let running = server.site.running().unwrap();
    running.reload_certificates();
    assert_eq!(ask(ca(&authority.ca())).await.unwrap().status(), 200);
    assert!(ask(old).await.is_err());
    // One that can't be used leaves the last good one in place.
    std::fs::write(&tls.key, "rubbish").unwrap();
    running.reload_certificates();
    assert_eq!(ask(ca(&authority.ca())).await.unwrap().status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn slow_and_greedy_peers_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.http.header_timeout = Span::millis(300);
    config.http.body_timeout = Span::millis(300);
    config.http.max_request_size = Size(256 * 1024);
    let running = server::start(config).await.unwrap();
    let address = running.addresses()[0];
    let whole = |sent: Vec<u8>| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = soon("the server ends the connection", read).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    // Says nothing; begins like HTTP/2 and stops; never ends its headers.
    assert_eq!(whole(Vec::new()).await, "");
    assert_eq!(whole(b"PRI * HT".to_vec()).await, "");
    whole(b"GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\n".to_vec()).await;
    // Stays after its answer and says nothing more.
    let answer = whole(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Promises a body that doesn't come.
    let login = "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length:";
    let answer = whole(format!("{login} 100\r\n\r\n{{").into_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    // Announces too much.
    let answer = whole(format!("{login} 9999999\r\n\r\n").into_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("M_TOO_LARGE"), "{answer}");
    // Announces nothing, and sends too much.
    let piece = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let head = login.replace("Content-Length:", "Transfer-Encoding: chunked\r\n\r\n");
    let answer = whole(format!("{head}{}", piece.repeat(17)).into_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("M_TOO_LARGE"), "{answer}");
    // Asks and asks, and doesn't take the answers.
    let mut greedy = TcpStream::connect(address).await.unwrap();
    let questions = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let asking = async { while greedy.write_all(&questions).await.is_ok() {} };
    soon("the server gives it up", asking).await;
    // Headers without end.
    let endless = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(300_000));
    let answer = whole(endless.into_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    // Others are served all the while.
    assert_eq!(
        get(&format!("http://{address}"), "/_matrix/client/versions")
            .await
            .0,
        200
    );
    running.shutdown().await;
}
