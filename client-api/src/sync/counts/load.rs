//! Counting from the database: from what is written down, or else from the beginning, with what has come since.

use std::{
    borrow::BorrowMut,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_storage::{PlacedReceipt, Pos, RoomNo, Store, StoredEvent, UnreadRow, UserNo};

use super::{
    judge::{Judge, Whose},
    tally::{Scope, Step, Tally},
};
use crate::{
    MatrixError,
    push::wishes::{Compiled, Wishes},
};

/// Of a room's events since what is written down, or since the user's receipt, at most the newest so many are looked
/// at.
pub const LOOK: usize = 1_000;
/// Where many rooms are counted together, so many events in all, …
const LOOK_ALL: usize = 50_000;
/// … but of each room this many.
const LOOK_LEAST: usize = 100;
/// Events read at once.
const CHUNK: usize = 500;

/// A tally that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Whose.
    pub user: UserNo,
    /// Of which room.
    pub room: RoomNo,
    /// Since when they are in it.
    pub since: Pos,
}

/// A tally, and how many events were looked at for it.
#[derive(Debug)]
pub struct Loaded {
    /// The tally.
    pub tally: Tally,
    /// Events since what it was made from.
    pub looked_at: usize,
}

impl Loaded {
    /// How it is written down.
    pub fn row(&self, of: &Wanted) -> UnreadRow {
        UnreadRow {
            room: of.room,
            user_no: of.user,
            upto: self.tally.upto,
            since: self.tally.since,
            rules: self.tally.rules,
            tally: self.tally.written(),
        }
    }
}

/// One that is being loaded.
struct Course {
    wanted: Wanted,
    wishes: Arc<Wishes>,
    /// Everything up to here is in the tally.
    from: Pos,
    tally: Tally,
    /// What the user's receipts say.
    reads: Vec<Step>,
    /// Nothing of it was written down. Then all events are passed as they are today, redacted or not.
    receipts_only: bool,
    looked_at: usize,
}

/// Counts for some users and rooms as of `upto`; set-wise. In the order of `wanted`.
pub async fn load(
    store: &Store,
    (compiled, judge): (&Compiled, &Judge),
    wanted: &[Wanted],
    upto: Pos,
) -> Result<Vec<Loaded>, MatrixError> {
    let mut courses = begin(store, compiled, wanted, upto).await?;
    run(store, judge, &mut courses, upto).await?;
    // Of those whose rows can't be gone on with nothing is taken from them.
    let mut again = Vec::new();
    for course in courses.iter_mut().filter(|course| course.tally.is_stale()) {
        course.from_receipts();
        again.push(course);
    }
    run(store, judge, &mut again, upto).await?;
    Ok(courses.into_iter().map(|course| course.end(upto)).collect())
}

/// Passes all events since where the courses begin.
async fn run(
    store: &Store,
    judge: &Judge,
    courses: &mut [impl BorrowMut<Course>],
    upto: Pos,
) -> Result<(), MatrixError> {
    let mut by_room: BTreeMap<RoomNo, (Pos, Vec<&mut Course>)> = BTreeMap::new();
    for course in courses {
        let course = course.borrow_mut();
        let (from, of) = by_room
            .entry(course.wanted.room)
            .or_insert((upto, Vec::new()));
        *from = course.from.min(*from);
        of.push(course);
    }
    let rooms: Vec<_> = by_room
        .iter()
        .map(|(room, (from, _))| (*room, *from))
        .collect();
    let look = (LOOK_ALL / rooms.len().max(1)).clamp(LOOK_LEAST, LOOK);
    let events = store.events_since(&rooms, upto, look).await?;
    for chunk in events.chunks(CHUNK) {
        let nos: Vec<_> = chunk.iter().map(|(_, no)| *no).collect();
        for event in store.events_by_no(&nos).await? {
            let of = by_room.get_mut(&event.room);
            for course in of.into_iter().flat_map(|(_, of)| of) {
                course.pass(store, judge, &event).await?;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn begin(
    store: &Store,
    compiled: &Compiled,
    wanted: &[Wanted],
    upto: Pos,
) -> Result<Vec<Course>, MatrixError> {
    let users: Vec<UserNo> = wanted.iter().map(|one| one.user).collect();
    let pairs: Vec<_> = wanted.iter().map(|one| (one.room, one.user)).collect();
    // The receipts after the rows: a row may know of no receipt that isn't among them.
    let rows = store.unread_rows(&pairs).await?;
    let receipts = store.placed_receipts(&pairs).await?;
    let wishes = compiled.of(store, &users).await?;
    let mut rows: HashMap<_, _> = rows
        .into_iter()
        .map(|row| ((row.room, row.user_no), row))
        .collect();
    let mut receipts_of: HashMap<_, Vec<PlacedReceipt>> = HashMap::new();
    for placed in receipts {
        let key = (placed.receipt.room, placed.receipt.user);
        receipts_of.entry(key).or_default().push(placed);
    }
    let courses = wanted.iter().zip(wishes).map(|(wanted, wishes)| {
        let key = (wanted.room, wanted.user);
        let row = rows
            .remove(&key)
            .filter(|row| row.upto <= upto && row.since == wanted.since && row.rules == wishes.pos);
        Course::begin(
            *wanted,
            wishes,
            row,
            &receipts_of.remove(&key).unwrap_or_default(),
        )
    });
    Ok(courses.collect())
}

impl Course {
    fn begin(
        wanted: Wanted,
        wishes: Arc<Wishes>,
        row: Option<UnreadRow>,
        receipts: &[PlacedReceipt],
    ) -> Self {
        let mut course = Self {
            from: wanted.since,
            tally: Tally::new(wanted.since, wishes.pos),
            reads: receipts.iter().map(read).collect(),
            receipts_only: true,
            looked_at: 0,
            wanted,
            wishes,
        };
        let Some(row) = row else {
            course.from_receipts();
            return course;
        };
        let place = (row.upto, row.since, row.rules);
        if let Some(tally) = Tally::read_back(&row.tally, place) {
            course.tally = tally;
            course.from = row.upto;
            course.receipts_only = false;
            // What the row didn't know: a receipt that has moved, or one whose event has come since.
            for (placed, step) in receipts.iter().zip(&course.reads) {
                let place = placed.order;
                if placed.receipt.pos > row.upto || place.is_none_or(|order| order > row.upto.0) {
                    course.tally.take(step);
                }
            }
        }
        if course.receipts_only || course.tally.is_stale() {
            course.from_receipts();
        }
        course
    }

    /// Begins after what the user's receipts say is read.
    fn from_receipts(&mut self) {
        let read_up_to = self.reads.iter().filter_map(|step| match step {
            Step::Read(Scope::Room, upto) => Some(*upto),
            _ => None,
        });
        self.from = read_up_to.fold(self.wanted.since, Pos::max);
        self.tally = Tally::new(self.wanted.since, self.wishes.pos);
        self.receipts_only = true;
        self.looked_at = 0;
    }

    async fn pass(
        &mut self,
        store: &Store,
        judge: &Judge,
        event: &Arc<StoredEvent>,
    ) -> Result<(), MatrixError> {
        if event.pos().is_none_or(|pos| pos <= self.from) {
            return Ok(());
        }
        self.looked_at += 1;
        let whose = Whose {
            user: self.wanted.user,
            wishes: &self.wishes,
        };
        let mut steps = Vec::new();
        judge.steps(store, event, whose, &mut steps).await?;
        for step in &steps {
            // What is read is left out at once, so that it doesn't crowd out what isn't.
            if !self.is_read(step) && !(self.receipts_only && step.is_redaction()) {
                self.tally.take(step);
            }
        }
        Ok(())
    }

    fn is_read(&self, step: &Step) -> bool {
        let Step::Unread { pos, thread, .. } = step else {
            return false;
        };
        self.reads
            .iter()
            .any(|read| matches!(read, Step::Read(scope, upto) if pos <= upto && scope.has(thread)))
    }

    fn end(mut self, upto: Pos) -> Loaded {
        // All others have been taken, or what they read wasn't.
        for step in self
            .reads
            .iter()
            .filter(|step| matches!(step, Step::Awaits(..)))
        {
            self.tally.take(step);
        }
        self.tally.upto = upto;
        Loaded {
            tally: self.tally,
            looked_at: self.looked_at,
        }
    }
}

/// What a receipt says. Its event counts if it is part of what came here; history from before is read anyhow.
fn read(placed: &PlacedReceipt) -> Step {
    let scope = Scope::of_receipt(placed.receipt.thread.as_deref());
    match placed.order {
        Some(order) => Step::Read(scope, Pos(order)),
        None => Step::Awaits(placed.receipt.event_id.clone(), scope),
    }
}
