//! From a socket to a handler: what a listener serves, limits against slow and greedy peers, the
//! request's span.

mod body;
mod peers;
mod socket;
mod version;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::config::{Api, Http};
use crate::metrics::Requests;

use self::body::Guarded;
pub(crate) use self::peers::Peers;
use self::peers::{is_in, real_peer};
use self::socket::Held;
use self::version::{Begun, Version};

/// All endpoints of the server.
#[derive(Clone)]
pub(crate) struct Routers {
    /// Client API, administration and `.well-known`.
    pub(crate) client: Router,
    /// Server-server API.
    pub(crate) federation: Router,
}

impl Routers {
    /// The routers with the request's span, and panics caught. `requests`: by what they are counted, if they are.
    pub(crate) fn new(client: Router, federation: Router, requests: Option<Arc<Requests>>) -> Self {
        let observe = axum::middleware::from_fn_with_state(requests, observe);
        let wrap = |router: Router| router.layer(observe.clone());
        Self {
            client: wrap(client),
            federation: wrap(federation),
        }
    }
}

/// What a listener's connections share.
pub(crate) struct Serving {
    pub(crate) routers: Routers,
    pub(crate) apis: Vec<Api>,
    pub(crate) limits: Http,
    /// Files may be larger than other bodies, and take longer.
    pub(crate) largest_upload: u64,
    pub(crate) tls: Option<TlsAcceptor>,
    /// Stop accepting; finish what is under way.
    pub(crate) stop: CancellationToken,
    /// Drop what is still under way.
    pub(crate) kill: CancellationToken,
    pub(crate) connections: TaskTracker,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) peers: Arc<Peers>,
}

/// Accepts connections until the server stops.
pub(crate) async fn accept(listener: Arc<TcpListener>, serving: Arc<Serving>) {
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = async {
                let slot = serving.slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(slot), Ok((stream, peer))) => {
                let proxies = &serving.limits.trusted_proxies;
                let place = if is_in(proxies, peer.ip()) {
                    None
                } else {
                    let limit = serving.limits.max_connections_per_address;
                    let Some(place) = serving.peers.enter(peer.ip(), limit) else {
                        tracing::debug!(%peer, "too many connections from one address");
                        continue;
                    };
                    Some(place)
                };
                let serving = serving.clone();
                let token = serving.connections.token();
                let patience = serving.limits.body_timeout.0;
                let held = Held::new(stream, patience, slot, place, token);
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving.kill.cancelled() => {}
                        () = connection(held, peer, &serving) => {}
                    }
                });
            }
            (_, Err(error)) => {
                // Out of file descriptors, or the peer was gone already: others may still come.
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (Err(_), _) => return,
        }
    }
}

async fn connection(stream: Held, peer: SocketAddr, serving: &Arc<Serving>) {
    let Some(tls) = &serving.tls else {
        return serve(stream, peer, serving).await;
    };
    let handshake = tokio::time::timeout(serving.limits.header_timeout.0, tls.accept(stream));
    // Boxed: a connection in the clear needn't hold the room that this takes.
    let encrypted = async move {
        match handshake.await {
            Ok(Ok(stream)) => serve(stream, peer, serving).await,
            Ok(Err(error)) => tracing::debug!(%peer, "TLS handshake failed: {error}"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    };
    Box::pin(encrypted).await;
}

async fn serve<S>(stream: S, peer: SocketAddr, serving: &Arc<Serving>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = serving.limits.header_timeout.0;
    let begun = tokio::time::Instant::now();
    let first = tokio::time::timeout(patience, Begun::read(stream));
    let Some(Ok(Ok((version, stream)))) = serving.stop.run_until_cancelled(first).await else {
        return;
    };
    let heard = Arc::new(AtomicBool::new(false));
    let service = {
        let (serving, heard) = (serving.clone(), heard.clone());
        service_fn(move |request| {
            heard.store(true, Ordering::Relaxed);
            handle(request, peer, serving.clone()).map(Ok::<_, std::convert::Infallible>)
        })
    };
    let stream = TokioIo::new(stream);
    let ended = match version {
        Version::One => {
            let connection = http1(patience).serve_connection(stream, service);
            let connection = connection.with_upgrades();
            until_stopped(
                connection,
                http1::UpgradeableConnection::graceful_shutdown,
                serving,
            )
            .await
        }
        // Boxed: most connections needn't hold the room that this takes.
        Version::Two => {
            Box::pin(async {
                let connection = http2().serve_connection(stream, service);
                let served =
                    until_stopped(connection, http2::Connection::graceful_shutdown, serving);
                tokio::pin!(served);
                tokio::select! {
                    ended = &mut served => return ended,
                    () = tokio::time::sleep_until(begun + patience) => {}
                }
                // hyper waits without limit for the first request.
                if heard.load(Ordering::Relaxed) {
                    served.await
                } else {
                    Ok(())
                }
            })
            .await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%peer, "connection ended: {error}");
    }
}

fn http1(patience: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(128 * 1024)
        .half_close(false);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Serves a connection, which ends with what is under way once the listener stops.
async fn until_stopped<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    end: impl Fn(Pin<&mut C>),
    serving: &Serving,
) -> hyper::Result<()> {
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = serving.stop.cancelled() => {}
    }
    end(connection.as_mut());
    connection.await
}

/// One request: is it served here, is it too large, who asks; then the router.
async fn handle(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    serving: Arc<Serving>,
) -> Response {
    let path = request.uri().path();
    if path == "/health" {
        return axum::Json(serde_json::json!({ "status": "ok" })).into_response();
    }
    let api = api_of(path);
    if api.is_some_and(|api| !serving.apis.contains(&api)) {
        return refuse(
            StatusCode::NOT_FOUND,
            "M_UNRECOGNIZED",
            "This address doesn't serve that API",
        );
    }
    let (is_file, time) = (is_upload(path), serving.limits.body_timeout.0);
    let limit = if is_file {
        serving.largest_upload
    } else {
        serving.limits.max_request_size.0
    };
    if request.body().size_hint().lower() > limit {
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "M_TOO_LARGE",
            "The request is too large",
        );
    }
    let peer = real_peer(peer, request.headers(), &serving.limits.trusted_proxies);
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(ConnectInfo(peer));
    let body = if body.is_end_stream() {
        Body::empty()
    } else if is_file {
        Body::new(Guarded::of_file(body, limit, time))
    } else {
        Body::new(Guarded::new(body, limit, time))
    };
    let router = match api {
        Some(Api::Federation) => serving.routers.federation.clone(),
        _ => serving.routers.client.clone(),
    };
    match tower::ServiceExt::oneshot(router, Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Whether a file is uploaded there.
fn is_upload(path: &str) -> bool {
    (path.starts_with("/_matrix/media/") && path.contains("/upload"))
        || path.starts_with("/_matrix/client/unstable/org.rhizome.upload/")
}

/// Which API a path belongs to; `None` is answered everywhere (with 404).
fn api_of(path: &str) -> Option<Api> {
    if let Some(rest) = path.strip_prefix("/_matrix/") {
        let federation = rest.starts_with("federation/") || rest.starts_with("key/");
        return Some(if federation {
            Api::Federation
        } else {
            Api::Client
        });
    }
    if path.starts_with("/_synapse/") {
        return Some(Api::Admin);
    }
    if path == "/" {
        // The page for people.
        return Some(Api::Client);
    }
    path.starts_with("/.well-known/").then_some(Api::WellKnown)
}

fn refuse(status: StatusCode, errcode: &str, error: &str) -> Response {
    let body = serde_json::json!({ "errcode": errcode, "error": error }).to_string();
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (status, headers, body).into_response()
}

/// Gives the request a span and its outcome a line; turns a panic into a 500.
///
/// The path is the route, without what was filled in, and the query is left out: neither tokens nor
/// room contents reach the log.
async fn observe(
    State(requests): State<Option<Arc<Requests>>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let method = request.method().clone();
    let span = tracing::info_span!("request", %method, path);
    let answer = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind();
    async {
        let response = answer.await.unwrap_or_else(|_| {
            tracing::error!("the handler panicked");
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "M_UNKNOWN",
                "Internal server error",
            )
        });
        let status = response.status().as_u16();
        if let Some(requests) = &requests {
            let route = route.as_ref().map(MatchedPath::as_str);
            requests.answered(route, &method, status, started.elapsed());
        }
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if status >= 500 && status != 503 {
            tracing::warn!(target: "rhizome::access", status, ms, "answered");
        } else {
            tracing::debug!(target: "rhizome::access", status, ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_uploaded_there() {
        for path in [
            "/_matrix/media/v3/upload",
            "/_matrix/media/r0/upload",
            "/_matrix/media/v3/upload/a.org/abc",
            "/_matrix/client/unstable/org.rhizome.upload/abc",
        ] {
            assert!(is_upload(path), "{path}");
        }
        for path in ["/_matrix/media/v1/create", "/_matrix/client/v3/upload", "/"] {
            assert!(!is_upload(path), "{path}");
        }
    }

    #[test]
    fn paths_belong_to_apis() {
        for (path, api) in [
            ("/_matrix/client/v3/sync", Some(Api::Client)),
            ("/_matrix/media/v3/upload", Some(Api::Client)),
            ("/_matrix/federation/v1/send/1", Some(Api::Federation)),
            ("/_matrix/key/v2/server", Some(Api::Federation)),
            ("/_matrix/federationx", Some(Api::Client)),
            ("/_synapse/admin/v1/register", Some(Api::Admin)),
            ("/.well-known/matrix/server", Some(Api::WellKnown)),
            ("/", Some(Api::Client)),
            ("/index.html", None),
        ] {
            assert_eq!(api_of(path), api, "{path}");
        }
    }
}
