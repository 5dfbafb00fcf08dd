//! A room's history page by page.

pub(super) mod course;

use std::{collections::HashSet, sync::Arc};

use course::{Future, Past, Stored};
use rhizome_rooms::access::EventAccess;
use rhizome_storage::{Direction, EventNo, Pos, StoredEvent};
use ruma::{OwnedEventId, OwnedUserId};

use crate::{
    App, MatrixError,
    history::asked::Asking,
    place::point::HistoryPoint,
    view::{
        bundle::Bundler,
        dress,
        filter::{self, EventFilter},
        gaps,
        reading::Reading,
        scan::{Budget, Ends, Scan, Stop, Wanted},
        seen::Seen,
    },
};

/// Events of a page and where the next one begins; `None` when there is no more.
#[derive(Default)]
pub struct Page {
    /// In the order of the direction.
    pub events: Vec<Seen>,
    /// Where to go on.
    pub next: Option<HistoryPoint>,
}

/// Pages through one room for one reader.
pub struct Pager<'a> {
    /// The context.
    pub app: &'a App,
    /// Room and reader.
    pub reading: &'a Reading,
    /// What to leave out.
    pub filter: &'a EventFilter,
    /// Whose messages the reader doesn't want.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// The last position of which the reader may hear.
    pub end: Pos,
}

impl Pager<'_> {
    fn scan<'s>(&'s self, ends: Ends, limit: usize, budget: &'s Budget) -> Scan<'s> {
        let wanted = Wanted {
            filter: self.filter,
            ignored: self.ignored,
            upto: self.end,
        };
        let Reading { viewer, room } = self.reading;
        let (store, bounds) = (&self.app.store, (limit, budget));
        Scan::new(store, viewer, room.standing, wanted, ends, bounds)
    }

    /// A page towards the past. Where our own history has a gap, other servers are asked for what
    /// belongs there, but not for operators, who look at what is here.
    pub async fn backward(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
    ) -> Result<Page, MatrixError> {
        if self.reading.room.standing.is_operator() {
            return self.backward_here(from, to, limit).await;
        }
        let ends = if self.reading.room.standing.is_member() {
            Ends::Gap
        } else {
            Ends::Nothing
        };
        let budget = Budget::new(self.app.config.max_timeline_bytes);
        let mut scan = self.scan(ends, limit, &budget);
        let at = HistoryPoint {
            place: from.place,
            upto: from.upto.min(self.end),
        };
        let mut course = Past::new(self, at, to);
        let mut asking = Asking::default();
        // What was read before may have ended right at a gap.
        let mut missing = self.missing_before(&self.following(at).await?).await?;
        let more = loop {
            if !missing.is_empty() {
                if !asking.may_go_on() {
                    break true;
                }
                let nothing_yet = scan.scanned() == 0;
                asking
                    .ask(self.app, &self.reading.room.head, &missing, nothing_yet)
                    .await?;
            }
            missing = match scan.run(&mut course).await? {
                Stop::Gap { missing, .. } if !scan.is_full() => missing,
                Stop::Gap { .. } | Stop::Full | Stop::Spent | Stop::HiddenState => break true,
                Stop::Over => break false,
                Stop::Ended => break self.may_be_more(course.at, &mut scan.access).await?,
            };
        };
        let scanned = scan.scanned();
        let events = scan.finish().await?;
        // Who filters may be told to go on where no more will come: other servers only know when a page is empty, and
        // clients that filter count on a place with each that isn't.
        let is_filtered = !events.is_empty() && scanned > events.len() && !self.filter.is_empty();
        Ok(Page {
            events,
            next: (more || is_filtered).then_some(course.at),
        })
    }

    /// A page towards the past of what is here: nobody is asked for what isn't.
    pub async fn backward_here(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
    ) -> Result<Page, MatrixError> {
        let budget = Budget::new(self.app.config.max_timeline_bytes);
        let mut scan = self.scan(Ends::Nothing, limit, &budget);
        let at = HistoryPoint {
            place: from.place,
            upto: from.upto.min(self.end),
        };
        let mut course = Past::new(self, at, to);
        let stop = scan.run(&mut course).await?;
        Ok(Page {
            events: scan.finish().await?,
            next: (!matches!(stop, Stop::Over | Stop::Ended)).then_some(course.at),
        })
    }

    /// A page towards the present. Where it ends, more may come: only when nothing has is there no more.
    pub async fn forward(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
    ) -> Result<Page, MatrixError> {
        let budget = Budget::new(self.app.config.max_timeline_bytes);
        let mut scan = self.scan(Ends::Nothing, limit, &budget);
        let mut course = Future::new(self, from, to);
        let more = match scan.run(&mut course).await? {
            Stop::Over => false,
            Stop::Ended => scan.scanned() > 0 && self.reading.room.goes_on(self.end),
            Stop::Full | Stop::Spent | Stop::HiddenState | Stop::Gap { .. } => true,
        };
        Ok(Page {
            events: scan.finish().await?,
            next: more.then_some(course.at),
        })
    }

    /// The event that follows a place, if there is one.
    async fn following(&self, at: HistoryPoint) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        if at.place.is_none() && at.upto >= self.end {
            return Ok(Vec::new());
        }
        self.stored(at, Direction::Forward, 1).await
    }

    /// Whether more may be found one day before a place where our own history begins: unless it is the room's
    /// beginning, or what lies there isn't the reader's to see.
    async fn may_be_more(
        &self,
        at: HistoryPoint,
        access: &mut EventAccess<'_>,
    ) -> Result<bool, MatrixError> {
        let first = self.following(at).await?;
        let missing = self.missing_before(&first).await?;
        match first.first() {
            Some(first) if !missing.is_empty() => Ok(access.sees_before(first).await?),
            _ => Ok(false),
        }
    }

    /// What we lack right before some events, if others may fill it in.
    async fn missing_before(
        &self,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<OwnedEventId>, MatrixError> {
        let Reading { viewer, room } = self.reading;
        if !room.standing.is_member() {
            return Ok(Vec::new());
        }
        let gaps = gaps::gaps_before(&self.app.store, viewer, events).await?;
        Ok(gaps.into_values().flatten().collect())
    }

    /// Adds what relates to some events of the room.
    pub async fn bundle(&self, events: &mut [Seen]) -> Result<(), MatrixError> {
        let budget = Budget::with(self.app.config.max_timeline_bytes, &*events);
        let bundler = Bundler {
            store: &self.app.store,
            viewer: &self.reading.viewer,
            ignored: self.ignored,
            budget: &budget,
        };
        bundler.in_room(self.reading, self.end, events).await
    }

    /// With lazy loading: the members who sent these events, as they were at their first event here.
    pub async fn lazy_members(&self, events: &[Seen]) -> Result<Vec<Seen>, MatrixError> {
        if filter::lazy_members(self.filter).is_none() {
            return Ok(Vec::new());
        }
        let (mut done, mut entries) = (HashSet::new(), Vec::new());
        for seen in events {
            let sender = seen.event.pdu.sender();
            if let (true, Some(before)) = (done.insert(sender), seen.event.state_before) {
                entries.push((before, "m.room.member", sender.as_str()));
            }
        }
        let store = &self.app.store;
        let found = store.state_entries_at(&entries).await?;
        let nos: Vec<EventNo> = found.into_iter().flatten().collect();
        dress::as_state(store, store.events_by_no(&nos).await?).await
    }
}

impl Stored for Pager<'_> {
    async fn stored(
        &self,
        at: HistoryPoint,
        direction: Direction,
        size: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let (store, room) = (&self.app.store, self.reading.room.head.room);
        Ok(match (direction, at.place) {
            (Direction::Forward, None) => store.live_after(room, at.upto, self.end, size).await?,
            (Direction::Forward, Some(_)) => {
                store
                    .history(room, at.token(), direction, size, self.end)
                    .await?
            }
            (Direction::Backward, _) => {
                store
                    .history(room, at.token(), direction, size, at.upto)
                    .await?
            }
        })
    }
}
