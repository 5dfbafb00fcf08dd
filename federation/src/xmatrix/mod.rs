//! X-Matrix: every request between servers is signed by its origin
//! (<https://spec.matrix.org/v1.19/server-server-api/#request-authentication>).
//!
//! What is signed is the canonical JSON of method, target, both names and the body. The
//! header may come in several spellings (quoted or not, spaces, one header per key); what must hold
//! is: the destination is us, and one of the signatures verifies with a key that is valid now.
//!
//! Of the body only that is asked which makes it JSON: what is wrong with one event of a transaction must not
//! cost the others.

mod header;
mod signed;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use axum::extract::OriginalUri;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use ruma::{OwnedServerName, ServerName};

use crate::{Federation, MatrixError, servers::Direction};

pub use header::XMatrix;
pub use header::is_key_id;
pub use signed::Signed;
pub(crate) use signed::canonical_text;

/// Base64 with or without padding, as servers differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A server may sign with several keys, one header each; more than this many are ignored.
const MAX_SIGNATURES: usize = 4;

/// The signatures that a request's head has, and the keys that they should verify with.
pub struct Claim {
    headers: Vec<XMatrix>,
    keys: Vec<Option<[u8; 32]>>,
}

/// Judges the head of a signed request: whether it can verify with a key that its origin has.
pub(crate) async fn admit(
    fed: &Federation,
    peer: Option<IpAddr>,
    headers: &http::HeaderMap,
) -> Result<Claim, MatrixError> {
    let headers = signatures(headers, fed.server_name())?;
    let origin = headers.first().map(|header| &header.origin);
    if let Some(origin) = origin {
        let blocked = fed.store().blocks().await?;
        let servers = &fed.config().servers;
        if let Some(closed) = servers.judge(Direction::In, origin, &blocked) {
            let why = format!("The server {origin} {}", closed.as_str());
            return Err(MatrixError::forbidden(why));
        }
    }
    let mut keys = Vec::with_capacity(headers.len());
    for XMatrix { origin, key_id, .. } in &headers {
        keys.push(fed.keys().key_at_hand(origin, key_id).await);
    }
    let at_hand = keys.iter().filter(|key| key.is_some()).count();
    if at_hand < keys.len() {
        // They are all of one server, which is asked once. One of its keys that is known will do.
        match fed.budgets().keys(peer, 1) {
            Ok(()) => {
                let missing = headers
                    .iter()
                    .zip(&mut keys)
                    .filter(|(_, key)| key.is_none());
                for (XMatrix { origin, key_id, .. }, key) in missing {
                    *key = fed.keys().current_key(origin, key_id).await;
                }
            }
            Err(error) if at_hand == 0 => return Err(error),
            Err(_) => {}
        }
    }
    if keys.iter().all(Option::is_none) {
        let XMatrix { origin, key_id, .. } = &headers[0];
        let reason = format!("Can't get the key {key_id} of {origin}");
        return Err(MatrixError::unauthorized(reason));
    }
    Ok(Claim { headers, keys })
}

impl Claim {
    /// Whose request it is, if one of its signatures verifies.
    pub(crate) fn verify(
        mut self,
        our_name: &ServerName,
        request: &http::Request<Bytes>,
    ) -> Result<OwnedServerName, MatrixError> {
        // The path that was signed is the original one, also inside a nested router.
        let uri = match request.extensions().get::<OriginalUri>() {
            Some(original) => &original.0,
            None => request.uri(),
        };
        let uri = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let by_one_of_them = |signed: &Signed<'_>| {
            self.headers.iter().zip(&self.keys).any(|(header, key)| {
                key.is_some_and(|public| header.verifies(&public, our_name, signed))
            })
        };
        for signed in Signed::readings(request.method().as_str(), uri, request.body()) {
            let signed = signed.map_err(|error| MatrixError::not_json(error.to_string()))?;
            if by_one_of_them(&signed) {
                // They are all of one origin.
                return Ok(self.headers.swap_remove(0).origin);
            }
        }
        Err(MatrixError::unauthorized(
            "The request's signature doesn't verify",
        ))
    }
}

/// The X-Matrix headers of a request: all of one origin, all meant for us.
fn signatures(
    headers: &http::HeaderMap,
    our_name: &ServerName,
) -> Result<Vec<XMatrix>, MatrixError> {
    let mut found: Vec<XMatrix> = Vec::new();
    for value in headers
        .get_all(http::header::AUTHORIZATION)
        .iter()
        .take(MAX_SIGNATURES)
    {
        let text = value
            .to_str()
            .map_err(|_| MatrixError::unauthorized("The Authorization header isn't ASCII"))?;
        let header = XMatrix::parse(text).map_err(|reason| {
            MatrixError::unauthorized(format!("The Authorization header isn't valid: {reason}"))
        })?;
        let Some(header) = header else { continue };
        if header
            .destination
            .as_ref()
            .is_some_and(|name| !name.as_str().eq_ignore_ascii_case(our_name.as_str()))
        {
            return Err(MatrixError::unauthorized(
                "The request is meant for another server",
            ));
        }
        if header
            .origin
            .as_str()
            .eq_ignore_ascii_case(our_name.as_str())
        {
            return Err(MatrixError::unauthorized(
                "The request says to come from ourselves",
            ));
        }
        if found
            .first()
            .is_some_and(|first| first.origin != header.origin)
        {
            return Err(MatrixError::unauthorized(
                "The signatures are of different servers",
            ));
        }
        found.push(header);
    }
    if found.is_empty() {
        return Err(MatrixError::unauthorized(
            "The request has no X-Matrix Authorization header",
        ));
    }
    Ok(found)
}
