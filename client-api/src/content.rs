//! What clients put into requests, read strictly: content, ids in paths, transaction ids.

use axum::extract::Query;
use http::{StatusCode, Uri};
use rhizome_edge::MatrixError;
use rhizome_protocol::{Object, canonical::parse_object, sticky::LONGEST_MS};
use rhizome_storage::TxnKey;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::Value;

use crate::Caller;

/// The longest transaction id, in bytes.
const MAX_TXN_ID: usize = 255;

/// The content of an event from a request's body.
///
/// # Errors
/// `M_NOT_JSON` for what is no JSON, `M_BAD_JSON` for JSON that is no object, has a key twice or is
/// nested too deep.
pub fn parse(body: &[u8]) -> Result<Object, MatrixError> {
    parse_object(body).map_err(|error| {
        let is_json = std::str::from_utf8(body)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        if is_json {
            MatrixError::bad_json(error.to_string())
        } else {
            MatrixError::not_json(error.to_string())
        }
    })
}

/// An object from a part of a request that ruma has left unparsed.
pub fn parse_raw<T>(raw: &ruma::serde::Raw<T>) -> Result<Object, MatrixError> {
    parse(raw.json().get().as_bytes())
}

/// A room id from a path.
pub fn room_id(text: &str) -> Result<OwnedRoomId, MatrixError> {
    RoomId::parse(text).map_err(|error| MatrixError::invalid_param(format!("room id: {error}")))
}

/// An event id from a path.
pub fn event_id(text: &str) -> Result<OwnedEventId, MatrixError> {
    EventId::parse(text).map_err(|error| MatrixError::invalid_param(format!("event id: {error}")))
}

/// What a redaction redacts that is sent as an event: its content names it, in any room version
/// (<https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>).
pub fn redacts(content: &Object) -> Result<OwnedEventId, MatrixError> {
    let Some(target) = content.get("redacts").and_then(Value::as_str) else {
        return Err(MatrixError::bad_json(
            "content.redacts names the event to redact",
        ));
    };
    event_id(target)
}

/// The pairs of a query.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let uri: Option<Uri> = format!("/?{query}").parse().ok();
    let pairs = uri.and_then(|uri| Query::try_from_uri(&uri).ok());
    pairs.map(|Query(pairs)| pairs).unwrap_or_default()
}

/// What a query says of the event that is to be sent, beside its content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside {
    /// For how many milliseconds it is sticky.
    pub sticky_ms: Option<u32>,
    /// When it was made, in milliseconds since 1970, if that isn't now.
    pub origin_server_ts: Option<i64>,
}

impl Beside {
    /// Reads it. When an event was made, only application services say; of others that isn't heard
    /// (<https://spec.matrix.org/v1.19/application-service-api/#timestamp-massaging>).
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM`
    pub fn read(who: &Caller, query: Option<&str>) -> Result<Self, MatrixError> {
        let made = query.filter(|_| who.service.is_some());
        Ok(Self {
            sticky_ms: sticky_ms(query)?,
            origin_server_ts: made_ms(made)?,
        })
    }
}

/// When an event was made: what canonical JSON can say.
fn made_ms(query: Option<&str>) -> Result<Option<i64>, MatrixError> {
    const LATEST: i64 = (1 << 53) - 1;
    let parts = query.unwrap_or_default().split('&');
    let Some(made) = parts
        .filter_map(|part| part.strip_prefix("ts="))
        .next_back()
    else {
        return Ok(None);
    };
    let digits = made.bytes().all(|byte| byte.is_ascii_digit());
    let made = made.parse().ok();
    let made = made.filter(|ms| digits && (0..=LATEST).contains(ms));
    made.map(Some)
        .ok_or_else(|| MatrixError::invalid_param("ts is a number of milliseconds since 1970"))
}

/// For how many milliseconds an event is to be sticky, if it is
/// ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)).
pub fn sticky_ms(query: Option<&str>) -> Result<Option<u32>, MatrixError> {
    const NAME: &str = "org.matrix.msc4354.sticky_duration_ms=";
    let parts = query.unwrap_or_default().split('&');
    let Some(duration) = parts.filter_map(|part| part.strip_prefix(NAME)).next_back() else {
        return Ok(None);
    };
    let digits = duration.bytes().all(|byte| byte.is_ascii_digit());
    let duration = duration
        .parse()
        .ok()
        .filter(|ms| digits && *ms <= LONGEST_MS);
    duration.map(Some).ok_or_else(|| {
        let message = format!("An event is sticky for 0 to {LONGEST_MS} milliseconds");
        MatrixError::invalid_param(message)
    })
}

/// The key of a client's transaction: endpoint and path without version and transaction id, so that
/// `r0` and `v3` are the same; and the same for every token of the device
/// (<https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers>).
pub fn txn_key(who: &Caller, path: String, txn_id: &str) -> Result<TxnKey, MatrixError> {
    if txn_id.len() > MAX_TXN_ID {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_INVALID_PARAM",
            format!("A transaction id must not be longer than {MAX_TXN_ID} bytes"),
        ));
    }
    Ok(TxnKey {
        user: who.user,
        device: who.device_or_none(),
        path,
        txn_id: txn_id.to_owned(),
    })
}
