//! Requests as they are to be sent, and what comes back.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::detail::Detail;

/// As much of an answer's body as is worth reading, bytes. One that is longer may be cut off there.
pub const ANSWER_BODY: usize = 16 * 1024;
/// How long to wait for an answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A request that is ready to be sent as it is, without following redirects.
#[derive(Clone, PartialEq, Eq)]
pub struct PushRequest {
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// All its headers but those that the connection needs.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// Who said where it goes.
    pub named_by: NamedBy,
    /// How much of the notification it tells.
    pub detail: Detail,
}

/// Who named the address of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// A user, who may mean the machine next to ours: the egress rules apply.
    User,
    /// The operator.
    Operator,
}

impl PushRequest {
    pub(crate) fn json(url: Url, body: Vec<u8>, named_by: NamedBy, detail: Detail) -> Self {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        Self {
            method: Method::POST,
            url,
            headers,
            body,
            named_by,
            detail,
        }
    }
}

/// The path of an address may be what lets one send to a device; headers and body hold tokens.
impl fmt::Debug for PushRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushRequest")
            .field("to", &self.url.origin().ascii_serialization())
            .field("named_by", &self.named_by)
            .field("detail", &self.detail)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a request was answered.
#[derive(Clone)]
pub struct PushAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, or the first [`ANSWER_BODY`] bytes of it.
    pub body: Vec<u8>,
}

/// An answer may hold an access token.
impl fmt::Debug for PushAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushAnswer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why a request has no answer. The texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// It broke off, or took too long, or the other side isn't there now.
    Failed(String),
    /// It must not be sent there, by the egress rules.
    Refused(String),
}

/// A header's value that isn't to be shown.
pub(crate) fn secret(value: &str) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}
