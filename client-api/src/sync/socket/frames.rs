//! The frames of a socket: the first one, and those that answer.

use ruma::EventId;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{MatrixError, view::json::Json};

/// What a connection asks for, in the query or in the first frame.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Start {
    pub(super) access_token: Option<String>,
    pub(super) since: Option<String>,
    /// A filter's id, or a filter as JSON text.
    pub(super) filter: Option<String>,
    #[serde(default)]
    pub(super) use_state_after: bool,
    /// What the device is while the connection is open.
    pub(super) set_presence: Option<String>,
    /// The whole first frame, if it wants sliding sync.
    #[serde(skip)]
    pub(super) sliding: Option<String>,
}

/// Which shape of sync a connection is of.
#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Sync,
    Sliding,
}

/// Token and wishes of a frame of type `auth`.
pub(super) fn first_frame(text: &str) -> Option<(String, Start)> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
        access_token: String,
        since: Option<String>,
        filter: Option<Box<RawValue>>,
        #[serde(default)]
        use_state_after: bool,
        set_presence: Option<String>,
        #[serde(default)]
        mode: Mode,
    }
    let typed: Typed = serde_json::from_str(text).ok()?;
    let start = Start {
        access_token: None,
        since: typed.since,
        filter: typed.filter.map(|filter| text_of(&filter)),
        use_state_after: typed.use_state_after,
        set_presence: typed.set_presence,
        sliding: (typed.mode == Mode::Sliding).then(|| text.to_owned()),
    };
    (typed.r#type == "auth").then_some((typed.access_token, start))
}

/// A filter in a frame as in a query: its id, or a filter as JSON text, or as it is.
pub(super) fn text_of(filter: &RawValue) -> String {
    serde_json::from_str(filter.get()).unwrap_or_else(|_| filter.get().to_owned())
}

/// What a client's frame says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) r#type: String,
    pub(super) txn_id: Option<String>,
}

/// A frame of a client as what its type says that it is.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, MatrixError> {
    serde_json::from_str(text)
        .map_err(|error| MatrixError::bad_json(format!("The frame isn't valid: {error}")))
}

/// That what the client asked is done.
pub(super) fn ack_frame(txn_id: Option<&str>, event_id: Option<&EventId>) -> String {
    let mut json = Json::default();
    json.open().key("type").string("ack");
    if let Some(txn_id) = txn_id {
        json.key("txn_id").string(txn_id);
    }
    if let Some(event_id) = event_id {
        json.key("event_id").string(event_id.as_str());
    }
    json.close();
    json.finish()
}

/// A Matrix error as a frame.
pub(super) fn error_frame(txn_id: Option<&str>, error: &MatrixError) -> String {
    let mut body = error.body();
    if let Some(body) = body.as_object_mut() {
        body.insert("type".to_owned(), "error".into());
        body.insert("status".to_owned(), error.status.as_u16().into());
        if let Some(txn_id) = txn_id {
            body.insert("txn_id".to_owned(), txn_id.into());
        }
    }
    body.to_string()
}

/// The answer to a ping.
pub(super) const PONG: &str = r#"{"type":"pong"}"#;

/// That the server stops, and when to come back.
pub(super) fn bye(retry_after_ms: u64) -> String {
    format!(r#"{{"type":"bye","reason":"restart","retry_after_ms":{retry_after_ms}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_may_come_in_every_form() {
        for (filter, text) in [
            (r#""12""#, "12"),
            (r#""{\"room\":{}}""#, r#"{"room":{}}"#),
            (r#"{"room":{}}"#, r#"{"room":{}}"#),
        ] {
            let frame = format!(r#"{{"type":"auth","access_token":"t","filter":{filter}}}"#);
            let (token, start) = first_frame(&frame).unwrap();
            assert_eq!((token.as_str(), start.filter.as_deref()), ("t", Some(text)));
        }
        assert!(first_frame(r#"{"type":"auth"}"#).is_none());
        assert!(first_frame(r#"{"type":"send","access_token":"t"}"#).is_none());
    }
}
