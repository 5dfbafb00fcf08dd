//! Large answers, written straight from the events' stored text.

use std::sync::Arc;

use axum::body::Bytes;
use rhizome_protocol::Pdu;
use rhizome_storage::StoredEvent;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{MatrixError, RawJson};

/// A JSON object whose members are written one by one.
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { out: vec![b'{'] }
    }

    fn key(&mut self, key: &'static str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        // Keys are ours: plain names that need no escapes.
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A member of any serialisable value.
    pub(super) fn value(
        mut self,
        key: &'static str,
        value: &impl Serialize,
    ) -> Result<Self, MatrixError> {
        self.key(key);
        serde_json::to_writer(&mut self.out, value).map_err(|error| {
            tracing::error!(%error, key, "a response can't be encoded");
            MatrixError::internal()
        })?;
        Ok(self)
    }

    /// A member that is an event.
    pub(super) fn event(mut self, key: &'static str, pdu: &Pdu) -> Self {
        self.key(key);
        self.out.extend_from_slice(pdu.json().as_bytes());
        self
    }

    /// A member that is a list of events.
    pub(super) fn events(mut self, key: &'static str, events: &[Arc<StoredEvent>]) -> Self {
        self.key(key);
        self.out.push(b'[');
        for (at, event) in events.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(event.pdu.json().as_bytes());
        }
        self.out.push(b']');
        self
    }

    /// The whole object.
    pub(super) fn finish(self) -> RawJson {
        RawJson(Bytes::from(self.into_bytes()))
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

/// An event as ruma's response types want it.
pub(super) fn raw(pdu: &Pdu) -> Result<Box<RawValue>, MatrixError> {
    RawValue::from_string(pdu.json().to_string()).map_err(|error| {
        tracing::error!(%error, event = %pdu.event_id(), "a stored event isn't JSON");
        MatrixError::internal()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_separated() {
        let body = Writer::new()
            .events("state", &[])
            .value("n", &1)
            .unwrap()
            .value("s", &"\"")
            .unwrap();
        assert_eq!(body.into_bytes(), br#"{"state":[],"n":1,"s":"\""}"#);
        assert_eq!(Writer::new().into_bytes(), b"{}");
    }
}
