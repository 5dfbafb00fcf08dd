//! Deciding again what others were quicker with.

use std::time::Duration;

use rhizome_storage::{CommitError, Committed, RoomNo, Turn, WriteSet};

use crate::{Rooms, error::Result};

/// After so many vain tries in a row the room is locked before anything is decided: what other processes do to it can't come
/// first then.
const LOST: usize = 3;
/// How often something is decided again for reasons that this may mend.
pub(crate) const MAX_ATTEMPTS: usize = 20;

/// Whether the room is to be locked before the next try, after so many vain ones of which deciding the last took so long. Who
/// can't be quick, because another server has to be asked or there is much to resolve, would hold up all that is written here.
pub(crate) fn wants_turn(lost: usize, took: Duration) -> bool {
    lost >= LOST && took < Turn::MOST * 3 / 4
}

/// The tries to change a room. Between two of them what was read of the room is void.
pub(crate) struct Tries<'a> {
    rooms: &'a Rooms,
    room: RoomNo,
    done: usize,
    turn: Option<Turn>,
    /// When this try began, …
    began: Duration,
    /// … and how long deciding took in the last.
    took: Duration,
    /// A turn was over too early: there are no more.
    overran: bool,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(rooms: &'a Rooms, room: RoomNo) -> Self {
        Self {
            rooms,
            room,
            done: 0,
            turn: None,
            began: Duration::ZERO,
            took: Duration::ZERO,
            overran: false,
        }
    }

    /// Whether to try once more. What decides then must write nothing but by [`Tries::commit`].
    pub(crate) async fn again(&mut self) -> Result<bool> {
        self.turn = None;
        if self.done >= MAX_ATTEMPTS {
            return Ok(false);
        }
        if wants_turn(self.done, self.took) && !self.overran {
            self.turn = self.rooms.store().take_turn(self.room).await?;
        }
        self.done += 1;
        self.began = self.now();
        Ok(true)
    }

    /// Commits what was decided in this try.
    pub(crate) async fn commit(&mut self, set: WriteSet) -> Result<Committed, CommitError> {
        self.took = self.now().saturating_sub(self.began);
        let Some(turn) = self.turn.take() else {
            return self.rooms.store().commit(set).await;
        };
        let committed = turn.commit(set).await;
        self.overran |= matches!(committed, Err(CommitError::TurnOver));
        committed
    }

    fn now(&self) -> Duration {
        self.rooms.store().clock().monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lost_a_few_times_takes_a_turn_unless_they_are_slow() {
        let quick = Duration::from_millis(20);
        assert!(!wants_turn(LOST - 1, quick));
        assert!(wants_turn(LOST, quick));
        assert!(wants_turn(MAX_ATTEMPTS, quick));
        for slow in [Turn::MOST, Turn::MOST * 5] {
            assert!(!wants_turn(MAX_ATTEMPTS, slow), "{slow:?}");
        }
    }
}
