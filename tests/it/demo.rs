//! The demo is a test: it fails when the two servers differ.

use std::process::Stdio;

use rhizome::{config::Config, server::Running};
use rhizome_demo::{Homeserver, Place};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::harness::decode_here;

/// A server of the demo.
struct InTests(Running);

impl Homeserver for InTests {
    type Config = Config;

    fn config(place: &Place) -> anyhow::Result<Config> {
        let mut config = <Running as Homeserver>::config(place)?;
        decode_here(&mut config);
        Ok(config)
    }

    async fn start(config: Config) -> anyhow::Result<Self> {
        <Running as Homeserver>::start(config).await.map(Self)
    }

    async fn stop(self) {
        self.0.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_on_sqlite() {
    Box::pin(rhizome_demo::run::<InTests>(None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_on_postgresql() {
    let url = std::env::var(rhizome_storage::testing::POSTGRES_VARIABLE)
        .expect("RHIZOME_TEST_POSTGRES names a PostgreSQL for the tests; scripts/test makes a throwaway one");
    Box::pin(rhizome_demo::run::<InTests>(Some(url)))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_demo_refuses_what_is_no_postgresql() {
    let error = Box::pin(rhizome_demo::run::<InTests>(Some(
        "mysql://localhost/x".to_owned(),
    )))
    .await
    .unwrap_err();
    assert!(format!("{error:#}").contains("postgres://"), "{error:#}");
}

/// `rhizome demo --serve` says where a page is with the example client, which may talk to the two servers and runs
/// nothing but its own script.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_serves_a_client_for_the_browser() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rhizome"))
        .args(["demo", "--serve"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .await
        .unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let url = told["client"]["url"].as_str().unwrap();
    let http = rhizome_demo::http_client().unwrap();
    let page = http.get(url).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    let socket = told["north"]["url"].as_str().unwrap().replace("http", "ws");
    for allowed in ["default-src 'none'", "script-src 'sha256-", &socket] {
        assert!(policy.contains(allowed), "{policy}");
    }
    assert!(page.text().await.unwrap().contains("org.rhizome.stream"));
    let servers = http.get(format!("{url}servers.json"));
    let servers = servers.send().await.unwrap();
    let servers: Value = serde_json::from_str(&servers.text().await.unwrap()).unwrap();
    assert_eq!(servers["north"], told["north"]);
    assert_eq!(servers["south"], told["south"]);
    let id = child.id().unwrap().to_string();
    let stopped = Command::new("kill").arg(id).status().await;
    assert!(stopped.unwrap().success());
    assert!(child.wait().await.unwrap().success());
}
