//! From HTTP to the request types of `ruma` and back: one extractor, one router helper.
//!
//! A handler names its request type; method, paths, authentication scheme and decoding follow from
//! it. What the caller proved to be (`who`) has the type that the scheme says: asking for an origin
//! on a public endpoint doesn't compile.
//!
//! Both edges use this: here with `S = `[`Federation`] (X-Matrix), in the client API with its own
//! state and an implementation of [`Scheme`] for access tokens.

use std::{future::Future, net::IpAddr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, RawPathParams, Request, State},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use ruma::api::{
    IncomingRequest, IncomingRequestExt as _, Metadata, OutgoingResponse, OutgoingResponseExt as _,
    auth_scheme::{AuthScheme, NoAuthentication},
    error::{DeserializationError, FromHttpRequestError},
    path_builder::PathBuilder as _,
};

use crate::{
    Federation, MatrixError,
    inbound::budgets::{Held, peer_of},
};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// How a server with state `S` finds out who makes a request of an authentication scheme.
pub trait Scheme<S>: AuthScheme {
    /// What the handler gets: the origin server, the user and device, or nothing.
    type Who: Send;
    /// What the head alone says of that.
    type Claim: Send;

    /// Judges the head. Only if this succeeds is the body read.
    fn admit(
        state: &S,
        head: &Parts,
    ) -> impl Future<Output = Result<Self::Claim, MatrixError>> + Send;

    /// Authenticates the request. The whole body is there, as X-Matrix signs it.
    fn identify(
        state: &S,
        claim: Self::Claim,
        request: &http::Request<Bytes>,
    ) -> impl Future<Output = Result<Self::Who, MatrixError>> + Send;
}

/// Who needn't prove anything is an address, if it isn't a part of this process.
impl Scheme<Federation> for NoAuthentication {
    type Who = Option<IpAddr>;
    type Claim = (Option<IpAddr>, Option<Held>);

    async fn admit(fed: &Federation, head: &Parts) -> Result<Self::Claim, MatrixError> {
        let peer = peer_of(head);
        fed.budgets().unsigned(peer)?;
        Ok((peer, fed.budgets().body(head)?))
    }

    async fn identify(
        _: &Federation,
        (peer, _): Self::Claim,
        _: &http::Request<Bytes>,
    ) -> Result<Option<IpAddr>, MatrixError> {
        Ok(peer)
    }
}

/// A decoded and authenticated request, for a router with state `S`.
pub struct Decoded<T, S>
where
    T: Metadata,
    T::Authentication: Scheme<S>,
{
    /// Who makes the request, as its authentication scheme tells.
    pub who: <T::Authentication as Scheme<S>>::Who,
    /// The request.
    pub req: T,
}

/// A decoded federation request; `who` is the origin's server name where the endpoint is signed.
pub type Ruma<T> = Decoded<T, Federation>;

impl<T, S> FromRequest<S> for Decoded<T, S>
where
    T: IncomingRequest + Send,
    T::Authentication: Scheme<S>,
    S: Send + Sync,
{
    type Rejection = MatrixError;

    async fn from_request(request: Request, state: &S) -> Result<Self, MatrixError> {
        let (mut parts, body) = request.into_parts();
        let params = RawPathParams::from_request_parts(&mut parts, state)
            .await
            .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
        let path_args: Vec<String> = params.iter().map(|(_, value)| value.to_owned()).collect();
        let claim = <T::Authentication as Scheme<S>>::admit(state, &parts).await?;
        let whole = Request::from_parts(parts.clone(), body);
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(whole, state))
            .await
            .map_err(|_| {
                MatrixError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "M_UNKNOWN",
                    "The request's body took too long to arrive",
                )
            })?
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    MatrixError::too_large("The request's body is too large")
                }
                _ => MatrixError::not_json("The request's body couldn't be read"),
            })?;
        // The path that was signed is the original one, also inside a nested router.
        if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
            parts.uri = original.0.clone();
        }
        let request = http::Request::from_parts(parts, body);
        let who = <T::Authentication as Scheme<S>>::identify(state, claim, &request).await?;
        let req = decode(&request, &path_args)?;
        Ok(Self { who, req })
    }
}

/// Decodes a request whose body has been read.
pub fn decode<T: IncomingRequest>(
    request: &http::Request<Bytes>,
    path_args: &[String],
) -> Result<T, MatrixError> {
    let mut borrowed = http::Request::new(request.body().as_ref());
    *borrowed.method_mut() = request.method().clone();
    *borrowed.uri_mut() = request.uri().clone();
    *borrowed.headers_mut() = request.headers().clone();
    let args: Vec<&str> = path_args.iter().map(String::as_str).collect();
    T::try_from_http_request(borrowed, &args).map_err(|error| bad_request(&error))
}

/// Says what is wrong with a request that couldn't be decoded.
pub fn bad_request(error: &FromHttpRequestError) -> MatrixError {
    let error = match error {
        FromHttpRequestError::Deserialization(error) => error,
        FromHttpRequestError::MethodMismatch { .. } => return MatrixError::method_not_allowed(),
        other => return MatrixError::bad_json(other.to_string()),
    };
    match error {
        DeserializationError::Utf8(error) => MatrixError::not_json(error.to_string()),
        DeserializationError::Json(error) if error.is_data() => {
            MatrixError::bad_json(error.to_string())
        }
        DeserializationError::Json(error) => MatrixError::not_json(error.to_string()),
        DeserializationError::Query(error) if error.to_string().contains("missing field") => {
            MatrixError::missing_param(error.to_string())
        }
        DeserializationError::Query(_)
        | DeserializationError::Ident(_)
        | DeserializationError::Header(_) => MatrixError::invalid_param(error.to_string()),
        other => MatrixError::bad_json(other.to_string()),
    }
}

/// What a handler may answer with: a response type of ruma, or [`RawJson`].
pub trait Reply {
    /// The HTTP response.
    fn reply(self) -> Response;
}

impl<R: OutgoingResponse> Reply for R {
    fn reply(self) -> Response {
        match self.try_into_http_response::<Vec<u8>>() {
            Ok(response) => response.map(axum::body::Body::from).into_response(),
            Err(error) => {
                tracing::error!(%error, "a response can't be encoded");
                MatrixError::internal().into_response()
            }
        }
    }
}

/// A body of ours: JSON text, sent as it is with status 200.
pub struct RawJson(pub Bytes);

impl RawJson {
    /// JSON text that is there already.
    pub fn from_text(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The JSON of a value.
    pub fn of(value: &impl serde::Serialize) -> Result<Self, MatrixError> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "a response can't be encoded");
            MatrixError::internal()
        })?;
        Ok(Self(bytes.into()))
    }
}

impl Reply for RawJson {
    fn reply(self) -> Response {
        let content_type = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, content_type)], self.0).into_response()
    }
}

/// `Router::ruma_route`: a handler at the method and all paths of its request type.
pub trait RumaRoute<S>: Sized {
    /// Adds `handler`, an `async fn(State<S>, Decoded<T, S>) -> Result<impl Reply, MatrixError>`.
    #[must_use]
    fn ruma_route<T, H, F, R>(self, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Scheme<S>,
        H: Fn(State<S>, Decoded<T, S>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.ruma_route_sized(None, handler)
    }

    /// The same with a limit of its own, in bytes, on the request's body.
    #[must_use]
    fn ruma_route_sized<T, H, F, R>(self, body_limit: Option<usize>, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Scheme<S>,
        H: Fn(State<S>, Decoded<T, S>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static;

    /// Answers unknown paths with 404 and known paths with a wrong method with 405, both
    /// `M_UNRECOGNIZED` (<https://spec.matrix.org/v1.19/server-server-api/#unsupported-endpoints>).
    #[must_use]
    fn unrecognized(self) -> Self;
}

impl<S: Clone + Send + Sync + 'static> RumaRoute<S> for Router<S> {
    fn ruma_route_sized<T, H, F, R>(mut self, body_limit: Option<usize>, handler: H) -> Self
    where
        T: IncomingRequest + Send + 'static,
        T::Authentication: Scheme<S>,
        H: Fn(State<S>, Decoded<T, S>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        // Every method that ruma's endpoints use has a filter.
        let method = MethodFilter::try_from(T::METHOD).unwrap_or(MethodFilter::POST);
        for path in T::PATH_BUILDER.all_paths() {
            let handler = handler.clone();
            let mut route = on(
                method,
                async move |State(state): State<S>, request: Request| {
                    let decoded = match Decoded::<T, S>::from_request(request, &state).await {
                        Ok(decoded) => decoded,
                        Err(error) => return error.into_response(),
                    };
                    match handler(State(state), decoded).await {
                        Ok(response) => response.reply(),
                        Err(error) => error.into_response(),
                    }
                },
            );
            if let Some(limit) = body_limit {
                route = route.layer(DefaultBodyLimit::max(limit));
            }
            self = self.route(path, route);
        }
        self
    }

    fn unrecognized(self) -> Self {
        self.fallback(async || MatrixError::unrecognized())
            .method_not_allowed_fallback(async || MatrixError::method_not_allowed())
    }
}
