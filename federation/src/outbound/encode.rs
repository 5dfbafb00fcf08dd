//! Requests of ruma's types as what is signed and sent.

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rhizome_protocol::as_sent::{Numbers, canonical_text};
use ruma::api::{OutgoingBody, OutgoingRequest, path_builder::PathBuilder};

use crate::outbound::error::OutboundError;

/// What URLs would spell differently than targets may: it is encoded before the target gets signed.
const SPELLED_OUT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'\'')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A target as it gets signed and sent.
pub(crate) fn as_urls_spell(target: &str) -> String {
    utf8_percent_encode(target, SPELLED_OUT).to_string()
}

/// Method, target and body of a ruma request.
fn encode<R>(request: R) -> Result<(Method, String, Vec<u8>), OutboundError>
where
    R: OutgoingRequest,
    for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
{
    let bad = |error: &dyn std::fmt::Display| OutboundError::Request(error.to_string());
    let request = request
        .try_into_http_request_inner("", ())
        .map_err(|error| bad(&error))?;
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let body = body
        .try_into_buf::<Vec<u8>>()
        .map_err(|error| bad(&error.into()))?;
    Ok((parts.method, target, body))
}

/// [`encode`] with the body in the form that is signed and sent; none where it is empty.
pub(crate) fn encode_canonical<R>(
    request: R,
) -> Result<(Method, String, Option<String>), OutboundError>
where
    R: OutgoingRequest,
    for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
{
    let (method, target, body) = encode(request)?;
    let body = if body.is_empty() {
        None
    } else {
        Some(canonical_body(&body)?)
    };
    Ok((method, target, body))
}

/// The canonical form of a body of ours, which is what gets signed and sent. Events in it stay what they are.
pub(crate) fn canonical_body(body: &[u8]) -> Result<String, OutboundError> {
    canonical_text(body, Numbers::AsRead).map_err(|error| OutboundError::Request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use ruma::api::federation::query::get_room_information;

    use super::*;

    #[test]
    fn requests_are_encoded_without_a_base_url() {
        let alias = ruma::room_alias_id!("#ä b:x.example").to_owned();
        let (method, target, body) = encode(get_room_information::v1::Request::new(alias)).unwrap();
        assert_eq!(method, Method::GET);
        assert_eq!(
            target,
            "/_matrix/federation/v1/query/directory?room_alias=%23%C3%A4+b%3Ax.example"
        );
        assert!(body.is_empty());
    }
}
