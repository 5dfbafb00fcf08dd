//! A room's timeline: what is in it, and where it must begin.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_rooms::access::Standing;
use rhizome_storage::{EventNo, Pos, RoomNo, Store, StoredEvent};

use super::Loader;
use crate::{
    MatrixError,
    view::{
        bundle::{Bundler, Piece},
        client_event,
        filter::{self, DEFAULT_TIMELINE},
        scan::{Course, Ends, Scan, Stop, Wanted},
        seen::Seen,
    },
};

/// A timeline.
#[derive(Default, Debug)]
pub struct Timeline {
    /// Its events, oldest first.
    pub events: Vec<Seen>,
    /// Whether something was left out before them.
    pub limited: bool,
    /// The position right before the first event: where paging backwards goes on.
    pub before: Pos,
    /// For whom it was read, and up to where.
    pub(in crate::sync) reader: Option<(Standing, Pos)>,
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

/// Towards the past, in the order in which things came here.
struct Arrivals<'a> {
    store: &'a Store,
    room: RoomNo,
    after: Pos,
    end: Pos,
}

impl Course for Arrivals<'_> {
    async fn chunk(&self, size: usize) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let (after, end) = (self.after, self.end);
        let mut chunk = self
            .store
            .room_timeline(self.room, after, end, size)
            .await?;
        chunk.reverse();
        Ok(chunk)
    }

    fn pass(&mut self, event: &StoredEvent) {
        self.end = event.pos().map_or(self.end, |pos| Pos(pos.0 - 1));
    }
}

impl Loader<'_> {
    /// The timeline between two positions. `known` are the newest events of that span (`complete`:
    /// all of them) if they have been read already. A gap in the history that we have is a gap in the
    /// timeline: nothing from before it is told, and paging back from there asks other servers. So is a
    /// change of state that is hidden from the reader, who was away: the state at the timeline's start
    /// is one that holds for all of it.
    pub(in crate::sync) async fn timeline(
        &self,
        room: RoomNo,
        standing: &Standing,
        span: (Pos, Pos),
        known: (&[Arc<StoredEvent>], bool),
    ) -> Result<Timeline, MatrixError> {
        let limit = filter::limit(&self.ask.filter.room.timeline, DEFAULT_TIMELINE);
        self.newest(room, standing, span, known, limit).await
    }

    /// The same with at most `limit` events.
    pub(in crate::sync) async fn newest(
        &self,
        room: RoomNo,
        standing: &Standing,
        (after, upto): (Pos, Pos),
        (known, complete): (&[Arc<StoredEvent>], bool),
        limit: usize,
    ) -> Result<Timeline, MatrixError> {
        let section = &self.ask.filter.room.timeline;
        let wanted = Wanted {
            filter: section,
            ignored: self.ignored,
            upto,
        };
        let bounds = (limit, &self.budget);
        let ends = Ends::GapOrHiddenState;
        let mut scan = Scan::new(self.store, self.viewer, *standing, wanted, ends, bounds);
        let mut course = Arrivals {
            store: self.store,
            room,
            after,
            end: upto,
        };
        let newest_first = known.iter().rev().cloned().collect();
        let stop = scan.run_from(&mut course, newest_first, complete).await?;
        let mut events = scan.finish().await?;
        events.reverse();
        let first = events.first().and_then(|seen| seen.event.pos());
        // Paging back begins at the gap, whether or not what follows it is shown.
        let start = match stop {
            Stop::Gap { at, .. } => at.or(first),
            _ => first,
        };
        Ok(Timeline {
            events,
            limited: stop != Stop::Ended,
            before: start.map_or(upto, |pos| Pos(pos.0 - 1)),
            reader: Some((*standing, upto)),
        })
    }

    /// Adds to the events of an answer's timelines what relates to them, where something was left out before them: what
    /// the client isn't told by the events themselves.
    pub(in crate::sync) async fn bundle<'t>(
        &self,
        timelines: impl Iterator<Item = &'t mut Timeline>,
    ) -> Result<(), MatrixError> {
        let pieces = timelines.filter(|timeline| timeline.limited);
        let pieces = pieces.filter_map(|timeline| {
            let (standing, upto) = timeline.reader?;
            Some(Piece {
                standing,
                upto,
                events: &mut timeline.events,
            })
        });
        let bundler = Bundler {
            store: self.store,
            viewer: self.viewer,
            ignored: self.ignored,
            budget: &self.budget,
        };
        bundler.bundle(pieces.collect()).await
    }

    /// Lets the timeline begin after the last of its state events that would undo what a client is told in
    /// `state`, which it applies before them: one whose entry is another in the end, by a change that the
    /// timeline doesn't show (hidden by the filter or the history's visibility, or made by a merge of
    /// forks). `undoing` names those among the timeline's last events of each entry. `left`: whether the reader is told
    /// of a room that they aren't in any more.
    pub(in crate::sync) fn begin_truly<F>(&self, timeline: &mut Timeline, left: bool, undoing: F)
    where
        F: FnOnce(std::vec::IntoIter<EventNo>) -> HashSet<EventNo>,
    {
        if self.ask.state_after {
            return;
        }
        let mut last: HashMap<(&str, &str), EventNo> = HashMap::new();
        for event in timeline.events.iter().map(|seen| &seen.event) {
            // That they left is told, whatever became of the room.
            let own = left && client_event::is_own_membership(event, &self.viewer.user_id);
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
