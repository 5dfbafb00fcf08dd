//! What remote joins, knocks, leaves and invites share: a template from another server becomes an event of ours, and
//! events are handed in at the server that must take them.

pub(crate) mod stripped;

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_protocol::{Membership, Object, Pdu, RoomRules, canonical, draft};
use rhizome_rooms::membership::restricted::AUTHORISED_VIA;
use ruma::{RoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Value, value::RawValue};

use crate::{
    Federation, MatrixError,
    outbound::{
        Limits, OutboundError,
        answer::{Pieces, SEND_JOIN},
        canonical_body, refusal,
    },
};

/// What stays as it is in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The fields of a template that are kept; what else it has is none of ours.
const FROM_TEMPLATE: [&str; 7] = [
    "room_id",
    "sender",
    "type",
    "state_key",
    "auth_events",
    "prev_events",
    "depth",
];

/// The rules of the version that a template names; without one it is version 1.
pub(crate) fn rules_of(version: Option<&RoomVersionId>) -> Result<&'static RoomRules, MatrixError> {
    let version = version.unwrap_or(&RoomVersionId::V1);
    RoomRules::get(version).ok_or_else(|| {
        MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_INCOMPATIBLE_ROOM_VERSION",
            format!("This server does not support room version {version} of that room"),
        )
        .with("room_version", version.as_str())
    })
}

/// Checks a template, fills in `content` (the membership is set here) and signs the event.
///
/// # Errors
/// A template for something else than this membership of this user in this room.
pub(crate) fn finish(
    fed: &Federation,
    rules: &'static RoomRules,
    template: &RawValue,
    room_id: &RoomId,
    user: &UserId,
    membership: Membership,
    content: Object,
) -> Result<Arc<Pdu>, MatrixError> {
    let unusable = |what: String| {
        MatrixError::bad_gateway(format!("The other server's template is unusable: {what}"))
    };
    let template = canonical::parse_object(template.get().as_bytes())
        .map_err(|error| unusable(error.to_string()))?;
    let text = |key: &str| template.get(key).and_then(Value::as_str);
    let of_template = template.get("content").and_then(Value::as_object);
    let same = text("type") == Some("m.room.member")
        && text("room_id") == Some(room_id.as_str())
        && text("sender") == Some(user.as_str())
        && text("state_key") == Some(user.as_str())
        && of_template
            .and_then(|content| content.get("membership"))
            .and_then(Value::as_str)
            == Some(membership.as_str());
    if !same {
        return Err(unusable("it is not for what was asked".to_owned()));
    }
    let mut content = content;
    content.insert("membership".to_owned(), membership.as_str().into());
    // Only the resident server knows who of its users may let the user in.
    content.remove(AUTHORISED_VIA);
    if let Some(by) = of_template.and_then(|content| content.get(AUTHORISED_VIA)) {
        content.insert(AUTHORISED_VIA.to_owned(), by.clone());
    }
    let mut event: Object = template
        .iter()
        .filter(|(key, _)| FROM_TEMPLATE.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    event.insert("content".to_owned(), Value::Object(content));
    event.insert("origin".to_owned(), fed.server_name().as_str().into());
    event.insert(
        "origin_server_ts".to_owned(),
        fed.store().clock().now_ms().into(),
    );
    draft::finish(rules, event, fed.server_name(), fed.signing_key())
        .map(Arc::new)
        .map_err(|rejection| unusable(rejection.to_string()))
}

/// The target at which an endpoint, as `v1/send_knock`, takes the finished event.
fn target(endpoint: &str, event: &Pdu) -> String {
    let room = utf8_percent_encode(event.room_id().as_str(), SEGMENT);
    let id = utf8_percent_encode(event.event_id().as_str(), SEGMENT);
    format!("/_matrix/federation/{endpoint}/{room}/{id}")
}

/// Sends the finished event to an endpoint, as `v1/send_knock`.
pub(crate) async fn put(
    fed: &Federation,
    server: &ServerName,
    endpoint: &str,
    event: &Pdu,
    limits: Limits,
) -> Result<Bytes, OutboundError> {
    let body = RawValue::from_string(event.json().to_string())
        .map_err(|error| OutboundError::Answer(error.to_string()))?;
    let path = target(endpoint, event);
    fed.outbound()
        .call(server, Method::PUT, &path, Some(&body), limits)
        .await
}

/// Hands in a join: by v2, or by v1 where that doesn't exist. The answer is the room, of which members may be left out if
/// it is asked for so (`few`).
pub(crate) async fn send_join(
    fed: &Federation,
    server: &ServerName,
    event: &Pdu,
    few: bool,
    time: Duration,
) -> Result<Pieces, OutboundError> {
    let put = async |endpoint: &str, query: &str| {
        let body = canonical_body(event.json().as_bytes())?;
        let (path, time) = (target(endpoint, event) + query, Some(time));
        fed.outbound()
            .call_for_pieces(server, Method::PUT, &path, Some(body), &SEND_JOIN, time)
            .await
    };
    let query = if few { "?omit_members=true" } else { "" };
    match put("v2/send_join", query).await {
        Err(error) if lacks_endpoint(&error) => put("v1/send_join", "").await,
        answer => answer,
    }
}

/// Hands in a leave: by v2, or by v1 where that doesn't exist. The answer is some JSON.
pub(crate) async fn send_leave(
    fed: &Federation,
    server: &ServerName,
    event: &Pdu,
    limits: Limits,
) -> Result<Bytes, OutboundError> {
    match put(fed, server, "v2/send_leave", event, limits).await {
        Err(error) if lacks_endpoint(&error) => {
            put(fed, server, "v1/send_leave", event, limits).await
        }
        answer => answer,
    }
}

/// Whether the other server has no such endpoint, so that an older one is worth trying.
pub(crate) fn lacks_endpoint(error: &OutboundError) -> bool {
    matches!(error, OutboundError::Remote(error) if refusal::lacks_endpoint(error))
}

/// Limits for one step of a handshake.
pub(crate) fn step(timeout: Duration, max_body: usize) -> Limits {
    Limits {
        timeout: Some(timeout),
        max_body,
    }
}

/// `PUT /_matrix/federation/v1/invite`: the event is the body; the answer is `[200, {"event": …}]`.
pub(crate) async fn invite_v1(
    fed: &Federation,
    server: &ServerName,
    event: &Pdu,
    limits: Limits,
) -> Result<Box<RawValue>, OutboundError> {
    #[derive(serde::Deserialize)]
    struct Made {
        event: Box<RawValue>,
    }
    let unusable = |error: serde_json::Error| OutboundError::Answer(error.to_string());
    let answer = put(fed, server, "v1/invite", event, limits).await?;
    let (_, answer): (u16, Made) = serde_json::from_slice(&answer).map_err(unusable)?;
    Ok(answer.event)
}
