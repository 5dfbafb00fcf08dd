//! Rooms whose state isn't known in full: whether a write stands in them, and which events are decided upon that.

use std::collections::{BTreeSet, HashMap};

use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::engine::trouble::Trouble;
use crate::{CommitError, Error, EventNo, Partial, Placement, RoomHead, RoomNo, RoomWrite};

/// What a group of write sets does in them.
#[derive(Debug, Default)]
pub(super) struct PartialRooms {
    /// Of joins whose rooms are to be completed: how many stored events rest upon them.
    counts: HashMap<EventNo, usize>,
    /// Events of this group that were decided upon partial state, and the join that it is partial by.
    pub(super) events: Vec<(EventNo, EventNo)>,
    /// Rooms that were partial by a join that they aren't by any more.
    pub(super) over: BTreeSet<RoomNo>,
    /// Rooms that have become partial, or complete.
    pub(super) moved: BTreeSet<RoomNo>,
}

impl PartialRooms {
    /// Reads how many events rest upon the joins whose rooms these writes complete. Call with the rooms locked.
    pub(super) async fn look_up<'a>(
        &mut self,
        tx: &mut Tx,
        writes: impl Iterator<Item = &'a RoomWrite>,
    ) -> Result<(), Trouble> {
        let joins: BTreeSet<EventNo> = writes
            .filter_map(|write| Some(write.completes()?.join))
            .collect();
        if joins.is_empty() {
            return Ok(());
        }
        let query = tx
            .sql(
                "SELECT joined, COUNT(*) AS events FROM partial_event \
                 WHERE joined IN NUMBERS($1) GROUP BY joined",
            )
            .numbers(joins);
        for row in tx.rows(query).await? {
            self.counts.insert(row.get("joined")?, row.get("events")?);
        }
        Ok(())
    }

    /// Whether the room is as partial as the write says. `version`: of its state.
    pub(super) fn check(
        &self,
        write: &RoomWrite,
        head: Option<&RoomHead>,
        version: i64,
    ) -> Result<(), CommitError> {
        let partial = head.and_then(|head| head.partial);
        let stands = match &write.partial {
            Partial::Nothing => true,
            Partial::Upon(join) => partial == Some(*join),
            Partial::Begins(_) | Partial::Ends if write.current.is_some() => true,
            Partial::Completes(completing) if write.current.is_some() => {
                let stored = self.counts.get(&completing.join).copied();
                let beside = self.events.iter();
                partial == Some(completing.join)
                    && stored.unwrap_or_default() == completing.again.len()
                    && !beside.clone().any(|(_, join)| *join == completing.join)
            }
            _ => {
                let what = "a room becomes partial, or complete, with a state of its own";
                return Err(CommitError::Store(Error::broken(what)));
            }
        };
        if stands {
            return Ok(());
        }
        Err(CommitError::StateMoved {
            room: write.room,
            now: version,
        })
    }

    /// The write was accepted.
    pub(super) fn apply(&mut self, write: &RoomWrite, head: &mut RoomHead) {
        let now = match &write.partial {
            Partial::Nothing | Partial::Upon(_) => head.partial,
            Partial::Begins(join) => Some(join.join),
            Partial::Ends | Partial::Completes(_) => None,
        };
        if now != head.partial {
            if head.partial.is_some() {
                self.over.insert(write.room);
            }
            self.moved.insert(write.room);
            head.partial = now;
        }
        if let Some(join) = now {
            let placed = write.events.iter();
            let placed = placed.filter(|event| event.placement != Placement::Outlier);
            self.events.extend(placed.map(|event| (event.no, join)));
        }
    }
}
