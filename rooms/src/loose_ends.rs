//! Rooms with many loose ends, and the event that ties them up.
//!
//! What others say at the same time forks a room's history; whoever speaks next ties the ends together. Where our
//! users only listen, ends can stay that nobody else knows of, and each event that comes is decided upon all of them. Then
//! one of our users sends an event that says nothing, as other homeservers have it do: clients aren't shown it, and it
//! is nothing to be notified of.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rhizome_protocol::{
    Object, Pdu,
    draft::Draft,
    power::{Level, Power},
};
use rhizome_storage::{RoomHead, RoomNo};
use ruma::{OwnedUserId, UserId};

use crate::{Rooms, error::Result, state::powers_at};

/// The type of the event that says nothing.
const KIND: &str = "org.matrix.dummy_event";
/// More ends than this are many.
pub const MANY: usize = 10;
/// How many rooms are noted. Who finds no place is noted with the next event.
const MAX_NOTED: usize = 1_000;
/// How many of a room's local members are looked at.
const LOOKED_AT: usize = 100;

/// Whether this is an event that says nothing.
pub fn is_dummy(pdu: &Pdu) -> bool {
    pdu.kind() == KIND && pdu.state_key().is_none()
}

/// An event of `sender`'s that says nothing.
pub fn dummy(head: &RoomHead, sender: OwnedUserId) -> Draft {
    Draft {
        room_id: Some(head.room_id.clone()),
        sender,
        kind: KIND.to_owned(),
        state_key: None,
        content: Object::new(),
        redacts: None,
    }
}

/// Rooms that had many ends when something came.
#[derive(Default)]
pub(crate) struct Noted(Mutex<HashSet<RoomNo>>);

impl Noted {
    fn rooms(&self) -> MutexGuard<'_, HashSet<RoomNo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came into a room that is so.
    pub(crate) fn note(&self, head: &RoomHead) {
        if head.extremities.len() <= MANY {
            return;
        }
        let mut rooms = self.rooms();
        if rooms.len() < MAX_NOTED {
            rooms.insert(head.room);
        }
    }
}

/// The rooms that have been noted since this was asked last, as far as this process has received what came.
pub fn take_noted(rooms: &Rooms) -> HashSet<RoomNo> {
    std::mem::take(&mut *rooms.loose_ends().rooms())
}

/// Users of ours who may tie up the room's ends, at most so many: those who are there and have the power, and are kept
/// from nothing.
///
/// # Errors
///
/// The database's.
pub async fn who_may(rooms: &Rooms, head: &RoomHead, most: usize) -> Result<Vec<OwnedUserId>> {
    let store = rooms.store();
    let Some(at) = head.snapshot else {
        return Ok(Vec::new());
    };
    let state = powers_at(store, at).await?;
    let there = store.joined_of_server(head.room, rooms.server_name(), LOOKED_AT);
    let mut users = store.users(&there.await?).await?;
    {
        let power = Power::of(head.rules, &state);
        let needed = Level::Int(power.event(KIND, false));
        users.retain(|user| power.user(user) >= needed);
    }
    let mut may = Vec::new();
    for user in users {
        if may.len() == most {
            break;
        }
        if is_free(rooms, &user).await? {
            may.push(user);
        }
    }
    Ok(may)
}

/// Whether nothing keeps a user from sending.
async fn is_free(rooms: &Rooms, user: &UserId) -> Result<bool> {
    let store = rooms.store();
    if store.blocks().await?.user(user) {
        return Ok(false);
    }
    let account = store.account(user).await?;
    let is_kept =
        account.is_some_and(|account| account.deactivated || account.locked || account.suspended);
    Ok(!is_kept)
}
