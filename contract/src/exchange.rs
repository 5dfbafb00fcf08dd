//! One request with its answer.

use bytes::Bytes;
use http::HeaderMap;

use crate::schema::Fault;

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body, where the server read all of it.
    pub sent: Option<Bytes>,
    /// The answer's status.
    pub status: u16,
    /// The answer's body; nothing where it is too large to be looked at.
    pub answer: Option<Bytes>,
}

/// A fault in a place that needs no pointer.
pub fn fault(place: &str, what: &str) -> Fault {
    Fault {
        place: place.to_owned(),
        what: what.to_owned(),
    }
}
