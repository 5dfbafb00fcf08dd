//! Looking through a room's history for what one reader is to be shown: the one loop behind every page and
//! every timeline.
//!
//! What differs between them is which way it goes ([`Course`]) and what ends it ([`Ends`]). What the reader may
//! see is decided by [`rhizome_rooms::access`], for a chunk of events at a time, so that the number of queries
//! doesn't depend on what the chunk holds.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rhizome_rooms::access::{EventAccess, Standing, Verdict};
use rhizome_storage::{EventNo, Pos, Store, StoredEvent};
use ruma::{OwnedEventId, OwnedUserId};

use crate::{
    MatrixError,
    view::{
        dress,
        filter::{self, EventFilter},
        gaps::gaps_before,
        seen::{Seen, Viewer},
    },
};

/// The most stored events that one request looks at in a room.
///
/// Where a filter or the history's visibility hides nearly everything, a page would read the whole room. A
/// thousand are ten chunks, some tens of milliseconds; whoever wants more goes on from where it stopped.
const MAX_SCAN: usize = 1_000;

/// Events read at once: a page of a hundred, as clients ask for, and the one that tells whether there is more. With one
/// less such a page would read twice.
const CHUNK: usize = 101;

/// A way through a room's history.
pub trait Course {
    /// The next stored events, at most `size`; fewer only where there are no more.
    fn chunk(
        &self,
        size: usize,
    ) -> impl Future<Output = Result<Vec<Arc<StoredEvent>>, MatrixError>> + Send;

    /// Where an event lies that comes next.
    fn place_of(&mut self, _event: &StoredEvent) -> Place {
        Place::Within
    }

    /// Goes past an event that lies within: the scan goes on behind it.
    fn pass(&mut self, event: &StoredEvent);

    /// Whether the end has come; what remains of a chunk is looked through all the same.
    fn is_over(&self) -> bool {
        false
    }
}

/// Where an event lies, seen from a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On it.
    Within,
    /// Not on it, but what comes after may be.
    Beside,
    /// Beyond its end.
    Beyond,
}

/// What one reader wants to be shown.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What to leave out.
    pub filter: &'a EventFilter,
    /// Whose messages the reader doesn't want.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// The last position of which the reader may hear.
    pub upto: Pos,
}

impl Wanted<'_> {
    fn has(&self, event: &StoredEvent) -> bool {
        filter::wants_event(self.filter, event)
            && (self.ignored.is_empty()
                || event.pdu.state_key().is_some()
                || !self.ignored.contains(event.pdu.sender()))
    }
}

/// About how many bytes of events an answer may hold, and holds already. Its rooms share it; each still has its
/// first event.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
}

impl Budget {
    /// For an answer of about this size.
    pub fn new(most: usize) -> Budget {
        Budget {
            most,
            used: AtomicUsize::new(0),
        }
    }

    /// For an answer that holds some events already.
    pub fn with<'s>(most: usize, events: impl IntoIterator<Item = &'s Seen>) -> Budget {
        let budget = Budget::new(most);
        for seen in events {
            budget.take(seen.size());
        }
        budget
    }

    /// So many bytes more.
    pub fn take(&self, size: usize) {
        self.used.fetch_add(size, Ordering::Relaxed);
    }

    /// Whether it holds as much as it may.
    pub fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most
    }
}

/// What ends a scan, beside the limit, the budget and the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Pages: nothing else. A page is full when one more event is stored.
    Nothing,
    /// Pages: a gap in the history that we have.
    Gap,
    /// Timelines: a gap, and a change of state that is hidden from the reader, for a timeline has to go on from
    /// one state. It is full when one more event would be shown.
    GapOrHiddenState,
}

/// Why a scan stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// There is no more history.
    Ended,
    /// The course is over.
    Over,
    /// There is more than was wanted, or than fits.
    Full,
    /// As much as one request may has been looked at.
    Spent,
    /// A change of state is hidden from the reader.
    HiddenState,
    /// Before the event at this position, which has been looked at, we lack these.
    Gap {
        at: Option<Pos>,
        missing: Vec<OwnedEventId>,
    },
}

/// A scan, which can go on where it stopped.
pub struct Scan<'a> {
    store: &'a Store,
    viewer: &'a Viewer,
    /// What the reader may see.
    pub access: EventAccess<'a>,
    wanted: Wanted<'a>,
    ends: Ends,
    limit: usize,
    budget: &'a Budget,
    scanned: usize,
    /// Of what is looked through: what would be wanted, but for that others relate to it otherwise.
    unrelated: HashSet<EventNo>,
    seen: Vec<Seen>,
}

impl<'a> Scan<'a> {
    /// A scan for at most `limit` events.
    pub fn new(
        store: &'a Store,
        viewer: &'a Viewer,
        standing: Standing,
        wanted: Wanted<'a>,
        ends: Ends,
        (limit, budget): (usize, &'a Budget),
    ) -> Scan<'a> {
        Scan {
            store,
            viewer,
            access: EventAccess::new(store, &viewer.user_id, standing),
            wanted,
            ends,
            limit,
            budget,
            scanned: 0,
            unrelated: HashSet::new(),
            seen: Vec::new(),
        }
    }

    /// How many stored events have been looked at.
    pub fn scanned(&self) -> usize {
        self.scanned
    }

    /// Whether there are as many events as were wanted.
    pub fn is_full(&self) -> bool {
        self.seen.len() >= self.limit
    }

    /// What was found, in the order of the course, with all that the reader's copy says.
    pub async fn finish(self) -> Result<Vec<Seen>, MatrixError> {
        let mut seen = self.seen;
        dress::dress(self.store, &mut seen).await?;
        Ok(seen)
    }

    /// Goes on until something ends it.
    pub async fn run(&mut self, course: &mut impl Course) -> Result<Stop, MatrixError> {
        self.run_from(course, Vec::new(), false).await
    }

    /// The same with the first events of the course, which have been read already; `all`: there are no more.
    pub async fn run_from(
        &mut self,
        course: &mut impl Course,
        known: Vec<Arc<StoredEvent>>,
        all: bool,
    ) -> Result<Stop, MatrixError> {
        let left = self.limit.saturating_sub(self.seen.len());
        // One more than fits tells whether there is more.
        let first = if known.is_empty() { left + 1 } else { CHUNK };
        let (mut chunk, mut ended, mut size) = (known, all, first.min(CHUNK));
        loop {
            if chunk.is_empty() && !ended {
                chunk = course.chunk(size).await?;
                ended = chunk.len() < size;
                size = CHUNK;
            }
            if let Some(stop) = self.look(course, std::mem::take(&mut chunk)).await? {
                return Ok(stop);
            }
            if ended {
                return Ok(Stop::Ended);
            }
            if self.scanned >= MAX_SCAN {
                return Ok(Stop::Spent);
            }
        }
    }

    /// Looks through some events.
    async fn look(
        &mut self,
        course: &mut impl Course,
        chunk: Vec<Arc<StoredEvent>>,
    ) -> Result<Option<Stop>, MatrixError> {
        self.scanned += chunk.len();
        let mut gaps = self.gaps_before(&chunk).await?;
        self.unrelated = self.unrelated_of(&chunk).await?;
        let (wanted, ends, unrelated) = (self.wanted, self.ends, &self.unrelated);
        let matters = |event: &&Arc<StoredEvent>| {
            (ends == Ends::GapOrHiddenState && event.pdu.state_key().is_some())
                || (wanted.has(event) && !unrelated.contains(&event.no))
        };
        self.access.load(chunk.iter().filter(matters)).await?;
        for event in chunk {
            match course.place_of(&event) {
                Place::Within => {}
                Place::Beside => continue,
                Place::Beyond => return Ok(Some(Stop::Over)),
            }
            if !self.has_room() {
                return Ok(Some(Stop::Full));
            }
            course.pass(&event);
            let (no, at) = (event.no, event.pos());
            if let Some(stop) = self.take(event) {
                return Ok(Some(stop));
            }
            if let Some(missing) = gaps.remove(&no).filter(|_| !course.is_over()) {
                return Ok(Some(Stop::Gap { at, missing }));
            }
        }
        Ok(course.is_over().then_some(Stop::Over))
    }

    async fn unrelated_of(
        &self,
        chunk: &[Arc<StoredEvent>],
    ) -> Result<HashSet<EventNo>, MatrixError> {
        let wanted = self.wanted;
        let asking = filter::Asking {
            store: self.store,
            ignored: wanted.ignored,
            upto: wanted.upto,
        };
        let events = chunk.iter().filter(|event| wanted.has(event));
        asking.unrelated(&wanted.filter.related, events).await
    }

    async fn gaps_before(
        &self,
        chunk: &[Arc<StoredEvent>],
    ) -> Result<HashMap<EventNo, Vec<OwnedEventId>>, MatrixError> {
        match self.ends {
            Ends::Nothing => Ok(HashMap::new()),
            Ends::Gap | Ends::GapOrHiddenState => gaps_before(self.store, self.viewer, chunk).await,
        }
    }

    /// Whether one more event may be looked at.
    fn has_room(&self) -> bool {
        let full = self.is_full() && self.ends != Ends::GapOrHiddenState;
        let heavy = !self.seen.is_empty() && self.budget.is_spent();
        !full && !heavy
    }

    /// Takes an event if the reader may see it and wants it.
    fn take(&mut self, event: Arc<StoredEvent>) -> Option<Stop> {
        let wanted = self.wanted.has(&event) && !self.unrelated.contains(&event.no);
        let joint = self.ends == Ends::GapOrHiddenState
            && event.pdu.state_key().is_some()
            && !self.seen.is_empty();
        if !wanted && !joint {
            return None;
        }
        let verdict = self.access.judge(&event);
        if verdict == Verdict::Hidden {
            return joint.then_some(Stop::HiddenState);
        }
        let seen = Seen::of(event, verdict).filter(|_| wanted)?;
        if self.is_full() {
            return Some(Stop::Full);
        }
        self.budget.take(seen.size());
        self.seen.push(seen);
        None
    }
}
