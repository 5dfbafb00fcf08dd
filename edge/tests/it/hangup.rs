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
        while !api.unfinished.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(api.done(), done);
    }
}
