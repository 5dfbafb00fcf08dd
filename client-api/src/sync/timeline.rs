//! A room's timeline: what is in it, and where it must begin.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use rhizome_storage::{EventNo, Pos, RoomNo, StoredEvent};

use super::{room::Loader, window::CHUNK};
use crate::{
    MatrixError,
    view::{
        client_event,
        filter::{self, DEFAULT_TIMELINE},
        redactions,
        seen::{self, Seen, Standing},
        sight::Sight,
    },
};

/// Events looked through for one timeline when the filter or the history's visibility hides most.
const MAX_SCAN: usize = 1_000;

/// A timeline.
#[derive(Default, Debug)]
pub struct Timeline {
    /// Its events, oldest first.
    pub events: Vec<Seen>,
    /// Whether something was left out before them.
    pub limited: bool,
    /// The position right before the first event: where paging backwards goes on.
    pub before: Pos,
}

impl Timeline {
    /// Leaves out the first `count` events.
    fn begin_at(&mut self, count: usize) {
        let mut left_out = self.events.drain(..count);
        if let Some(last) = left_out.next_back() {
            self.limited = true;
            self.before = last.event.pos().unwrap_or(self.before);
        }
    }
}

impl Loader<'_> {
    /// The timeline between two positions. `known` are the newest events of that span (`complete`:
    /// all of them) if they have been read already. A gap in the history that we have is a gap in the
    /// timeline: nothing from before it is told, and paging back from there asks other servers. So is a
    /// change of state that is hidden from the reader, who was away: the state at the timeline's start
    /// is one that holds for all of it.
    pub(super) async fn timeline(
        &self,
        room: RoomNo,
        standing: &Standing,
        after: Pos,
        upto: Pos,
        known: &[Arc<StoredEvent>],
        complete: bool,
    ) -> Result<Timeline, MatrixError> {
        let limit = filter::limit(&self.ask.filter.room.timeline, DEFAULT_TIMELINE);
        let mut sight = Sight::new(self.store, self.viewer, *standing);
        let mut newest_first: Vec<Seen> = Vec::new();
        let (mut chunk, mut complete) = (known.to_vec(), complete);
        let (mut scanned, mut end) = (0, upto);
        let (mut gap, mut hidden, mut heavy) = (None, false, false);
        loop {
            if chunk.is_empty() && !complete {
                let size = if scanned == 0 {
                    CHUNK.min(limit + 1)
                } else {
                    CHUNK
                };
                chunk = self.store.room_timeline(room, after, end, size).await?;
                complete = chunk.len() < size;
            }
            scanned += chunk.len();
            if let Some(pos) = chunk.first().and_then(|event| event.pos()) {
                end = Pos(pos.0 - 1);
            }
            let gaps = seen::gaps_before(self.store, self.viewer, &chunk).await?;
            while let Some(event) = chunk.pop() {
                if newest_first.len() > limit {
                    break;
                }
                let (no, pos) = (event.no, event.pos());
                hidden = !self.take(event, &mut sight, &mut newest_first).await?;
                if hidden {
                    break;
                }
                if gaps.contains_key(&no) && newest_first.len() <= limit {
                    gap = pos;
                    break;
                }
                heavy = self.is_heavy() && !newest_first.is_empty();
                if heavy {
                    break;
                }
            }
            let enough = newest_first.len() > limit || gap.is_some() || hidden || heavy;
            if enough || complete || scanned >= MAX_SCAN {
                break;
            }
        }
        // More than was asked for, or not all of the span was looked through.
        let limited = newest_first.len() > limit || gap.is_some() || hidden || heavy || !complete;
        newest_first.truncate(limit);
        newest_first.reverse();
        seen::dress(self.store, &mut newest_first).await?;
        let first = newest_first.first().and_then(|seen| seen.event.pos());
        let before = gap.or(first).map_or(upto, |pos| Pos(pos.0 - 1));
        Ok(Timeline {
            events: newest_first,
            limited,
            before,
        })
    }

    /// Takes an event if the reader may see it and wants it. `false`: it is a change of state that the
    /// reader may not see, so what has been taken can't go on to its past.
    async fn take(
        &self,
        event: Arc<StoredEvent>,
        sight: &mut Sight<'_>,
        newest_first: &mut Vec<Seen>,
    ) -> Result<bool, MatrixError> {
        let wanted = self.wants(&event);
        let change = event.pdu.state_key().is_some() && !newest_first.is_empty();
        if !wanted && !change {
            return Ok(true);
        }
        let Some(seen) = sight.look(event).await? else {
            return Ok(!change);
        };
        if wanted && !redactions::withheld(self.store, &seen.event).await? {
            let size = seen.event.pdu.json().len();
            self.bytes.1.fetch_add(size, Ordering::Relaxed);
            newest_first.push(seen);
        }
        Ok(true)
    }

    /// Whether the answer is as large as it may be; each timeline still has its newest event.
    fn is_heavy(&self) -> bool {
        self.bytes.1.load(Ordering::Relaxed) > self.bytes.0
    }

    fn wants(&self, event: &StoredEvent) -> bool {
        filter::wants_event(&self.ask.filter.room.timeline, event)
            && (self.ignored.is_empty()
                || event.pdu.state_key().is_some()
                || !self.ignored.contains(event.pdu.sender()))
    }

    /// Lets the timeline begin after the last of its state events that would undo what a client is told in
    /// `state`, which it applies before them: one whose entry is another in the end, by a change that the
    /// timeline doesn't show (hidden by the filter or the history's visibility, or made by a merge of
    /// forks). `undoing` names those among the timeline's last events of each entry.
    pub(super) fn begin_truly<F>(&self, timeline: &mut Timeline, undoing: F)
    where
        F: FnOnce(std::vec::IntoIter<EventNo>) -> HashSet<EventNo>,
    {
        if self.ask.state_after {
            return;
        }
        let mut last: HashMap<(&str, &str), EventNo> = HashMap::new();
        for event in timeline.events.iter().map(|seen| &seen.event) {
            // The reader's own is told up to the last one, whatever became of the room.
            let own = client_event::is_own_membership(event, &self.viewer.user_id);
            if let (Some(key), false) = (event.pdu.state_key(), own) {
                last.insert((event.pdu.kind(), key), event.no);
            }
        }
        if last.is_empty() {
            return;
        }
        let last: Vec<EventNo> = last.into_values().collect();
        let undoing = undoing(last.into_iter());
        let undoes = |seen: &Seen| undoing.contains(&seen.event.no);
        let count = timeline.events.iter().rposition(undoes);
        timeline.begin_at(count.map_or(0, |at| at + 1));
    }
}
