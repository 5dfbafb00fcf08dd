//! From HTTP to a handler and back: one table of endpoints, one dispatcher.
//!
//! Everything that doesn't depend on the type of the request happens here once: finding the
//! endpoint, reading the body within its limits, authentication, rate limits, CORS. What is
//! generic (decoding, the handler, encoding) is one boxed closure per endpoint, which keeps the
//! crate quick to compile.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rhizome_federation::{MatrixError, Reply};
use ruma::api::{IncomingRequest, path_builder::PathBuilder as _};

use crate::{
    App,
    auth::token::{Needs, authenticate, token_of},
    edge::{
        extract::{Access, Caller, Ruma},
        limits::Kind,
    },
};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// A request that has been read and authenticated, but not decoded.
pub struct Raw {
    /// Method, address, headers and the whole body.
    pub request: http::Request<Bytes>,
    /// The variable parts of the path, percent-decoded.
    pub path_args: Vec<String>,
    /// Whose access token it came with.
    pub caller: Option<Caller>,
    /// Where it came from.
    pub peer: IpAddr,
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

struct Endpoint {
    needs: Needs,
    kind: Kind,
    run: Box<dyn Fn(App, Raw) -> Answer + Send + Sync>,
}

/// The endpoints by path and method.
#[derive(Default)]
pub struct Table {
    paths: BTreeMap<String, BTreeMap<&'static str, Arc<Endpoint>>>,
}

impl Table {
    /// Adds `handler` at the method and all paths of its request type. Rate-limited as
    /// [`Kind::Other`] when the specification calls it rate-limited.
    #[must_use]
    pub fn serve<T, H, F, R>(self, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Access,
        H: Fn(State<App>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.serve_as(
            if T::RATE_LIMITED {
                Kind::Other
            } else {
                Kind::Free
            },
            handler,
        )
    }

    /// The same, counted as `kind` by the rate limits.
    #[must_use]
    pub fn serve_as<T, H, F, R>(self, kind: Kind, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Access,
        H: Fn(State<App>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.insert(T::Authentication::NEEDS, kind, handler)
    }

    /// An endpoint that may have a token but has no use for it: a stale one does no harm.
    #[must_use]
    pub fn serve_public<T, H, F, R>(self, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Access<Who = Option<Caller>>,
        H: Fn(State<App>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.insert(Needs::Nothing, Kind::Free, handler)
    }

    fn insert<T, H, F, R>(mut self, needs: Needs, kind: Kind, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Access,
        H: Fn(State<App>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        // Decoded before the future is made: a long poll must not hold what it was decoded from.
        let run: Box<dyn Fn(App, Raw) -> Answer + Send + Sync> =
            Box::new(move |app, raw| match Ruma::<T>::decode(raw) {
                Ok(ruma) => {
                    let answer = handler(State(app), ruma);
                    Box::pin(async move {
                        match answer.await {
                            Ok(response) => response.reply(),
                            Err(error) => error.into_response(),
                        }
                    })
                }
                Err(error) => Box::pin(std::future::ready(error.into_response())),
            });
        let endpoint = Arc::new(Endpoint { needs, kind, run });
        for path in T::PATH_BUILDER.all_paths() {
            for path in spellings(path) {
                let methods = self.paths.entry(path).or_default();
                methods.insert(method_name(&T::METHOD), endpoint.clone());
            }
        }
        self
    }

    /// Each path with its methods.
    #[cfg(test)]
    pub(crate) fn methods(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.paths
            .iter()
            .map(|(path, methods)| (path.as_str(), methods.keys().copied().collect()))
    }

    /// The router of all endpoints, with CORS, 404 and 405 as the specification wants them.
    pub fn into_router(self, app: App) -> Router {
        let mut router = Router::new();
        for (path, methods) in self.paths {
            let methods = Arc::new(methods);
            router = router.route(
                &path,
                any(move |State(app): State<App>, request: Request| {
                    dispatch(app, methods, request)
                }),
            );
        }
        router
            .fallback(async |method: Method| match method {
                Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
                _ => MatrixError::unrecognized().into_response(),
            })
            .layer(map_response(async |mut response: Response| {
                allow_cross_origin(response.headers_mut());
                response
            }))
            .with_state(app)
    }
}

/// The paths under which a path of ruma's is served: its variables renamed by position, so that
/// different methods of one path agree; with and without the slash before an empty state key
/// (<https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey>).
fn spellings(path: &str) -> Vec<String> {
    let mut count = 0;
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                count += 1;
                format!("{{p{count}}}")
            } else {
                segment.to_owned()
            }
        })
        .collect();
    let full = segments.join("/");
    match full.strip_suffix("/{p3}") {
        Some(without_key) if path.ends_with("/{state_key}") => {
            vec![without_key.to_owned(), format!("{without_key}/"), full]
        }
        _ => vec![full],
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "?",
    }
}

async fn dispatch(
    app: App,
    methods: Arc<BTreeMap<&'static str, Arc<Endpoint>>>,
    request: Request,
) -> Response {
    if request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let Some(endpoint) = methods.get(method_name(request.method())) else {
        return MatrixError::method_not_allowed().into_response();
    };
    match admit(&app, endpoint, request).await {
        Ok(raw) => {
            let answer = AssertUnwindSafe(async { (endpoint.run)(app, raw).await })
                .catch_unwind()
                .await;
            answer.unwrap_or_else(|_| {
                tracing::error!("an endpoint panicked");
                MatrixError::internal().into_response()
            })
        }
        Err(error) => error.into_response(),
    }
}

/// Authentication and rate limit first, from the head alone; then the body.
async fn admit(app: &App, endpoint: &Endpoint, request: Request) -> Result<Raw, MatrixError> {
    let token = match endpoint.needs {
        Needs::Nothing => None,
        Needs::Token | Needs::TokenIfAny => token_of(&request)?,
    };
    let (mut parts, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let path_args = params.iter().map(|(_, value)| value.to_owned()).collect();
    let peer = peer_of(&parts);
    let caller = match token {
        Some(token) => Some(authenticate(app, &token).await?),
        None if endpoint.needs == Needs::Token => return Err(MatrixError::missing_token()),
        None => None,
    };
    let now = app.now_monotonic_ms();
    match &caller {
        Some(caller) => app.limits.take(endpoint.kind, &caller.user_id, now),
        None => app.limits.take_from(endpoint.kind, peer, now),
    }
    .map_err(MatrixError::limit_exceeded)?;
    let mut body = read_body(body, app.config.max_body_bytes).await?;
    if body.is_empty() && parts.method == Method::POST {
        // Clients leave out a body in which everything is optional.
        body = Bytes::from_static(b"{}");
    }
    if std::str::from_utf8(&body).is_err() {
        return Err(MatrixError::not_json("The request's body is not UTF-8"));
    }
    Ok(Raw {
        request: http::Request::from_parts(parts, body),
        path_args,
        caller,
        peer,
    })
}

async fn read_body(body: axum::body::Body, limit: usize) -> Result<Bytes, MatrixError> {
    let read = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(MatrixError::too_large(format!(
            "The request's body is larger than {limit} bytes"
        ))),
        Ok(Err(_)) => Err(MatrixError::not_json("The request's body couldn't be read")),
        Err(_) => Err(MatrixError::new(
            StatusCode::REQUEST_TIMEOUT,
            "M_UNKNOWN",
            "The request's body took too long to arrive",
        )),
    }
}

/// Whether reading failed because the body was too long. axum hides the type, not the chain.
fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("length limit") {
            return true;
        }
        source = error.source();
    }
    false
}

/// The address a request came from; who serves the router puts it there.
fn peer_of(parts: &http::request::Parts) -> IpAddr {
    let socket = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    socket.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip())
}

/// <https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>
fn allow_cross_origin(headers: &mut HeaderMap) {
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
}
