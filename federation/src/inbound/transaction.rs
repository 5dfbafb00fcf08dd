//! `PUT /_matrix/federation/v1/send/{txnId}`: another server tells what happened.
//!
//! 1. One transaction of a server at a time. One that was done gets the answer that it got then.
//! 2. Its events are grouped by room. Rooms are worked on side by side, a room's events in order; what is
//!    wrong with one event concerns no other.
//! 3. Events are checked (format, signatures, hash), then decided. What can't be decided yet goes to the
//!    durable inbox and counts as taken.
//! 4. Ephemeral data is applied, messages to devices are stored, and the answer is remembered with them, or if an
//!    event was taken. All else may be done twice.

use std::{collections::BTreeMap, time::Duration};

use axum::extract::State;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rhizome_protocol::{Incoming, Membership, Object, Pdu, RoomRules, receive::event_id};
use rhizome_rooms::{
    Error, access,
    membership::remote_invite,
    receive::{self, Gathered, Received},
};
use rhizome_storage::{Fact, InboundAnswer, InboxEvent, RoomHead};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, ServerName, UserId,
    api::federation::transactions::send_transaction_message,
};
use serde_json::{Value, json, value::RawValue};

use super::{edus, guard};
use crate::{Federation, MatrixError, RawJson, Ruma, devices, fetch::verify};

/// The most events of one transaction.
const MAX_PDUS: usize = 50;
/// The most ephemeral data units of one transaction.
const MAX_EDUS: usize = 100;
/// How many transactions of one server may be worked on or wait for that.
const MAX_WAITING: usize = 5;
/// The most bytes of a transaction id.
const MAX_TXN_ID: usize = 255;
/// How many rooms of one transaction are worked on at the same time.
const ROOMS_AT_ONCE: usize = 8;
/// How many events of one server may wait in the inbox.
const INBOX_PER_ORIGIN: usize = 5_000;
/// The same for a server that isn't in the event's room, as far as we know: its join may be under way to us.
const INBOX_PER_STRANGER: usize = 20;
/// The same in rooms that we are joining: who is in them isn't known yet.
const INBOX_WHILE_JOINING: usize = 1_000;
/// How long what may be the answer to a knock waits for the knock itself to be done.
const KNOCK_PATIENCE: Duration = Duration::from_secs(10);

/// An event's id and what the other server is told about it.
type Told = (OwnedEventId, Result<Taken, String>);

/// What was made of an event that isn't refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is news, or waits.
    In,
    /// It is known, or withheld.
    Away,
}

/// `PUT /_matrix/federation/v1/send/{txnId}`
pub(super) async fn send(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<send_transaction_message::v1::Request>,
) -> Result<RawJson, MatrixError> {
    if req.pdus.len() > MAX_PDUS || req.edus.len() > MAX_EDUS {
        let message = format!("A transaction has at most {MAX_PDUS} PDUs and {MAX_EDUS} EDUs");
        return Err(MatrixError::bad_json(message));
    }
    let store = fed.store();
    let txn = req.transaction_id;
    if txn.as_str().len() > MAX_TXN_ID {
        return Err(MatrixError::invalid_param(format!(
            "A transaction id has at most {MAX_TXN_ID} bytes"
        )));
    }
    // A server sends one after the other; a repetition that comes too early waits for the first.
    let lock = fed
        .inbound()
        .transactions
        .lock_among(who.clone(), MAX_WAITING);
    let Some(_only) = lock.await else {
        return Err(MatrixError::limit_exceeded(1_000));
    };
    if let Some(answer) = store.inbound_txn(&who, txn.as_str()).await? {
        return Ok(RawJson(answer.into()));
    }
    let told = events(&fed, &who, req.pdus).await?;
    let has_taken = (told.iter()).any(|(_, outcome)| matches!(outcome, Ok(Taken::In)));
    let answer = answer(told);
    let (mut facts, updates) = edus::apply(&fed, &who, &req.edus).await?;
    let has_messages = facts.iter().any(|fact| matches!(fact, Fact::ToDevice(_)));
    if has_taken || has_messages {
        facts.push(Fact::InboundAnswer(InboundAnswer {
            origin: who,
            txn_id: txn.to_string(),
            response: answer.clone(),
            received_ts: store.clock().now_ms(),
        }));
    }
    devices::incoming::commit(&fed, facts, &updates).await?;
    Ok(RawJson(answer.into()))
}

fn answer(told: Vec<Told>) -> String {
    let pdus: BTreeMap<OwnedEventId, Value> = told
        .into_iter()
        .map(|(id, outcome)| match outcome {
            Ok(_) => (id, json!({})),
            Err(error) => (id, json!({ "error": error })),
        })
        .collect();
    json!({ "pdus": pdus }).to_string()
}

async fn events(
    fed: &Federation,
    origin: &ServerName,
    pdus: Vec<Box<RawValue>>,
) -> Result<Vec<Told>, MatrixError> {
    let mut by_room: BTreeMap<OwnedRoomId, Vec<Offered>> = BTreeMap::new();
    for raw in pdus {
        let room = verify::parse(&raw).and_then(|object| Ok((room_of(&object)?, object)));
        match room {
            Ok((room, object)) => by_room
                .entry(room)
                .or_default()
                .push(Offered { object, raw }),
            // Without its room's version an event has no id to name it by.
            Err(rejection) => tracing::info!(%origin, %rejection, "dropped a received event"),
        }
    }
    let told: Vec<Vec<Told>> = stream::iter(by_room)
        .map(|(room, offered)| in_room(fed, origin, room, offered))
        .buffer_unordered(ROOMS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(told.into_iter().flatten().collect())
}

/// An event that was sent to us, and its text: whoever checks the event takes it, and what is refused has to be
/// called by its id.
#[derive(Clone)]
struct Offered {
    object: Incoming,
    raw: Box<RawValue>,
}

impl Offered {
    fn event_id(&self, rules: &'static RoomRules) -> Option<OwnedEventId> {
        event_id(rules, &self.object)
    }

    fn sender_server(&self) -> Option<&ServerName> {
        let sender = self.object.get("sender").and_then(Value::as_str)?;
        Some(<&UserId>::try_from(sender).ok()?.server_name())
    }
}

fn room_of(object: &Object) -> Result<OwnedRoomId, rhizome_protocol::Rejection> {
    let room = object
        .get("room_id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    RoomId::parse(room).map_err(|_| {
        rhizome_protocol::Rejection::new("PDU format", "room_id is missing or malformed")
    })
}

/// The events of one room, in order.
async fn in_room(
    fed: &Federation,
    origin: &ServerName,
    room_id: OwnedRoomId,
    offered: Vec<Offered>,
) -> Result<Vec<Told>, MatrixError> {
    let head = fed.store().room(&room_id).await?;
    let resident = access::server_in_room(fed.store(), &room_id, fed.server_name()).await?;
    match (head, fed.joining().rules(&room_id)) {
        (Some(head), _) if resident => {
            // ACLs are applied to each event by itself.
            if !guard::is_allowed(fed, origin, &head).await? {
                let denied = format!("{origin} is denied access to this room by its server ACL");
                return Ok(refuse_all(head.rules, &offered, &denied));
            }
            decide_all(fed, origin, &head, offered).await
        }
        // We are just coming in: these follow our join.
        (_, Some(rules)) => put_aside_all(fed, origin, rules, offered).await,
        (head, None) => {
            for offered in &offered {
                withdrawn_invite(fed, origin, &room_id, offered).await?;
            }
            tracing::debug!(%origin, room = %room_id, "events of a room that we aren't in");
            let rules = head.map(|head| head.rules);
            Ok(rules.map_or_else(Vec::new, |rules| {
                refuse_all(rules, &offered, "This server is not in the room")
            }))
        }
    }
}

fn refuse_all(rules: &'static RoomRules, offered: &[Offered], reason: &str) -> Vec<Told> {
    let ids = offered.iter().filter_map(|offered| offered.event_id(rules));
    ids.map(|id| (id, Err(reason.to_owned()))).collect()
}

/// Checks events and gives each a sink for what becomes of it.
async fn checked(
    fed: &Federation,
    origin: &ServerName,
    rules: &'static RoomRules,
    offered: Vec<Offered>,
) -> (Vec<std::sync::Arc<Pdu>>, Vec<Told>) {
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

async fn decide_all(
    fed: &Federation,
    origin: &ServerName,
    head: &RoomHead,
    offered: Vec<Offered>,
) -> Result<Vec<Told>, MatrixError> {
    let servers = fed.store().joined_servers(head.room).await?;
    let is_member = |server: &ServerName| servers.iter().any(|other| other == server);
    let is_door = is_member(origin);
    let may_wait = may_wait(is_door);
    // Members tell of themselves and of who comes in through them; others of themselves, if they have just come in.
    // The keys of whoever else aren't even looked for.
    let is_known = |offered: &Offered| {
        let server = offered.sender_server();
        server.is_some_and(|server| server == origin || is_member(server))
    };
    let newcomers = offered.iter().filter(|offered| !is_known(offered)).count();
    let are_all_heard =
        newcomers == 0 || (is_door && fed.budgets().newcomers(origin, newcomers).is_ok());
    let (offered, mut told) = if are_all_heard {
        (offered, Vec::new())
    } else {
        let (heard, others): (Vec<_>, Vec<_>) = offered.into_iter().partition(is_known);
        let reason = "The sender's server is not in the room";
        (heard, refuse_all(head.rules, &others, reason))
    };
    let (passed, dropped) = checked(fed, origin, head.rules, offered).await;
    told.extend(dropped);
    for pdu in passed {
        let id = pdu.event_id().to_owned();
        let outcome = match receive::pushed(fed.rooms(), pdu.clone(), &Gathered::default()).await {
            Ok(Received::Accepted) => Ok(Taken::In),
            Ok(Received::Known | Received::SoftFailed(_)) => Ok(Taken::Away),
            Ok(Received::Rejected(rejection)) => Err(rejection.to_string()),
            Ok(Received::Need(_)) | Err(Error::Contended) => {
                put_aside(fed, origin, &pdu, may_wait).await?
            }
            // The database's trouble is not the event's fault: the other server tries again.
            Err(error @ Error::Store(_)) => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        told.push((id, outcome));
    }
    Ok(told)
}

async fn put_aside_all(
    fed: &Federation,
    origin: &ServerName,
    rules: &'static RoomRules,
    offered: Vec<Offered>,
) -> Result<Vec<Told>, MatrixError> {
    let (passed, mut told) = checked(fed, origin, rules, offered).await;
    for pdu in passed {
        told.push((
            pdu.event_id().to_owned(),
            put_aside(fed, origin, &pdu, INBOX_WHILE_JOINING).await?,
        ));
    }
    Ok(told)
}

/// How many events of a server may wait in the inbox: of one that is in their room, or of a stranger.
pub(super) fn may_wait(is_member: bool) -> usize {
    if is_member {
        INBOX_PER_ORIGIN
    } else {
        INBOX_PER_STRANGER
    }
}

/// Keeps an event in the inbox, of this origin at most so many.
pub(super) async fn put_aside(
    fed: &Federation,
    origin: &ServerName,
    pdu: &Pdu,
    most: usize,
) -> Result<Result<Taken, String>, MatrixError> {
    let event = InboxEvent {
        event_id: pdu.event_id().to_owned(),
        origin: origin.to_owned(),
        room_id: pdu.room_id().to_owned(),
        room_version: pdu.rules().id().to_owned(),
        event: pdu.json().clone(),
        received_ts: fed.store().clock().now_ms(),
        attempts: 0,
    };
    if fed.store().inbox_add(&[event], most).await? == 0 {
        tracing::warn!(%origin, event = %pdu.event_id(), "the inbox of this server is full: event dropped");
        return Ok(Err(
            "Too many events of your server wait to be decided".to_owned()
        ));
    }
    fed.inbox().notify_one();
    Ok(Ok(Taken::In))
}

/// An invite that we keep for a user of ours ends when whoever invited takes it back: by a later event that
/// rests on the invite and makes the user leave, or bans them. We aren't in the room, so nobody else tells;
/// and we don't know its powers, so that we can't tell whether anybody else was allowed to. A knock ends by
/// such an event of anybody's: only the room's servers know its id.
async fn withdrawn_invite(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    offered: &Offered,
) -> Result<(), MatrixError> {
    let text = |key: &str| offered.object.get(key).and_then(Value::as_str);
    let Some(user) = text("state_key").and_then(|key| <&UserId>::try_from(key).ok()) else {
        return Ok(());
    };
    if text("type") != Some("m.room.member") || user.server_name() != fed.server_name() {
        return Ok(());
    }
    // The room may answer a knock before its door has told us that it was taken.
    let knocks = fed.joining().turns.lock(room_id.to_owned());
    let _taken = tokio::time::timeout(KNOCK_PATIENCE, knocks).await;
    let (Some(user_no), Some(room)) = (
        fed.store().known_user(user).await?,
        fed.store().known_room(room_id).await?,
    ) else {
        return Ok(());
    };
    let Some(invite) = fed.store().remote_invite(user_no, room).await? else {
        return Ok(());
    };
    let (mut passed, _) = checked(fed, origin, invite.rules, vec![offered.clone()]).await;
    let Some(pdu) = passed.pop() else {
        return Ok(());
    };
    let ends = matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban));
    let invited_by = rhizome_protocol::canonical::parse_object(invite.event.as_bytes())
        .ok()
        .and_then(|object| event_id(invite.rules, &object.into()));
    let rests_on_it = invited_by.is_some_and(|invite| pdu.auth_events().contains(&invite));
    let is_knock = invite.sender == *user;
    if ends && rests_on_it && (is_knock || pdu.sender() == invite.sender) {
        remote_invite::end(fed.rooms(), &pdu).await?;
    }
    Ok(())
}
