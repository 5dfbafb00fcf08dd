//! `PUT /_matrix/federation/v1/send/{txnId}`: another server tells what happened.
//!
//! 1. One transaction of a server at a time, which waits while the server owes something. One that was done gets the answer
//!    that it got then.
//! 2. Its events are grouped by room. Rooms are worked on side by side, a room's events in order; what is
//!    wrong with one event concerns no other.
//! 3. Events are checked (format, signatures, hash), and the room's policy server is asked about those that it hasn't
//!    signed. Then they are decided: what goes on from the room as it is in one go, all else one by one. What can't be
//!    decided yet goes to the durable inbox and counts as taken. Places at both are shared fairly among servers
//!    ([`crate::origins`]); those in quarantine aren't heard.
//! 4. Ephemeral data is applied, messages to devices are stored, and the answer is remembered with them, or if an
//!    event was taken; where nothing but one room's events is to be stored, with these. All else may be done twice.

pub(super) mod aside;
mod body;
mod offered;
mod withdrawn;

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rhizome_edge::Undecoded;
use rhizome_protocol::{Pdu, RoomRules};
use rhizome_rooms::{
    Error, access,
    receive::{self, Line, Received},
};
use rhizome_storage::{Fact, InboundAnswer, RoomHead};
use ruma::{
    EventId, OwnedRoomId, ServerName, api::federation::transactions::send_transaction_message,
};
use serde_json::{Value, json, value::RawValue};

use self::{
    aside::{Taken, may_wait, put_aside},
    body::Body,
    offered::{Offered, Told, checked, heard, refuse_all, room_of, without_quarantined},
    withdrawn::withdrawn_invite,
};
use super::{edus, notes::Notes};
use crate::{Federation, MatrixError, RawJson, Ruma, acl, devices, fetch::verify, policy};

/// How many transactions of one server may be worked on or wait for that.
const MAX_WAITING: usize = 5;
/// The most bytes of a transaction id.
const MAX_TXN_ID: usize = 255;
/// How many events of one server may wait in rooms that we are joining: who is in them isn't known yet.
const INBOX_WHILE_JOINING: usize = 1_000;
/// How many rooms of one transaction are worked on at the same time.
const ROOMS_AT_ONCE: usize = 8;

/// `PUT /_matrix/federation/v1/send/{txnId}`
pub(super) async fn send(
    State(fed): State<Federation>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<send_transaction_message::v1::Request>>,
) -> Result<RawJson, MatrixError> {
    let store = fed.store();
    let txn = req.part(0);
    if txn.len() > MAX_TXN_ID {
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
        fed.origins().limited(&who);
        return Err(MatrixError::limit_exceeded(1_000));
    };
    fed.origins().wait_for(&who).await;
    if let Some(answer) = store.inbound_txn(&who, txn).await? {
        return Ok(RawJson(answer.into()));
    }
    // While it waited nothing of it was taken apart.
    let (pdus, edus) = Body::read(&body)?.into_parts();
    drop(body);
    let notes = Notes::new(&fed, &who);
    let sent = Sent {
        fed: &fed,
        origin: &who,
        txn,
        is_last: edus::write_nothing(&edus),
        is_quarantined: fed.origins().is_quarantined(&who),
        notes: &notes,
    };
    let Events { told, written } = events(&sent, pdus).await?;
    let answer = answer(&told);
    let (mut facts, updates) = edus::apply(&fed, &who, &edus, &notes).await?;
    let has_taken = (told.iter()).any(|(_, outcome)| matches!(outcome, Ok(Taken::In)));
    let has_messages = facts.iter().any(|fact| matches!(fact, Fact::ToDevice(_)));
    if !written && (has_taken || has_messages) {
        facts.push(sent.answered(&answer));
    }
    devices::incoming::commit(&fed, facts, &updates).await?;
    Ok(RawJson(answer.into()))
}

/// A transaction that is worked on.
struct Sent<'a> {
    fed: &'a Federation,
    origin: &'a ServerName,
    txn: &'a str,
    /// Whether nothing is to be written after these events but the answer, which may go with them.
    is_last: bool,
    /// Whether its server's own events aren't heard.
    is_quarantined: bool,
    notes: &'a Notes<'a>,
}

impl Sent<'_> {
    /// What is remembered of the answer.
    fn answered(&self, answer: &str) -> Fact {
        Fact::InboundAnswer(InboundAnswer {
            origin: self.origin.to_owned(),
            txn_id: self.txn.to_owned(),
            response: answer.to_owned(),
            received_ts: self.fed.store().clock().now_ms(),
        })
    }
}

/// What became of a transaction's events.
#[derive(Default)]
struct Events {
    told: Vec<Told>,
    /// Whether the answer was written with them.
    written: bool,
}

impl From<Vec<Told>> for Events {
    fn from(told: Vec<Told>) -> Self {
        Self {
            told,
            written: false,
        }
    }
}

fn answer(told: &[Told]) -> String {
    let pdus: BTreeMap<&EventId, Value> = (told.iter())
        .map(|(id, outcome)| match outcome {
            Ok(_) => (&**id, json!({})),
            Err(error) => (&**id, json!({ "error": error })),
        })
        .collect();
    json!({ "pdus": pdus }).to_string()
}

async fn events(sent: &Sent<'_>, pdus: Vec<Box<RawValue>>) -> Result<Events, MatrixError> {
    let origin = sent.origin;
    let mut by_room: BTreeMap<OwnedRoomId, Vec<Offered>> = BTreeMap::new();
    for raw in pdus {
        let room = verify::parse(&raw).and_then(|object| Ok((room_of(&object)?, object)));
        match room {
            Ok((room, object)) => by_room
                .entry(room)
                .or_default()
                .push(Offered { object, raw }),
            // Without its room's version an event has no id to name it by.
            Err(rejection) => {
                tracing::info!(%origin, %rejection, "dropped a received event");
                sent.notes.unreadable(&raw, &rejection);
            }
        }
    }
    let is_last = sent.is_last && by_room.len() == 1 && !sent.is_quarantined;
    let sent = Sent { is_last, ..*sent };
    let told: Vec<Events> = stream::iter(by_room)
        .map(|(room, offered)| in_room(&sent, room, offered))
        .buffer_unordered(ROOMS_AT_ONCE)
        .try_collect()
        .await?;
    let written = told.iter().any(|events| events.written);
    let told = told.into_iter().flat_map(|events| events.told).collect();
    Ok(Events { told, written })
}

/// The events of one room, in order.
async fn in_room(
    sent: &Sent<'_>,
    room_id: OwnedRoomId,
    offered: Vec<Offered>,
) -> Result<Events, MatrixError> {
    let (fed, origin) = (sent.fed, sent.origin);
    let head = fed.store().room(&room_id).await?;
    let resident = access::server_in_room(fed.store(), &room_id, fed.server_name()).await?;
    let joining = fed.joining().rules(&room_id);
    let rules = head.as_ref().map(|head| head.rules).or(joining);
    // In rooms that we aren't in nothing is heard but that an invite is taken back, which nobody tells us again.
    let (offered, unheard) = if resident || joining.is_some() {
        without_quarantined(sent, rules, offered)
    } else {
        (offered, Vec::new())
    };
    if offered.is_empty() {
        return Ok(unheard.into());
    }
    let mut events: Events = match (head, joining) {
        (Some(head), _) if resident => {
            // ACLs are applied to each event by itself.
            if acl::is_allowed(fed, origin, &head).await? {
                decide_all(sent, &head, offered).await?
            } else {
                let denied = format!("{origin} is denied access to this room by its server ACL");
                refuse_all(sent.notes, Some(head.rules), &offered, &denied).into()
            }
        }
        // We are just coming in: these follow our join.
        (_, Some(rules)) => put_aside_all(sent, rules, offered).await?.into(),
        (head, None) => {
            for offered in &offered {
                withdrawn_invite(sent, &room_id, offered).await?;
            }
            tracing::debug!(%origin, room = %room_id, "events of a room that we aren't in");
            let rules = head.map(|head| head.rules);
            let reason = "This server is not in the room";
            refuse_all(sent.notes, rules, &offered, reason).into()
        }
    };
    events.told.extend(unheard);
    Ok(events)
}

async fn decide_all(
    sent: &Sent<'_>,
    head: &RoomHead,
    offered: Vec<Offered>,
) -> Result<Events, MatrixError> {
    let (fed, origin) = (sent.fed, sent.origin);
    let servers = fed.store().joined_servers(head.room).await?;
    let is_member = |server: &ServerName| servers.iter().any(|other| other == server);
    let is_door = is_member(origin);
    let may_wait = may_wait(is_door);
    // Members tell of themselves and of who comes in through them; others of themselves, if they have just come in.
    let is_known = |server: &ServerName| server == origin || is_member(server);
    let (offered, mut told) = heard(sent, head.rules, offered, is_door, is_known);
    let (passed, dropped) = checked(sent, head.rules, offered, is_door).await;
    told.extend(dropped);
    let looked = policy::look_at(fed, origin, head, passed, policy::TIME_OF_TRANSACTION).await?;
    // Nobody else is waited for from here on, but the database.
    let _place = fed.origins().deciding(origin).await;
    let line = in_line(sent, head, &looked.pdus, &mut told).await;
    sent.notes.accepted(line.taken);
    for pdu in looked.pdus.iter().skip(line.taken) {
        let id = pdu.event_id().to_owned();
        let gathered = looked.gathered(&id);
        let received = receive::pushed(fed.rooms(), pdu.clone(), &gathered).await;
        let outcome = match decided(sent, received)? {
            Some(outcome) => outcome,
            None => wait_aside(sent, pdu, may_wait).await?,
        };
        told.push((id, outcome));
    }
    Ok(Events {
        told,
        written: line.with_facts,
    })
}

/// What an event has become; `None`: it can't be decided yet.
fn decided(
    sent: &Sent<'_>,
    received: Result<Received, Error>,
) -> Result<Option<Result<Taken, String>>, MatrixError> {
    let notes = sent.notes;
    let outcome = match received {
        Ok(Received::Accepted) => {
            notes.accepted(1);
            Ok(Taken::In)
        }
        Ok(Received::Known) => {
            notes.known();
            Ok(Taken::Away)
        }
        Ok(Received::SoftFailed(rejection)) => {
            notes.soft_failed(&rejection);
            Ok(Taken::Away)
        }
        Ok(Received::Rejected(rejection)) => {
            notes.rejected(&rejection);
            Err(rejection.to_string())
        }
        Ok(Received::Need(_)) | Err(Error::Contended) => return Ok(None),
        // The database's trouble is not the event's fault: the other server tries again.
        Err(error @ Error::Store(_)) => return Err(error.into()),
        Err(error) => {
            let why = error.to_string();
            notes.refused(1, &why);
            Err(why)
        }
    };
    Ok(Some(outcome))
}

async fn wait_aside(
    sent: &Sent<'_>,
    pdu: &Pdu,
    most: usize,
) -> Result<Result<Taken, String>, MatrixError> {
    let outcome = put_aside(sent.fed, sent.origin, pdu, most).await?;
    match &outcome {
        Ok(_) => sent.notes.waits(),
        Err(why) => sent.notes.refused(1, why),
    }
    Ok(outcome)
}

/// Takes in one go what goes on from the room as it is, with the answer if that is all.
async fn in_line(
    sent: &Sent<'_>,
    head: &RoomHead,
    passed: &[Arc<Pdu>],
    told: &mut Vec<Told>,
) -> Line {
    let refused = told.len();
    told.extend(
        passed
            .iter()
            .map(|pdu| (pdu.event_id().to_owned(), Ok(Taken::In))),
    );
    let facts = sent.is_last.then(|| sent.answered(&answer(told)));
    let facts = facts.into_iter().collect();
    let line = receive::line(sent.fed.rooms(), &head.room_id, passed, facts).await;
    // Each by itself is told what is wrong.
    let line = line.unwrap_or_else(|error| {
        tracing::debug!(%error, "events that are taken one by one");
        Line::default()
    });
    told.truncate(refused + line.taken);
    Line {
        with_facts: line.with_facts && sent.is_last,
        ..line
    }
}

async fn put_aside_all(
    sent: &Sent<'_>,
    rules: &'static RoomRules,
    offered: Vec<Offered>,
) -> Result<Vec<Told>, MatrixError> {
    // Who is in the room isn't known yet.
    let us = sent.fed.server_name();
    let is_known = |server: &ServerName| server == sent.origin || server == us;
    let (offered, mut told) = heard(sent, rules, offered, true, is_known);
    let (passed, dropped) = checked(sent, rules, offered, false).await;
    told.extend(dropped);
    for pdu in passed {
        let outcome = wait_aside(sent, &pdu, INBOX_WHILE_JOINING).await?;
        told.push((pdu.event_id().to_owned(), outcome));
    }
    Ok(told)
}
