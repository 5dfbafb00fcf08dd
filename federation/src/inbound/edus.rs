//! Data units of a transaction: typing, presence, read receipts, messages to devices, changes of devices; other types
//! are ignored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use rhizome_protocol::Membership;
use rhizome_rooms::{access, thread};
use rhizome_storage::{DELIVERED, Fact, Receipt, RoomHead, RoomNo, UserNo, is_public_receipt};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::transactions::edu::Edu, serde::Raw,
};
use serde::Deserialize;

use super::{notes::Notes, presence, to_device};
use crate::{
    Federation, MatrixError, acl,
    devices::incoming::{self, Update},
};

/// Typing of other servers' users ends by itself after this, unless it is repeated.
const TYPING: Duration = Duration::from_secs(30);
/// The most bytes of an id in a receipt.
const MAX_TEXT: usize = 255;
/// The most receipts, and rooms of receipts, of one transaction that are looked at.
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
type Receipts = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, ClaimedReceipt>>>;

#[derive(Deserialize)]
struct ClaimedReceipt {
    event_ids: Vec<OwnedEventId>,
    #[serde(default)]
    data: ReceiptData,
}

#[derive(Deserialize, Default)]
struct ReceiptData {
    ts: Option<i64>,
    thread_id: Option<String>,
}

/// The rooms that a transaction names, each looked at once: how long that takes is up to the room's ACL.
#[derive(Default)]
struct Named(HashMap<OwnedRoomId, Option<Arc<RoomHead>>>);

impl Named {
    /// The room, if we are in it and its ACL lets `origin` in.
    async fn open(
        &mut self,
        fed: &Federation,
        origin: &ServerName,
        room_id: &RoomId,
    ) -> Result<Option<Arc<RoomHead>>, MatrixError> {
        if let Some(known) = self.0.get(room_id) {
            return Ok(known.clone());
        }
        let room = open_room(fed, origin, room_id).await?;
        self.0.insert(room_id.to_owned(), room.clone());
        Ok(room)
    }
}

/// Applies what is understood and allowed, and gives what is to be written; the rest leaves a line in the
/// log.
///
/// # Errors
/// Those of the database; 429 for a server that sends too many messages to devices or changes of devices.
pub(super) async fn apply(
    fed: &Federation,
    origin: &ServerName,
    edus: &[Raw<Edu>],
    notes: &Notes<'_>,
) -> Result<(Vec<Fact>, Vec<Update>), MatrixError> {
    let (mut budget, mut claims) = (MAX_RECEIPTS, Vec::new());
    let (mut messages, mut updates) = (Vec::new(), Vec::new());
    let (mut rooms, mut users) = (Named::default(), presence::MAX_USERS);
    for edu in edus {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(edu.json().get()) else {
            continue;
        };
        notes.edu(&envelope.edu_type);
        match envelope.edu_type.as_str() {
            "m.typing" => match serde_json::from_str(envelope.content.get()) {
                Ok(content) => typing(fed, origin, &mut rooms, &content).await?,
                Err(error) => tracing::debug!(%origin, %error, "malformed m.typing"),
            },
            "m.presence" => presence::take(fed, origin, envelope.content, &mut users).await?,
            "m.receipt" => match serde_json::from_str(envelope.content.get()) {
                Ok(content) => {
                    let into = (&mut budget, &mut claims);
                    receipts(fed, origin, &mut rooms, content, into).await?;
                }
                Err(error) => tracing::debug!(%origin, %error, "malformed m.receipt"),
            },
            "m.direct_to_device" => match serde_json::from_str(envelope.content.get()) {
                Ok(content) => messages.push(content),
                Err(error) => tracing::info!(%origin, %error, "malformed m.direct_to_device"),
            },
            kind @ ("m.device_list_update" | "m.signing_key_update") => {
                updates.extend(incoming::read(origin, kind, envelope.content));
            }
            other => tracing::trace!(%origin, kind = other, "ignored an EDU"),
        }
    }
    if budget == 0 {
        tracing::info!(%origin, "a transaction has more receipts than are looked at");
    }
    if !updates.is_empty() {
        fed.budgets().device_updates(origin, updates.len())?;
    }
    let mut facts = admit(fed, claims).await?;
    if !messages.is_empty() {
        facts.extend(to_device::admit(fed, origin, messages).await?);
    }
    Ok((facts, updates))
}

/// Whether nothing is to be written of these, whatever they say: who types and who is there isn't stored.
pub(super) fn write_nothing(edus: &[Raw<Edu>]) -> bool {
    edus.iter().all(|edu| {
        let envelope = serde_json::from_str::<Envelope<'_>>(edu.json().get());
        envelope.is_ok_and(|envelope| ["m.typing", "m.presence"].contains(&&*envelope.edu_type))
    })
}

/// <https://spec.matrix.org/v1.19/server-server-api/#typing-notifications>
async fn typing(
    fed: &Federation,
    origin: &ServerName,
    rooms: &mut Named,
    typing: &TypingContent,
) -> Result<(), MatrixError> {
    if typing.user_id.server_name() != origin {
        return Ok(());
    }
    if let Some(head) = rooms.open(fed, origin, &typing.room_id).await?
        && (joined(fed, &head, &typing.user_id).await?.is_some()
            || may_be_there(fed, &head, &typing.user_id).await?)
    {
        fed.store()
            .set_typing(head.room, &typing.user_id, typing.types.then_some(TYPING));
    }
    Ok(())
}

/// A receipt of a user of the origin who is in the room.
struct Claim {
    room: RoomNo,
    user: UserNo,
    kind: String,
    event_id: OwnedEventId,
    thread: Option<String>,
    ts: Option<i64>,
}

/// Takes from an EDU what the origin may say at all; `budget` is how much of it is still looked at.
/// <https://spec.matrix.org/v1.19/server-server-api/#receipts>
async fn receipts(
    fed: &Federation,
    origin: &ServerName,
    rooms: &mut Named,
    receipts: Receipts,
    (budget, claims): (&mut usize, &mut Vec<Claim>),
) -> Result<(), MatrixError> {
    let mut spend = || {
        let left = budget.checked_sub(1);
        left.inspect(|left| *budget = *left).is_some()
    };
    for (room_id, mut kinds) in receipts {
        // Only public receipts go between servers.
        kinds.retain(|kind, _| is_public_receipt(kind));
        if kinds.is_empty() {
            continue;
        }
        if !spend() {
            break;
        }
        let Some(head) = rooms.open(fed, origin, &room_id).await? else {
            continue;
        };
        let of_users = kinds.into_iter().flat_map(|(kind, users)| {
            (users.into_iter()).map(move |(user_id, receipt)| (kind.clone(), user_id, receipt))
        });
        for (kind, user_id, receipt) in of_users {
            let Some(event_id) = receipt.event_ids.into_iter().next() else {
                continue;
            };
            let thread = receipt.data.thread_id;
            let short = |text: &str| text.len() <= MAX_TEXT;
            if user_id.server_name() != origin
                || !short(event_id.as_str())
                || !thread.as_deref().is_none_or(short)
                // What has reached devices has in all threads.
                || (kind == DELIVERED && thread.is_some())
            {
                continue;
            }
            if !spend() {
                break;
            }
            let Some(user) = joined(fed, &head, &user_id).await? else {
                continue;
            };
            claims.push(Claim {
                room: head.room,
                user,
                kind,
                event_id,
                thread,
                ts: receipt.data.ts,
            });
        }
    }
    Ok(())
}

/// Leaves out what claims to have reached devices anywhere but in chats of two (docs/delivery.md).
async fn retain_deliveries(fed: &Federation, claims: &mut Vec<Claim>) -> Result<(), MatrixError> {
    let delivered = claims.iter().filter(|claim| claim.kind == DELIVERED);
    let rooms: BTreeSet<RoomNo> = delivered.map(|claim| claim.room).collect();
    if rooms.is_empty() {
        return Ok(());
    }
    let rooms: Vec<RoomNo> = rooms.into_iter().collect();
    let chats = fed.store().rooms_of_two(&rooms).await?;
    claims.retain(|claim| claim.kind != DELIVERED || chats.contains(&claim.room));
    Ok(())
}

/// The claims that are about an event of the room's history, and about the thread that it is in.
async fn admit(fed: &Federation, mut claims: Vec<Claim>) -> Result<Vec<Fact>, MatrixError> {
    retain_deliveries(fed, &mut claims).await?;
    let ids: Vec<_> = claims.iter().map(|claim| claim.event_id.clone()).collect();
    let events = fed.store().events(&ids).await?;
    let events: HashMap<_, _> = (events.iter().filter(|event| event.is_history()))
        .map(|event| (event.pdu.event_id(), event))
        .collect();
    let now = fed.store().clock().now_ms();
    let mut facts = Vec::new();
    for claim in claims {
        let Some(event) = events.get(&*claim.event_id) else {
            continue;
        };
        if event.room != claim.room {
            continue;
        }
        if let Some(name) = &claim.thread
            && !thread::holds(fed.store(), event, name).await?
        {
            continue;
        }
        facts.push(Fact::Receipt(Receipt {
            room: claim.room,
            user: claim.user,
            kind: claim.kind,
            thread: claim.thread,
            event_id: claim.event_id,
            ts: claim.ts.map_or(now, |ts| ts.clamp(0, now)),
        }));
    }
    Ok(facts)
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
    let open = access::server_in_room(fed.store(), room_id, fed.server_name()).await?
        && acl::is_allowed(fed, origin, &head).await?;
    Ok(open.then_some(head))
}

/// Whether it isn't known who is in the room, nor anything of this user, while their server is said to be there.
async fn may_be_there(
    fed: &Federation,
    head: &RoomHead,
    user: &UserId,
) -> Result<bool, MatrixError> {
    if head.partial.is_none() {
        return Ok(false);
    }
    let store = fed.store();
    if let Some(known) = store.known_user(user).await?
        && store.membership(known, head.room).await?.is_some()
    {
        return Ok(false);
    }
    let room = Some(head.room);
    Ok(store.is_said_to_be_in(user.server_name(), room).await?)
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
