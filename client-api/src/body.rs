//! Request types of our own in the form of ruma's: where ruma has none, or where we decode the body
//! ourselves.

use std::marker::PhantomData;

use ruma::api::{IncomingRequest, Metadata, error::DeserializationError};
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
        let bytes: &[u8] = if request.body().is_empty() { b"{}" } else { request.body() };
        Ok(Self { body: serde_json::from_slice(bytes)?, endpoint: PhantomData })
    }
}
