//! The one door for events of local users.
//!
//! [`send`] puts the draft into its room's queue; the room's worker (`worker`) decides it upon the
//! events before it and answers when it is durable.
//!
//! A transaction id is settled by the commit: its row is unique, so a repetition gets the first event's
//! id, also across processes. A refusal is given only after the transaction was looked up, so that a
//! repetition is answered alike when the sender has lost the right to send in between.

pub(crate) mod batch;
mod choose;
pub(crate) mod queue;
mod signed;
pub(crate) mod tries;
pub(crate) mod view;
mod worker;

use std::sync::Arc;

use rhizome_protocol::{Membership, Pdu, draft::Draft};
use rhizome_storage::{
    CommitError, DelayId, DelayedChange, DelayedStep, Fact, RoomHead, TxnKey, UserNo,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};
use tokio::sync::oneshot;

use crate::{
    Error, Rooms,
    error::Result,
    send::{
        batch::{Batch, Tip},
        view::View,
        worker::work,
    },
};

pub use signed::{Prepared, prepare_to_sign};

/// How an event is sent, beside what it says.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// The client's transaction: the same again gives the same event.
    pub txn: Option<TxnKey>,
    /// Milliseconds since 1970, if it isn't to be now.
    pub origin_server_ts: Option<i64>,
    /// For how many milliseconds it is sticky.
    pub sticky_ms: Option<u32>,
    /// It was scheduled before: that it is sent now is written down with it.
    pub delayed: Option<Delayed>,
    /// The state that it is to replace: if something else is so by the time that it is decided, it isn't sent
    /// ([`Error::Replaced`]).
    pub replaces: Option<OwnedEventId>,
}

/// A delayed event that is sent: only if it is still scheduled when it is stored ([`Error::NotScheduled`]). That, and not
/// whether somebody looked before, keeps it from being sent twice.
#[derive(Debug, Clone)]
pub struct Delayed {
    /// Which.
    pub id: DelayId,
    /// Whose.
    pub user: UserNo,
    /// When it has to be due, if that matters: not where its user wants it to be sent whenever that is.
    pub due_ms: Option<i64>,
}

impl Delayed {
    /// That it is sent as this event.
    pub(crate) fn sent(&self, event_id: OwnedEventId, now_ms: i64) -> Fact {
        Fact::from(DelayedChange {
            user: self.user,
            id: self.id.clone(),
            step: DelayedStep::Sent {
                due_ms: self.due_ms,
                event_id,
                now_ms,
            },
        })
    }
}

/// An event that is durably in its room.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Whether this call made it. `false`: the transaction was done before, or the state was so already.
    pub fresh: bool,
}

/// A draft that waits for its turn.
pub(crate) struct Job {
    pub(crate) draft: Draft,
    pub(crate) options: SendOptions,
    reply: oneshot::Sender<Result<Sent>>,
}

impl Job {
    pub(crate) fn tell(self, told: Result<Sent>) {
        // A sender who has gone away doesn't hear it; an event that was stored stands.
        let _ = self.reply.send(told);
    }
}

/// Sends an event of a local user and returns when it is durable.
///
/// A state event that says what its sender said last (same type, state key and content) isn't repeated:
/// the answer is the event that stands.
pub async fn send(rooms: &Rooms, draft: Draft, options: SendOptions) -> Result<Sent> {
    let room_id = require_own(rooms, &draft)?.clone();
    let head = known_room(rooms, &room_id).await?;
    let queue = rooms.queues().of(head.room);
    let (reply, answer) = oneshot::channel();
    let job = Job {
        draft,
        options,
        reply,
    };
    if queue.add(job)? {
        // A task of its own: it works for all who wait, so it must not end with this caller's patience.
        tokio::spawn(work(rooms.clone(), room_id, queue));
    }
    answer.await.unwrap_or_else(|_| {
        Err(Error::Store(rhizome_storage::Error::Failed(
            "the sender of this room failed".into(),
        )))
    })
}

/// The room of what may be a draft of a local user.
fn require_own<'a>(rooms: &Rooms, draft: &'a Draft) -> Result<&'a OwnedRoomId> {
    let room_id = draft
        .room_id
        .as_ref()
        .ok_or_else(|| Error::Invalid("No room given".into()))?;
    if !rooms.is_local(&draft.sender) {
        return Err(Error::Denied(format!(
            "{} is not a user of this server",
            draft.sender
        )));
    }
    if draft.kind == "m.room.create" {
        return Err(Error::Invalid("A room is created once only".into()));
    }
    Ok(room_id)
}

/// Decides and signs an event without storing it: whether it could be sent now.
pub async fn prepare(rooms: &Rooms, draft: &Draft) -> Result<Pdu> {
    let room_id = draft
        .room_id
        .as_deref()
        .ok_or_else(|| Error::Invalid("No room given".into()))?;
    let head = known_room(rooms, room_id).await?;
    let mut batch = Batch::upon(rooms, Tip::of(rooms, &head, View::default()).await?);
    batch
        .look_at(
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &draft.content,
        )
        .await?;
    batch.decide(draft, rooms.store().clock().now_ms())
}

/// The room's head, if this server takes part in the room, or did.
pub(crate) async fn known_room(rooms: &Rooms, room_id: &RoomId) -> Result<Arc<RoomHead>> {
    match rooms.store().room(room_id).await? {
        Some(head) if head.snapshot.is_some() => Ok(head),
        _ => Err(Error::UnknownRoom(room_id.to_owned())),
    }
}

/// The servers that must get an event: those in the room before it, and the target's, which a leave or a ban
/// may be about although it isn't in the room. An invite has been there: it was signed there, or else it
/// wouldn't be in the room.
pub(crate) fn send_to(
    rooms: &Rooms,
    servers: &[OwnedServerName],
    pdu: &Pdu,
) -> Option<Vec<OwnedServerName>> {
    let mut to = servers.to_vec();
    if pdu.kind() == "m.room.member" && pdu.membership() != Some(Membership::Invite) {
        let target = pdu
            .state_key()
            .and_then(|key| <&ruma::UserId>::try_from(key).ok());
        if let Some(target) = target.map(|user| user.server_name().to_owned())
            && target != rooms.server_name()
            && !to.contains(&target)
        {
            to.push(target);
        }
    }
    (!to.is_empty()).then_some(to)
}

/// What a refused commit means to the caller, when deciding again doesn't help.
pub(crate) fn commit_error(error: CommitError) -> Error {
    match error {
        CommitError::StateMoved { .. } | CommitError::Orphaned(_) => Error::Contended,
        CommitError::DelayedMoved(_) => Error::NotScheduled,
        CommitError::AliasTaken(alias) => Error::AliasTaken(alias.to_string()),
        error @ CommitError::NoticesElsewhere(_) => Error::Taken(error.to_string()),
        error @ CommitError::TurnOver => {
            Error::Store(rhizome_storage::Error::Busy(error.to_string()))
        }
        CommitError::Store(error) => Error::Store(error),
        other => Error::Store(rhizome_storage::Error::Failed(other.to_string())),
    }
}
