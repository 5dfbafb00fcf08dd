//! Events that can't be decided yet wait in the durable inbox.

use rhizome_protocol::Pdu;
use rhizome_storage::InboxEvent;
use ruma::ServerName;

use crate::{Federation, MatrixError};

/// How many events of one server may wait in the inbox.
const INBOX_PER_ORIGIN: usize = 5_000;
/// The same for a server that isn't in the event's room, as far as we know: its join may be under way to us.
const INBOX_PER_STRANGER: usize = 20;

/// What was made of an event that isn't refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbound) enum Taken {
    /// It is news, or waits.
    In,
    /// It is known, or withheld.
    Away,
}

/// How many events of a server may wait in the inbox: of one that is in their room, or of a stranger.
pub(in crate::inbound) fn may_wait(is_member: bool) -> usize {
    if is_member {
        INBOX_PER_ORIGIN
    } else {
        INBOX_PER_STRANGER
    }
}

/// Keeps an event in the inbox, of this origin at most so many.
pub(in crate::inbound) async fn put_aside(
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
