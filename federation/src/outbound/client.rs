//! Outbound requests: one server is asked one thing.
//!
//! [`Outbound`] signs a request (X-Matrix), finds the server (discovery), connects where the egress
//! rules allow it, and reads an answer of bounded size in bounded time. It never follows redirects.

mod open;
#[cfg(test)]
mod tests;
mod web;

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, header};
use rhizome_protocol::sign::KeyPair;
use rhizome_storage::Store;
use ruma::{
    OwnedServerName, ServerName,
    api::{IncomingResponse, IncomingResponseExt as _, OutgoingRequest, path_builder::PathBuilder},
};
use serde_json::value::RawValue;

use crate::{
    FederationConfig,
    config::ConfigError,
    outbound::{
        answer::{self, Budgets, Pieces, Shape},
        connect::Connections,
        encode::{self, canonical_body, encode_canonical},
        error::{OutboundError, cause},
        refusal,
    },
    servers::ServerRules,
    xmatrix::Signed,
};

/// Requests to other servers: discovery, X-Matrix, egress rules and limits in one place. Cheap to
/// clone.
#[derive(Clone)]
pub struct Outbound {
    inner: Arc<Inner>,
}

struct Inner {
    server_name: OwnedServerName,
    key: KeyPair,
    timeout: Duration,
    transport: Transport,
    budgets: Budgets,
    /// Whom the configuration lets us ask.
    servers: ServerRules,
    /// Says whom the operator keeps out.
    store: OnceLock<Store>,
}

enum Transport {
    Network(Connections),
    #[cfg(any(test, feature = "testing"))]
    InProcess(crate::testing::Network, super::web::Web),
}

/// The limits of one call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From start to the last byte of the answer, discovery included. `None`: the configured one.
    pub timeout: Option<Duration>,
    /// The most bytes of the answer's body.
    pub max_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: None,
            max_body: 2 << 20,
        }
    }
}

impl Outbound {
    /// The client of a server with this name and key.
    ///
    /// # Errors
    /// The configuration can't be used.
    pub fn new(
        server_name: OwnedServerName,
        key: KeyPair,
        config: &FederationConfig,
    ) -> Result<Self, ConfigError> {
        let transport = Transport::Network(Connections::new(config)?);
        Ok(Self::over(server_name, key, config, transport))
    }

    /// A client that reaches the servers of an in-process network.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_process(
        server_name: OwnedServerName,
        key: KeyPair,
        config: &FederationConfig,
        network: crate::testing::Network,
    ) -> Self {
        let web = super::web::Web::in_process(config, network.clone());
        Self::over(server_name, key, config, Transport::InProcess(network, web))
    }

    fn over(
        server_name: OwnedServerName,
        key: KeyPair,
        config: &FederationConfig,
        transport: Transport,
    ) -> Self {
        let inner = Inner {
            server_name,
            key,
            timeout: config.request_timeout,
            transport,
            budgets: Budgets::default(),
            servers: config.servers.clone(),
            store: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Sends a request of a ruma type and decodes the answer.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn send<R>(
        &self,
        destination: &ServerName,
        request: R,
    ) -> Result<R::IncomingResponse, OutboundError>
    where
        R: OutgoingRequest,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        self.send_limited(destination, request, Limits::default())
            .await
    }

    /// [`Outbound::send`] with limits of its own.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn send_limited<R>(
        &self,
        destination: &ServerName,
        request: R,
        limits: Limits,
    ) -> Result<R::IncomingResponse, OutboundError>
    where
        R: OutgoingRequest,
        R::IncomingResponse: IncomingResponse,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let (method, target, body) = encode_canonical(request)?;
        let answer = self
            .exchange(destination, method, &target, body, limits)
            .await?;
        let mut borrowed = Response::new(answer.body().as_ref());
        *borrowed.status_mut() = answer.status();
        *borrowed.headers_mut() = answer.headers().clone();
        R::IncomingResponse::try_from_http_response(borrowed)
            .map_err(|_| OutboundError::Answer("it isn't of the specified form".to_owned()))
    }

    /// Sends a request of a ruma type and cuts the answer, which may be large, into its events or ids.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub(crate) async fn pieces<R>(
        &self,
        destination: &ServerName,
        request: R,
        shape: &'static Shape,
    ) -> Result<Pieces, OutboundError>
    where
        R: OutgoingRequest,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let (method, target, body) = encode_canonical(request)?;
        self.call_for_pieces(destination, method, &target, body, shape, None)
            .await
    }

    /// [`Outbound::call_canonical`] with an answer that is cut as by [`Outbound::pieces`].
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub(crate) async fn call_for_pieces(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<String>,
        shape: &'static Shape,
        timeout: Option<Duration>,
    ) -> Result<Pieces, OutboundError> {
        self.within(timeout, async {
            let answer = self.open(destination, method, target, body).await?;
            let body = answer.into_body();
            answer::read(body, shape, destination, &self.inner.budgets).await
        })
        .await
    }

    /// A signed request whose body and answer are JSON text: for large or room-version dependent
    /// bodies that our own core parses. `target` is the percent-encoded path and query.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn call(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<&RawValue>,
        limits: Limits,
    ) -> Result<Bytes, OutboundError> {
        let body = body
            .map(|body| canonical_body(body.get().as_bytes()))
            .transpose()?;
        self.call_canonical(destination, method, target, body, limits)
            .await
    }

    /// [`Outbound::call`] with a body that is canonical JSON already.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub async fn call_canonical(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<String>,
        limits: Limits,
    ) -> Result<Bytes, OutboundError> {
        Ok(self
            .exchange(destination, method, target, body, limits)
            .await?
            .into_body())
    }

    /// One exchange within the limits.
    async fn exchange(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<String>,
        limits: Limits,
    ) -> Result<Response<Bytes>, OutboundError> {
        self.within(limits.timeout, async {
            let response = self.open(destination, method, target, body).await?;
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(body, limits.max_body)
                .await
                .map_err(|error| OutboundError::Answer(cause(&error)))?;
            Ok(Response::from_parts(parts, body))
        })
        .await
    }

    async fn within<T>(
        &self,
        timeout: Option<Duration>,
        exchange: impl Future<Output = Result<T, OutboundError>>,
    ) -> Result<T, OutboundError> {
        let time = timeout.unwrap_or(self.inner.timeout);
        let exchanged = tokio::time::timeout(time, exchange).await;
        exchanged.map_err(|_| OutboundError::Timeout)?
    }

    /// A signed GET up to the answer's body, which is the caller's to bound.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub(crate) async fn get(
        &self,
        destination: &ServerName,
        target: &str,
        timeout: Duration,
    ) -> Result<Response<Body>, OutboundError> {
        self.within(
            Some(timeout),
            self.open(destination, Method::GET, target, None),
        )
        .await
    }

    /// [`Outbound::get`] of what is for everybody: unsigned, and the answer may be a redirect.
    ///
    /// # Errors
    /// See [`OutboundError`].
    pub(crate) async fn get_unsigned(
        &self,
        destination: &ServerName,
        target: &str,
        timeout: Duration,
    ) -> Result<Response<Body>, OutboundError> {
        let request = Request::get(encode::as_urls_spell(target))
            .body(None)
            .map_err(|error| OutboundError::Request(error.to_string()))?;
        self.within(Some(timeout), self.answer(destination, request))
            .await
    }

    /// An exchange up to the answer's body. An answer of status 300 or more is an error.
    async fn open(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<String>,
    ) -> Result<Response<Body>, OutboundError> {
        let request = self.request(destination, method, target, body)?;
        let response = self.answer(destination, request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        Err(OutboundError::Answer(format!("its status is {status}")))
    }

    /// The answer up to its body. One of status 400 or more is an error.
    async fn answer(
        &self,
        destination: &ServerName,
        request: Request<Option<String>>,
    ) -> Result<Response<Body>, OutboundError> {
        // A policy server may have our name and stand beside us.
        let is_beside = request.uri().path().starts_with("/_matrix/policy/");
        if destination == self.inner.server_name && !is_beside {
            return Err(OutboundError::Request(
                "a server doesn't ask itself".to_owned(),
            ));
        }
        self.require_open(destination, request.uri().path()).await?;
        let response = self.transport(destination, request).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let (parts, body) = response.into_parts();
            // One that is too long has said enough by its status.
            let body = axum::body::to_bytes(body, answer::REFUSAL).await;
            let error = refusal::read(status, &parts.headers, &body.unwrap_or_default());
            return Err(OutboundError::Remote(error));
        }
        Ok(response)
    }

    /// A signed request; its URI is the target alone.
    fn request(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<String>,
    ) -> Result<Request<Option<String>>, OutboundError> {
        let target = encode::as_urls_spell(target);
        let signed = Signed::canonical(method.as_str(), &target, body);
        let authorization = signed.header(&self.inner.server_name, destination, &self.inner.key);
        let body = signed.into_content();
        let mut builder = Request::builder()
            .method(method)
            .uri(target)
            .header(header::AUTHORIZATION, authorization);
        if body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        builder
            .body(body)
            .map_err(|error| OutboundError::Request(error.to_string()))
    }

    async fn transport(
        &self,
        destination: &ServerName,
        request: Request<Option<String>>,
    ) -> Result<Response<Body>, OutboundError> {
        match &self.inner.transport {
            Transport::Network(connections) => connections.send(destination, request).await,
            #[cfg(any(test, feature = "testing"))]
            Transport::InProcess(network, _) => network
                .deliver(
                    Some(&self.inner.server_name),
                    destination,
                    request.map(|body| body.map_or_else(Body::empty, Body::from)),
                )
                .await
                .map_err(OutboundError::Transport),
        }
    }
}
