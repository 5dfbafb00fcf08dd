//! Requests, to a service of a few bytes.

use ruma::server_name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::parse;

/// A service that is asked once, and answers so; gives what it was asked.
async fn service(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/below", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut asked, mut piece) = (Vec::new(), [0; 4096]);
        // All of these requests have bodies, which end so.
        while !asked.ends_with(b"}") {
            let read = stream.read(&mut piece).await.unwrap();
            assert_ne!(read, 0, "more was to come");
            asked.extend_from_slice(&piece[..read]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.is_empty() {
            // Nothing comes until the other side gives up.
            let _ = stream.read(&mut piece).await;
        }
        String::from_utf8(asked).unwrap()
    });
    (url, asked)
}

fn registration(url: &str) -> std::sync::Arc<Registration> {
    let text =
        format!("id: a\nurl: {url}\nas_token: SECRET-A\nhs_token: SECRET-H\nsender_localpart: a\n");
    let all = parse(&[("a.yaml", &text)], server_name!("here"));
    let all = all.unwrap_or_else(|error| panic!("{error}"));
    all.by_id("a").unwrap().clone()
}

fn client() -> AppserviceClient {
    AppserviceClient::new(Vec::new())
}

const WITHIN: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_request_shows_our_token_in_its_header_alone() {
    let (url, asked) = service("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let service = registration(&url);
    let body = Bytes::from_static(b"{\"events\":[]}");
    let path = ["_matrix", "app", "v1", "transactions", "1/2"];
    let answer = client()
        .put(&service, &path, body, (WITHIN, 100))
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (StatusCode::OK, &b"{}"[..])
    );
    assert!(!answer.is_cut);
    let asked = asked.await.unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"events\":[]}");
    let first = head.lines().next().unwrap();
    assert_eq!(
        first,
        "PUT /below/_matrix/app/v1/transactions/1%2F2 HTTP/1.1"
    );
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(of, _)| of.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).unwrap()
    };
    assert_eq!(header("authorization"), "Bearer SECRET-H");
    assert_eq!(header("content-type"), "application/json");
    assert!(!asked.contains("SECRET-A"), "{asked}");
    assert_eq!(asked.matches("SECRET-H").count(), 1, "{asked}");
}

#[tokio::test]
async fn of_an_answer_so_much_is_read_and_no_redirect_followed() {
    let (url, _) =
        service("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 6\r\n\r\nabcdef").await;
    let body = Bytes::from_static(b"{}");
    let answer = client()
        .post(&registration(&url), &["x"], body, (WITHIN, 3))
        .await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!((answer.body.as_slice(), answer.is_cut), (&b"abc"[..], true));
}

#[tokio::test]
async fn a_ping_says_what_is_wrong() {
    let ping = async |url: &str| client().ping(&registration(url), Some("t")).await;
    let (url, asked) = service("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    ping(&url).await.unwrap();
    let asked = asked.await.unwrap();
    assert!(
        asked.starts_with("POST /below/_matrix/app/v1/ping "),
        "{asked}"
    );
    assert!(asked.ends_with("{\"transaction_id\":\"t\"}"), "{asked}");
    let (url, _) = service("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnoä").await;
    let refused = PingError::Status {
        status: StatusCode::FORBIDDEN,
        body: "noä".into(),
    };
    assert_eq!(ping(&url).await, Err(refused));
    assert_eq!(ping("null").await, Err(PingError::Call(CallError::NoUrl)));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let Err(PingError::Call(CallError::Unreachable(why))) = ping(&url).await else {
        panic!("nobody is there")
    };
    assert!(!why.contains("SECRET"), "{why}");
}

#[tokio::test]
async fn nobody_is_waited_for_for_longer_than_was_said() {
    let (url, _) = service("").await;
    let body = Bytes::from_static(b"{}");
    let brief = Duration::from_millis(20);
    let answer = client()
        .put(&registration(&url), &["x"], body, (brief, 1))
        .await;
    assert_eq!(answer, Err(CallError::Timeout));
}
