//! What another server offers us: its events before anything is decided.

use std::sync::Arc;

use rhizome_protocol::{
    Incoming, Object, Pdu, RoomRules,
    receive::{self, event_id},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde_json::{Value, value::RawValue};

use super::{Sent, aside::Taken};
use crate::{
    fetch::verify,
    inbound::notes::{Notes, sender_server},
};

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
        sender_server(&self.object)
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
        rhizome_protocol::Rejection::new(
            rhizome_protocol::Rejection::FORMAT,
            "room_id is missing or malformed",
        )
    })
}

/// Refuses all of these for one reason. Only where the room's version is known they have ids to name them by.
pub(super) fn refuse_all(
    notes: &Notes<'_>,
    rules: Option<&'static RoomRules>,
    offered: &[Offered],
    reason: &str,
) -> Vec<Told> {
    notes.refused(offered.len(), reason);
    let Some(rules) = rules else {
        return Vec::new();
    };
    let ids = offered.iter().filter_map(|offered| offered.event_id(rules));
    ids.map(|id| (id, Err(reason.to_owned()))).collect()
}

/// Refuses what a server in quarantine has sent of its own users, and leaves what it passes on for others.
pub(super) fn without_quarantined(
    sent: &Sent<'_>,
    rules: Option<&'static RoomRules>,
    offered: Vec<Offered>,
) -> (Vec<Offered>, Vec<Told>) {
    if !sent.is_quarantined {
        return (offered, Vec::new());
    }
    let is_own = |offered: &Offered| offered.sender_server() == Some(sent.origin);
    let (own, others): (Vec<_>, Vec<_>) = offered.into_iter().partition(is_own);
    let reason = "Your server has sent too many events that can't be verified: for a while its own are refused";
    (others, refuse_all(sent.notes, rules, &own, reason))
}

/// Leaves out what needs the keys of servers that aren't known here, unless its server may tell of others (`is_door`) and hasn't
/// told of too many: those keys aren't even looked for, whatever an event names them for.
pub(super) fn heard(
    sent: &Sent<'_>,
    rules: &'static RoomRules,
    offered: Vec<Offered>,
    is_door: bool,
    is_known: impl Fn(&ServerName) -> bool,
) -> (Vec<Offered>, Vec<Told>) {
    let is_known = |offered: &Offered| {
        let servers = offered.servers_to_sign(rules);
        offered.sender_server().is_some() && servers.iter().all(|server| is_known(server))
    };
    let newcomers = offered.iter().filter(|offered| !is_known(offered)).count();
    let budgets = sent.fed.budgets();
    if newcomers == 0 || (is_door && budgets.newcomers(sent.origin, newcomers).is_ok()) {
        return (offered, Vec::new());
    }
    let (heard, others): (Vec<_>, Vec<_>) = offered.into_iter().partition(is_known);
    let reason = "A server that must have signed the event is not in the room";
    let refused = refuse_all(sent.notes, Some(rules), &others, reason);
    (heard, refused)
}

/// Checks events: those that pass, and what is told of the others. `is_member`: whether their server is in the room. Only then is
/// it sure that the room is of the same version there as here, which an event's form and signatures depend on: who lets others
/// into a room may tell each of them another one.
pub(super) async fn checked(
    sent: &Sent<'_>,
    rules: &'static RoomRules,
    offered: Vec<Offered>,
    is_member: bool,
) -> (Vec<Arc<Pdu>>, Vec<Told>) {
    let Sent {
        fed, origin, notes, ..
    } = *sent;
    let (mut passed, mut told) = (Vec::new(), Vec::new());
    let (objects, texts): (Vec<_>, Vec<_>) = (offered.into_iter())
        .map(|offered| (offered.object, offered.raw))
        .unzip();
    let outcomes = verify::sent(fed, rules, objects, Some(origin)).await;
    for (raw, outcome) in texts.into_iter().zip(outcomes) {
        match outcome {
            Ok(pdu) => {
                notes.verified(pdu.sender().server_name());
                passed.push(pdu);
            }
            Err(refusal) => {
                let object = verify::parse(&raw).ok();
                if is_member {
                    let sender = object.as_ref().and_then(|object| sender_server(object));
                    notes.unverified(sender, &refusal);
                }
                let rejection = verify::rejection(refusal);
                let id = object.and_then(|object| event_id(rules, &object));
                tracing::info!(%origin, event = ?id, %rejection, "dropped a received event");
                let why = rejection.to_string();
                notes.refused(1, &why);
                told.extend(id.map(|id| (id, Err(why))));
            }
        }
    }
    (passed, told)
}
