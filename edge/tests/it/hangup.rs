//! Clients that hang up.

use std::{sync::atomic::Ordering, task::Poll};

use axum::{body::Body, extract::State};
use futures_util::poll;
use http::{Method, Request};
use rhizome_edge::{MatrixError, RawJson, Ruma, Table, Undecoded};
use ruma::{api::auth_scheme::NoAuthentication, metadata};

use crate::support::{Open, ask, open};

struct Read;
metadata! {
    @for Read,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/thing",
}

struct Write;
metadata! {
    @for Write,
    method: PUT,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/thing",
}

struct Wait;
metadata! {
    @for Wait,
    method: PUT,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/wait",
}

/// Does one thing, waits, and does another.
async fn work(api: Open) -> Result<RawJson, MatrixError> {
    api.done.fetch_add(1, Ordering::SeqCst);
    tokio::task::yield_now().await;
    api.done.fetch_add(1, Ordering::SeqCst);
    Ok(RawJson::from_text("{}"))
}

async fn read(State(api): State<Open>, _: Ruma<Undecoded<Read>>) -> Result<RawJson, MatrixError> {
    work(api).await
}

async fn write(State(api): State<Open>, _: Ruma<Undecoded<Write>>) -> Result<RawJson, MatrixError> {
    work(api).await
}

/// Does one thing, and another when it may.
async fn wait(State(api): State<Open>, _: Ruma<Undecoded<Wait>>) -> Result<RawJson, MatrixError> {
    api.done.fetch_add(1, Ordering::SeqCst);
    api.gate.acquire().await.unwrap().forget();
    api.done.fetch_add(1, Ordering::SeqCst);
    Ok(RawJson::from_text("{}"))
}

async fn all_finished(api: &Open) {
    while !api.unfinished.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_began_to_write_is_finished() {
    for (method, done) in [(Method::PUT, 2), (Method::GET, 1)] {
        let (api, router) = open(Table::default().serve(read).serve(write));
        let request = Request::builder().method(method).uri("/thing");
        let mut answer = Box::pin(ask(&router, request.body(Body::empty()).unwrap()));
        assert!(matches!(poll!(&mut answer), Poll::Pending));
        assert_eq!(api.done(), 1);
        assert!(api.unfinished.is_empty(), "no task while somebody waits");
        drop(answer);
        all_finished(&api).await;
        assert_eq!(api.done(), done);
    }
}

/// Who asks and hangs up again and again has so many requests finished at a time; further ones end where they are.
#[tokio::test]
async fn not_everything_is_finished_that_somebody_hung_up_on() {
    const MOST: usize = 1_000;
    const TOO_MANY: usize = 5;
    let (api, router) = open(Table::default().serve(wait));
    let hang_up = async || {
        let request = Request::put("/wait").body(Body::empty()).unwrap();
        let mut answer = Box::pin(ask(&router, request));
        assert!(matches!(poll!(&mut answer), Poll::Pending));
    };
    for _ in 0..MOST + TOO_MANY {
        hang_up().await;
    }
    assert_eq!(api.unfinished.len(), MOST);
    api.gate.add_permits(MOST);
    all_finished(&api).await;
    assert_eq!(api.done(), MOST + TOO_MANY + MOST);
    // Then there is room again.
    hang_up().await;
    assert_eq!(api.unfinished.len(), 1);
    api.gate.add_permits(1);
    all_finished(&api).await;
    assert_eq!(api.done(), 2 * MOST + TOO_MANY + 2);
}
