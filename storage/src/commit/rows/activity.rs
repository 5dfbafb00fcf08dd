//! What a group's events do to rooms as wholes: where they are in lists, and what is said of them.

use std::collections::{BTreeSet, HashMap};

use super::{Found, Maker, Planned, events_of};
use crate::commit::Job;
use crate::commit::decide::GroupState;
use crate::rooms::summary::{is_activity, is_summarised};
use crate::{EventNo, RoomNo};

/// Rooms of whose summary a part changes, by a change of their state or of what an event of it says.
pub(super) fn summarised(
    accepted: &[(usize, &Job)],
    redacted: &HashMap<EventNo, EventNo>,
    found: &Found,
) -> BTreeSet<RoomNo> {
    let mut rooms = BTreeSet::new();
    for (_, job) in accepted {
        let writes = job.set.rooms.iter().zip(&job.gathered.rooms);
        let changed = writes.filter(|(_, gathered)| gathered.summarised);
        rooms.extend(changed.map(|(write, _)| write.room));
    }
    if !redacted.is_empty() {
        let stored = found.targets.values();
        let stored = stored.map(|target| (target.room, target.no, &target.pdu));
        let new = events_of(accepted).map(|(room, event)| (room, event.no, &event.pdu));
        let emptied = stored
            .chain(new)
            .filter(|(_, no, pdu)| redacted.contains_key(no) && is_summarised(pdu));
        rooms.extend(emptied.map(|(room, ..)| room));
    }
    rooms
}

impl Maker<'_> {
    /// The offset of the last activity in each room that has any. The first event of a room that we come into stands
    /// for what was before.
    pub(super) fn bumps(&self, known: &GroupState) -> HashMap<RoomNo, i64> {
        let mut bumps = HashMap::new();
        for (planned, offset) in self.plan.log.iter().zip(1_i64..) {
            let Planned::Event { job, room, event } = *planned else {
                continue;
            };
            let write = self.job(job).and_then(|job| job.set.rooms.get(room));
            let Some((room, event)) =
                write.and_then(|write| Some((write.room, write.events.get(event)?)))
            else {
                continue;
            };
            if is_activity(event.pdu.kind()) {
                bumps.insert(room, offset);
            } else if known.created.contains(&room) {
                bumps.entry(room).or_insert(offset);
            }
        }
        bumps
    }
}
