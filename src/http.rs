//! From a socket to a handler: what a listener serves, limits against slow and greedy peers, the
//! request's span.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

use crate::config::{Api, Http};

/// All endpoints of the server.
#[derive(Clone)]
pub(crate) struct Routers {
    /// Client API, administration and `.well-known`.
    pub(crate) client: Router,
    /// Server-server API.
    pub(crate) federation: Router,
}

impl Routers {
    /// The routers with the request's span, panics caught and the body limit set.
    pub(crate) fn new(client: Router, federation: Router, limits: &Http) -> Self {
        let max = usize::try_from(limits.max_request_size.0).unwrap_or(usize::MAX);
        let wrap = |router: Router| {
            router
                .layer(DefaultBodyLimit::max(max))
                .layer(axum::middleware::from_fn(observe))
        };
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
    pub(crate) tls: Option<TlsAcceptor>,
    /// Stop accepting; finish what is under way.
    pub(crate) stop: CancellationToken,
    /// Drop what is still under way.
    pub(crate) kill: CancellationToken,
    pub(crate) connections: TaskTracker,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) peers: Arc<Peers>,
}

/// How many connections each address holds.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<IpAddr, usize>>);

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of `peer`; `None` when it has `limit` already.
    fn enter(self: &Arc<Self>, peer: IpAddr, limit: usize) -> Option<Place> {
        let block = block_of(peer);
        let mut counts = self.lock();
        let count = counts.entry(block).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Place {
            peers: self.clone(),
            block,
        })
    }
}

/// One counted connection.
struct Place {
    peers: Arc<Peers>,
    block: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.lock();
        if let Some(count) = counts.get_mut(&self.block) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.block);
            }
        }
    }
}

/// What one subscriber usually has: an IPv4 address or an IPv6 /64.
fn block_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
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
                let held = Held {
                    stream,
                    patience: serving.limits.body_timeout.0,
                    stalled: None,
                    _slot: slot,
                    _place: place,
                    _token: serving.connections.token(),
                };
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
    let _ = stream.stream.set_nodelay(true);
    let Some(tls) = &serving.tls else {
        return serve(stream, peer, serving).await;
    };
    let handshake = tokio::time::timeout(serving.limits.header_timeout.0, tls.accept(stream));
    match handshake.await {
        Ok(Ok(stream)) => serve(stream, peer, serving).await,
        Ok(Err(error)) => tracing::debug!(%peer, "TLS handshake failed: {error}"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

/// A peer's socket. However long it lives, also as a WebSocket that has left the HTTP server, it holds
/// its place among the connections and is waited for when the server stops.
struct Held {
    stream: TcpStream,
    /// How long the peer may refuse to take what it is sent.
    patience: Duration,
    /// Made when it does.
    stalled: Option<Pin<Box<Sleep>>>,
    _slot: OwnedSemaphorePermit,
    _place: Option<Place>,
    _token: TaskTrackerToken,
}

impl Held {
    /// Gives up on a peer that doesn't read.
    fn not_forever(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.not_forever(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.not_forever(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, serving: &Arc<Serving>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_timeout = serving.limits.header_timeout.0;
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(128 * 1024)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));

    let heard = Arc::new(AtomicBool::new(false));
    let service = {
        let (serving, heard) = (serving.clone(), heard.clone());
        hyper::service::service_fn(move |request| {
            heard.store(true, Ordering::Relaxed);
            handle(request, peer, serving.clone()).map(Ok::<_, std::convert::Infallible>)
        })
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // hyper waits without limit for the bytes that tell HTTP/1 from HTTP/2.
    let silence = tokio::time::sleep(header_timeout);
    tokio::pin!(silence);
    let (mut waiting, mut draining) = (true, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%peer, "connection ended: {error}");
                }
                return;
            }
            () = serving.stop.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut silence, if waiting => {
                waiting = false;
                if !heard.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
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
    let limit = serving.limits.max_request_size.0;
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
    } else {
        Body::new(Guarded {
            inner: body,
            left: limit,
            time: serving.limits.body_timeout.0,
            deadline: None,
        })
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
    path.starts_with("/.well-known/").then_some(Api::WellKnown)
}

/// The address that a request came from: through trusted proxies, what the nearest one names.
fn real_peer(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> SocketAddr {
    if !is_in(trusted, peer.ip()) {
        return peer;
    }
    let hops = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = hops
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut real = peer;
    for hop in hops.into_iter().rev().take(16) {
        let Ok(address) = hop.parse::<IpAddr>() else {
            break;
        };
        real = SocketAddr::new(address, 0);
        if !is_in(trusted, address) {
            break;
        }
    }
    real
}

fn is_in(ranges: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    ranges.iter().any(|range| range.contains(&address))
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
async fn observe(request: Request, next: Next) -> Response {
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

/// A request's body with a limit on its size and on the time that it takes to arrive.
struct Guarded {
    inner: Incoming,
    left: u64,
    time: Duration,
    /// Made when the body has to be waited for: most come with their headers.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(length) {
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => Poll::Ready(Some(Err("the request is too large".into()))),
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let time = this.time;
                let deadline = this
                    .deadline
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                deadline
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err("the request's body took too long".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("/", None),
        ] {
            assert_eq!(api_of(path), api, "{path}");
        }
    }

    #[test]
    fn an_address_holds_so_many_connections() {
        let peers = Arc::new(Peers::default());
        let enter = |address: &str| peers.enter(address.parse().unwrap(), 2);
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        let (_a, _b) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::3").is_some());
        drop((two, _a, _b));
        assert!(peers.lock().is_empty());
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let trusted: Vec<IpNet> = vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ];
        let ip = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            if !forwarded.is_empty() {
                headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            }
            real_peer(
                SocketAddr::new(peer.parse().unwrap(), 9),
                &headers,
                &trusted,
            )
            .ip()
            .to_string()
        };
        assert_eq!(ip("192.0.2.1", "8.8.8.8"), "192.0.2.1");
        assert_eq!(ip("127.0.0.1", ""), "127.0.0.1");
        assert_eq!(ip("127.0.0.1", "8.8.8.8"), "8.8.8.8");
        assert_eq!(ip("127.0.0.1", "6.6.6.6, 8.8.8.8, 10.0.0.3"), "8.8.8.8");
        assert_eq!(ip("127.0.0.1", "8.8.8.8, rubbish"), "127.0.0.1");
        assert_eq!(ip("::ffff:127.0.0.1", "2001:db8::1"), "2001:db8::1");
    }
}
