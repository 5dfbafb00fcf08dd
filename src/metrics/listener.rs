//! The listener of metrics, apart from those for clients and servers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::sheet::CONTENT_TYPE;

/// So many may look at once.
const MOST_CONNECTIONS: usize = 16;
/// How long a connection may say nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// Accepts connections until `stop`.
pub(crate) async fn accept(
    listener: Arc<TcpListener>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = stop.run_until_cancelled(async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        });
        match accepted.await {
            None | Some((Err(_), _)) => return,
            Some((Ok(slot), Ok((stream, _)))) => {
                let (metrics, stop) = (metrics.clone(), stop.clone());
                tokio::spawn(async move {
                    stop.run_until_cancelled(serve(stream, metrics)).await;
                    drop(slot);
                });
            }
            Some((Ok(_), Err(error))) => {
                tracing::warn!("a connection for metrics could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let metrics = metrics.clone();
        async move {
            let answer = answer(&metrics, request.method(), request.uri().path()).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::trace!("a connection for metrics ended: {error}");
    }
}

async fn answer(metrics: &Metrics, method: &Method, path: &str) -> Response {
    if path != "/metrics" {
        return (StatusCode::NOT_FOUND, "metrics are at /metrics\n").into_response();
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD")],
        )
            .into_response();
    }
    match metrics.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be told");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
