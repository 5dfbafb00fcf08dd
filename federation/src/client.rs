//! Outbound requests: one server is asked one thing.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use http::{Method, StatusCode};
use ruma::{
    ServerName,
    api::{IncomingResponse, OutgoingRequest, path_builder::PathBuilder},
};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::MatrixError;

/// Requests to other servers: discovery, X-Matrix, egress rules and limits in one place. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    inner: Arc<Inner>,
}

struct Inner {}

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
            max_body: 8 << 20,
        }
    }
}

/// Why a request to another server has no answer.
#[derive(Debug, Clone, Error)]
pub enum OutboundError {
    /// The name doesn't resolve to anything we may connect to.
    #[error("can't find server: {0}")]
    Discovery(String),
    /// Connecting, TLS or the transfer failed, or took too long.
    #[error("can't reach server: {0}")]
    Transport(String),
    /// The server refused.
    #[error("the server answered {0}")]
    Remote(MatrixError),
    /// The answer isn't what the specification says, or too large.
    #[error("the server's answer is unusable: {0}")]
    Answer(String),
    /// The request couldn't be made: a bug here.
    #[error("the request couldn't be encoded: {0}")]
    Request(String),
}

impl OutboundError {
    /// The status that the other server answered with, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Remote(error) => Some(error.status),
            _ => None,
        }
    }
}

impl Outbound {
    /// The client of a server.
    pub fn new(
        _rooms: &crate::pending::Rooms,
        _config: &crate::FederationConfig,
    ) -> Result<Self, crate::config::ConfigError> {
        unimplemented!()
    }

    /// Sends a request of a ruma type and decodes the answer.
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
    pub async fn send_limited<R>(
        &self,
        _destination: &ServerName,
        _request: R,
        _limits: Limits,
    ) -> Result<R::IncomingResponse, OutboundError>
    where
        R: OutgoingRequest,
        R::IncomingResponse: IncomingResponse,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        unimplemented!()
    }

    /// A signed request whose body and answer are JSON text: for large or room-version dependent
    /// bodies that our own core parses. `path_and_query` is percent-encoded.
    pub async fn call(
        &self,
        _destination: &ServerName,
        _method: Method,
        _path_and_query: &str,
        _body: Option<&RawValue>,
        _limits: Limits,
    ) -> Result<Bytes, OutboundError> {
        unimplemented!()
    }
}
