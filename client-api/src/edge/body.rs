//! Request types of our own in the form of ruma's: where ruma has none, or where we decode the body
//! ourselves.

use std::marker::PhantomData;

use rhizome_federation::{MatrixError, edge::ruma::bad_request};
use ruma::api::{IncomingRequest, IncomingRequestExt as _, Metadata, error::DeserializationError};
use serde::de::DeserializeOwned;

/// The endpoint of `T` with a body (a JSON object; nothing counts as `{}`) of type `B`. Path and
/// query are not decoded.
pub struct Body<T, B> {
    /// The decoded body.
    pub body: B,
    endpoint: PhantomData<fn() -> T>,
}

impl<T: Metadata, B> Metadata for Body<T, B> {
    const METHOD: http::Method = T::METHOD;
    const RATE_LIMITED: bool = T::RATE_LIMITED;
    type Authentication = T::Authentication;
    type PathBuilder = T::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
}

impl<T: IncomingRequest, B: DeserializeOwned> IncomingRequest for Body<T, B> {
    type EndpointError = T::EndpointError;
    type OutgoingResponse = T::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        _: &[&str],
    ) -> Result<Self, DeserializationError> {
        let bytes: &[u8] = if request.body().is_empty() {
            b"{}"
        } else {
            request.body()
        };
        Ok(Self {
            body: serde_json::from_slice(bytes)?,
            endpoint: PhantomData,
        })
    }
}

/// The endpoint of `T`, undecoded: for the hot endpoints, whose body is parsed once, by ourselves.
pub struct Undecoded<T> {
    /// The variable parts of the path, percent-decoded. There are as many as `T`'s path has, but for
    /// an absent state key.
    pub path: Vec<String>,
    /// The query.
    pub query: Option<String>,
    endpoint: PhantomData<fn() -> T>,
}

impl<T> Undecoded<T> {
    /// The part of the path with this index; empty if it is absent.
    pub fn part(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }
}

impl<T: IncomingRequest> Undecoded<T> {
    /// Decodes a request that has no body.
    pub fn decode(&self) -> Result<T, MatrixError> {
        let query = self.query.as_deref().unwrap_or_default();
        let request = http::Request::builder()
            .method(T::METHOD)
            .uri(format!("/?{query}"))
            .body(&[][..])
            .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        T::try_from_http_request(request, &path).map_err(|error| bad_request(&error))
    }
}

impl<T: Metadata> Metadata for Undecoded<T> {
    const METHOD: http::Method = T::METHOD;
    const RATE_LIMITED: bool = T::RATE_LIMITED;
    type Authentication = T::Authentication;
    type PathBuilder = T::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
}

impl<T: IncomingRequest> IncomingRequest for Undecoded<T> {
    type EndpointError = T::EndpointError;
    type OutgoingResponse = T::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self {
            path: path_args.iter().map(|&part| part.to_owned()).collect(),
            query: request.uri().query().map(str::to_owned),
            endpoint: PhantomData,
        })
    }
}
