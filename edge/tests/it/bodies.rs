//! Bodies: text, binary and streamed, each to its bound.

use std::task::Poll;

use axum::{body::Body, extract::State};
use futures_util::{StreamExt as _, TryStreamExt as _, future::poll_immediate, poll, stream};
use http::{Request, header};
use rhizome_edge::{
    Binary, Body as JsonBody, CutShort, MatrixError, RawJson, Ruma, Streamed, Table,
};
use ruma::{
    api::{auth_scheme::NoAuthentication, federation::authentication::ServerSignatures},
    metadata,
};
use serde_json::{Value, json};

use crate::support::{
    Kind, MOST, OF_ONE, Open, ask, error_of, from, json_of, open, pieces, stalled,
};

struct Upload;
metadata! {
    @for Upload,
    method: POST,
    rate_limited: true,
    authentication: NoAuthentication,
    path: "/upload/{name}",
}

struct Text;
metadata! {
    @for Text,
    method: POST,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/text",
}

struct Bin;
metadata! {
    @for Bin,
    method: PUT,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/binary",
}

struct Spent;
metadata! {
    @for Spent,
    method: PUT,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/spent",
}

struct OfServer;
metadata! {
    @for OfServer,
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/of_server",
}

/// Counts what comes, and does something at the end of it.
async fn upload(
    State(api): State<Open>,
    Ruma { req, .. }: Ruma<Streamed<Upload>>,
) -> Result<RawJson, MatrixError> {
    let Streamed {
        head, mut upload, ..
    } = req;
    let announced = upload.announced();
    let (mut size, mut most) = (0, 0);
    while let Some(piece) = upload.next().await? {
        size += piece.len();
        most = most.max(piece.len());
    }
    api.done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let kind = head.parts.headers.get(header::CONTENT_TYPE);
    RawJson::of(&json!({
        "name": head.path[0], "size": size, "piece": most, "announced": announced,
        "type": kind.and_then(|kind| kind.to_str().ok()),
    }))
}

async fn text(
    _: State<Open>,
    Ruma { req, body, .. }: Ruma<JsonBody<Text, Value>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "said": req.body, "size": body.len() }))
}

async fn binary(
    _: State<Open>,
    Ruma { body, .. }: Ruma<Binary<Bin>>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&body.to_vec())
}

async fn spent(_: State<Open>, _: Ruma<JsonBody<Spent, Value>>) -> Result<RawJson, MatrixError> {
    Ok(RawJson::from_text("{}"))
}

/// Waits before it answers.
async fn of_server(
    State(api): State<Open>,
    Ruma { body, .. }: Ruma<Binary<OfServer>>,
) -> Result<RawJson, MatrixError> {
    api.gate.acquire().await.unwrap().forget();
    RawJson::of(&body.len())
}

fn table() -> Table<Open> {
    Table::default()
        .serve(of_server)
        .serve(upload)
        .serve(text)
        .serve(binary)
        .serve_as(Kind::Spent, spent)
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).body(body.into()).unwrap()
}

#[tokio::test]
async fn an_upload_is_streamed() {
    let (api, router) = open(table());
    let request = Request::post("/upload/a%20cat").header(header::CONTENT_TYPE, "image/png");
    let answer = ask(&router, request.body(pieces(300)).unwrap()).await;
    let told = json_of(answer).await;
    assert_eq!(told["size"], 300 << 10);
    assert_eq!(told["piece"], 1 << 10, "nobody has put it together");
    assert_eq!(
        (&told["name"], &told["type"]),
        (&json!("a cat"), &json!("image/png"))
    );
    assert_eq!(api.done(), 1);
    let whole = json_of(ask(&router, post("/upload/x", vec![0; 9])).await).await;
    assert_eq!(whole["announced"], 9);
}

/// One that tells its size is refused at once, any other where it is too large.
#[tokio::test]
async fn an_upload_is_cut_at_its_bound() {
    let (api, router) = open(table());
    let just = ask(&router, post("/upload/x", pieces(MOST >> 10))).await;
    assert_eq!(just.status(), 200);
    let more = ask(&router, post("/upload/x", pieces((MOST >> 10) + 1))).await;
    assert_eq!(error_of(more).await, (413, "M_TOO_LARGE".into()));
    let told = ask(&router, post("/upload/x", vec![0; MOST + 1])).await;
    assert_eq!(error_of(told).await, (413, "M_TOO_LARGE".into()));
    assert_eq!(api.done(), 1, "what was cut is not done");
}

#[tokio::test]
async fn text_is_checked_and_binary_is_not() {
    let (_, router) = open(table());
    let said = json_of(ask(&router, post("/text", "{\"a\":1}")).await).await;
    assert_eq!(said, json!({ "said": { "a": 1 }, "size": 7 }));
    let nothing = json_of(ask(&router, post("/text", "")).await).await;
    assert_eq!(nothing["said"], json!({}));
    for wrong in [&b"{"[..], b"{\"a\":\"\xff\"}"] {
        let answer = ask(&router, post("/text", wrong)).await;
        assert_eq!(error_of(answer).await, (400, "M_NOT_JSON".into()));
    }
    let put = Request::put("/binary")
        .body(Body::from(&b"\xff\x00"[..]))
        .unwrap();
    assert_eq!(json_of(ask(&router, put).await).await, json!([255, 0]));
    let put = Request::put("/binary").body(Body::empty()).unwrap();
    assert_eq!(json_of(ask(&router, put).await).await, json!([]));
    let answer = ask(&router, post("/text", pieces((MOST >> 10) + 1))).await;
    assert_eq!(error_of(answer).await.0, 413);
}

/// Whoever serves the router may have bounds of its own.
#[tokio::test]
async fn who_ends_a_body_says_why() {
    let (_, router) = open(table());
    let ended = |error: axum::BoxError| {
        let some = pieces(1).into_data_stream().map_err(axum::BoxError::from);
        Body::from_stream(some.chain(stream::once(async move { Err(error) })))
    };
    for path in ["/text", "/upload/x"] {
        let gone = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let endings: [(axum::BoxError, _); 3] = [
            (CutShort::TooLarge.into(), (413, "M_TOO_LARGE")),
            (CutShort::TooSlow.into(), (408, "M_UNKNOWN")),
            (gone.into(), (400, "M_NOT_JSON")),
        ];
        for (error, (status, code)) in endings {
            let answer = ask(&router, post(path, ended(error))).await;
            assert_eq!(error_of(answer).await, (status, code.into()));
        }
    }
}

/// What the head says is enough to refuse: nobody reads on.
#[tokio::test]
async fn a_limit_is_judged_before_the_body_comes() {
    let (_, router) = open(table());
    let request = Request::put("/spent").body(stalled(0)).unwrap();
    let answer = poll_immediate(ask(&router, request)).await.unwrap();
    assert_eq!(error_of(answer).await, (429, "M_LIMIT_EXCEEDED".into()));
}

/// Memory is taken by bytes that are there, and by those of one address as long as they wait.
#[tokio::test]
async fn who_sends_nothing_takes_no_memory() {
    let (api, router) = open(table());
    let one = [192, 0, 2, 1];
    let put = |peer, body| from(peer, Request::put("/binary")).body(body).unwrap();
    let announced = from(one, Request::put("/binary")).header(header::CONTENT_LENGTH, MOST);
    let mut idle = Box::pin(ask(&router, announced.body(stalled(0)).unwrap()));
    let mut large = Box::pin(ask(&router, put(one, stalled(OF_ONE >> 10))));
    for waiting in [&mut idle, &mut large] {
        assert!(matches!(poll!(waiting), Poll::Pending));
    }
    assert_eq!(api.bodies.held(), OF_ONE);
    // Small ones need no reservation.
    let small = ask(&router, put(one, pieces(64))).await;
    assert_eq!(small.status(), 200);
    let refused = ask(&router, put(one, pieces(65))).await;
    assert_eq!(error_of(refused).await, (429, "M_LIMIT_EXCEEDED".into()));
    let other = ask(&router, put([192, 0, 2, 2], pieces(65))).await;
    assert_eq!(other.status(), 200);
    drop(large);
    assert_eq!(ask(&router, put(one, pieces(65))).await.status(), 200);
    assert_eq!(api.bodies.held(), 0);
}

/// What is made of a server's text is larger than it is, and in memory until the answer: one server has one share of that,
/// however many addresses it sends from.
#[tokio::test]
async fn what_a_server_sends_takes_memory_until_it_is_answered() {
    let (api, router) = open(table());
    let put = |peer: u8, size: usize| {
        let request = from([192, 0, 2, peer], Request::put("/of_server"));
        request.header("says", "server").body(pieces(size)).unwrap()
    };
    let mut waits = Box::pin(ask(&router, put(1, 100)));
    assert!(matches!(poll!(&mut waits), Poll::Pending));
    assert_eq!(api.bodies.held(), 3 * (100 << 10));
    let refused = ask(&router, put(2, 300)).await;
    assert_eq!(error_of(refused).await, (429, "M_LIMIT_EXCEEDED".into()));
    assert_eq!(api.bodies.held(), 3 * (100 << 10));
    api.gate.add_permits(1);
    assert_eq!(waits.await.status(), 200);
    assert_eq!(api.bodies.held(), 0);
}
