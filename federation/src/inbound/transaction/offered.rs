//! What another server offers us: its events before anything is decided.

use std::sync::Arc;

use rhizome_protocol::{
    Incoming, Object, Pdu, RoomRules,
    receive::{self, event_id},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::{Value, value::RawValue};

use super::aside::Taken;
use crate::{Federation, fetch::verify};

/// An event's id and what the other server is told about it.
pub(super) type Told = (OwnedEventId, Result<Taken, String>);

/// An event that was sent to us, and its text: whoever checks the event takes it, and what is refused has to be
/// called by its id.
#[derive(Clone)]
pub(super) struct Offered {
    pub object: Incoming,
    pub raw: Box<RawValue>,
}

impl Offered {
    pub fn event_id(&self, rules: &'static RoomRules) -> Option<OwnedEventId> {
        event_id(rules, &self.object)
    }

    pub fn sender_server(&self) -> Option<&ServerName> {
        let sender = self.object.get("sender").and_then(Value::as_str)?;
        Some(<&UserId>::try_from(sender).ok()?.server_name())
    }

    /// The servers whose keys it may need.
    pub fn servers_to_sign(&self, rules: &RoomRules) -> Vec<OwnedServerName> {
        receive::servers_to_sign(rules, &self.object)
    }
}

pub(super) fn room_of(object: &Object) -> Result<OwnedRoomId, rhizome_protocol::Rejection> {
    let room = object
        .get("room_id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    RoomId::parse(room).map_err(|_| {
        rhizome_protocol::Rejection::new("PDU format", "room_id is missing or malformed")
    })
}

pub(super) fn refuse_all(
    rules: &'static RoomRules,
    offered: &[Offered],
    reason: &str,
) -> Vec<Told> {
    let ids = offered.iter().filter_map(|offered| offered.event_id(rules));
    ids.map(|id| (id, Err(reason.to_owned()))).collect()
}

/// Checks events and gives each a sink for what becomes of it.
pub(super) async fn checked(
    fed: &Federation,
    origin: &ServerName,
    rules: &'static RoomRules,
    offered: Vec<Offered>,
) -> (Vec<Arc<Pdu>>, Vec<Told>) {
    let (mut passed, mut told) = (Vec::new(), Vec::new());
    let (objects, texts): (Vec<_>, Vec<_>) = (offered.into_iter())
        .map(|offered| (offered.object, offered.raw))
        .unzip();
    let outcomes = verify::objects(fed, rules, objects).await;
    for (raw, outcome) in texts.into_iter().zip(outcomes) {
        match outcome {
            Ok(pdu) => passed.push(pdu),
            Err(rejection) => {
                let id = verify::parse(&raw).ok();
                let id = id.and_then(|object| event_id(rules, &object));
                tracing::info!(%origin, event = ?id, %rejection, "dropped a received event");
                told.extend(id.map(|id| (id, Err(rejection.to_string()))));
            }
        }
    }
    (passed, told)
}
