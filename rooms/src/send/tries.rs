//! Deciding again what others were quicker with.

use rhizome_storage::{CommitError, Committed, RoomNo, Turn, WriteSet};

use crate::{Rooms, error::Result};

/// After so many vain tries in a row the room is locked before anything is decided: what other processes do to it can't come
/// first then.
pub(crate) const LOST: usize = 3;
/// How often something is decided again for reasons that this may mend.
pub(crate) const MAX_ATTEMPTS: usize = 20;

/// The tries to change a room. Between two of them what was read of the room is void.
pub(crate) struct Tries<'a> {
    rooms: &'a Rooms,
    room: RoomNo,
    done: usize,
    turn: Option<Turn>,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(rooms: &'a Rooms, room: RoomNo) -> Self {
        Self {
            rooms,
            room,
            done: 0,
            turn: None,
        }
    }

    /// Whether to try once more. What decides then must write nothing but by [`Tries::commit`].
    pub(crate) async fn again(&mut self) -> Result<bool> {
        self.turn = None;
        if self.done >= MAX_ATTEMPTS {
            return Ok(false);
        }
        if self.done >= LOST {
            self.turn = self.rooms.store().take_turn(self.room).await?;
        }
        self.done += 1;
        Ok(true)
    }

    /// Commits what was decided in this try.
    pub(crate) async fn commit(&mut self, set: WriteSet) -> Result<Committed, CommitError> {
        match self.turn.take() {
            Some(turn) => turn.commit(set).await,
            None => self.rooms.store().commit(set).await,
        }
    }
}
