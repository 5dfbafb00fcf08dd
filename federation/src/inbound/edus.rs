//! Ephemeral data of a transaction: typing and read receipts; other types are ignored.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rhizome_protocol::Membership;
use rhizome_rooms::read;
use rhizome_storage::{Fact, RoomHead, UserNo};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::transactions::edu::Edu, serde::Raw,
};
use serde::Deserialize;

use super::guard;
use crate::{Federation, MatrixError};

/// Typing of other servers' users ends by itself after this, unless it is repeated.
const TYPING: Duration = Duration::from_secs(30);
/// The most bytes of an id in a receipt.
const MAX_TEXT: usize = 255;
/// The most receipts of one transaction that are kept.
const MAX_RECEIPTS: usize = 1_000;

#[derive(Deserialize)]
struct Envelope<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
struct TypingContent {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    #[serde(rename = "typing")]
    types: bool,
}

/// Room → receipt type → user → receipt.
type Receipts = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, Receipt>>>;

#[derive(Deserialize)]
struct Receipt {
    event_ids: Vec<OwnedEventId>,
    #[serde(default)]
    data: ReceiptData,
}

#[derive(Deserialize, Default)]
struct ReceiptData {
    ts: Option<i64>,
    thread_id: Option<String>,
}

/// Applies what is understood and allowed, and gives what is to be written; the rest leaves a line in the
/// log.
///
/// # Errors
/// Those of the database only.
pub(super) async fn apply(
    fed: &Federation,
    origin: &ServerName,
    edus: &[Raw<Edu>],
) -> Result<Vec<Fact>, MatrixError> {
    let mut facts = Vec::new();
    for edu in edus {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(edu.json().get()) else {
            continue;
        };
        match envelope.edu_type.as_str() {
            "m.typing" => match serde_json::from_str(envelope.content.get()) {
                Ok(content) => typing(fed, origin, &content).await?,
                Err(error) => tracing::debug!(%origin, %error, "malformed m.typing"),
            },
            "m.receipt" => match serde_json::from_str(envelope.content.get()) {
                Ok(content) => receipts(fed, origin, content, &mut facts).await?,
                Err(error) => tracing::debug!(%origin, %error, "malformed m.receipt"),
            },
            other => tracing::trace!(%origin, kind = other, "ignored an EDU"),
        }
    }
    Ok(facts)
}

/// <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>
async fn typing(
    fed: &Federation,
    origin: &ServerName,
    typing: &TypingContent,
) -> Result<(), MatrixError> {
    if typing.user_id.server_name() != origin {
        return Ok(());
    }
    if let Some(head) = open_room(fed, origin, &typing.room_id).await?
        && joined(fed, &head, &typing.user_id).await?.is_some()
    {
        fed.store()
            .set_typing(head.room, &typing.user_id, typing.types.then_some(TYPING));
    }
    Ok(())
}

/// <https://spec.matrix.org/v1.19/server-server-api/#receipts>
async fn receipts(
    fed: &Federation,
    origin: &ServerName,
    receipts: Receipts,
    facts: &mut Vec<Fact>,
) -> Result<(), MatrixError> {
    for (room_id, kinds) in receipts {
        let Some(head) = open_room(fed, origin, &room_id).await? else {
            continue;
        };
        // Only public read receipts go between servers.
        for (user_id, receipt) in kinds
            .into_iter()
            .filter(|(kind, _)| kind == "m.read")
            .flat_map(|(_, of)| of)
        {
            if user_id.server_name() != origin || facts.len() >= MAX_RECEIPTS {
                continue;
            }
            let short = |text: &str| text.len() <= MAX_TEXT;
            if !receipt.data.thread_id.as_deref().is_none_or(short) {
                continue;
            }
            let (Some(event_id), Some(user)) = (
                receipt
                    .event_ids
                    .into_iter()
                    .next()
                    .filter(|id| short(id.as_str())),
                joined(fed, &head, &user_id).await?,
            ) else {
                continue;
            };
            facts.push(Fact::Receipt {
                room: head.room,
                user,
                kind: "m.read".to_owned(),
                thread: receipt.data.thread_id,
                event_id,
                ts: receipt
                    .data
                    .ts
                    .unwrap_or_else(|| fed.store().clock().now_ms()),
            });
        }
    }
    Ok(())
}

/// The room, if we are in it and its ACL lets `origin` in.
async fn open_room(
    fed: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
) -> Result<Option<Arc<RoomHead>>, MatrixError> {
    let Some(head) = fed.store().room(room_id).await? else {
        return Ok(None);
    };
    let open = read::server_in_room(fed.rooms(), room_id, fed.server_name()).await?
        && guard::is_allowed(fed, origin, &head).await?;
    Ok(open.then_some(head))
}

async fn joined(
    fed: &Federation,
    head: &RoomHead,
    user: &UserId,
) -> Result<Option<UserNo>, MatrixError> {
    let Some(user) = fed.store().known_user(user).await? else {
        return Ok(None);
    };
    let row = fed.store().membership(user, head.room).await?;
    Ok(row
        .is_some_and(|row| row.membership == Membership::Join)
        .then_some(user))
}
