//! Counting from the database: from what is written down, or else from the beginning, with what has come since.

use std::{
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

/// One that is being loaded.
struct Course {
    wanted: Wanted,
    wishes: Arc<Wishes>,
    /// Everything up to here is in the tally.
    from: Pos,
    tally: Tally,
    /// What the user's receipts say.
    reads: Vec<Step>,
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
    let mut by_room: BTreeMap<RoomNo, Vec<usize>> = BTreeMap::new();
    for (index, course) in courses.iter().enumerate() {
        by_room.entry(course.wanted.room).or_default().push(index);
    }
    let first = |of: &Vec<usize>| of.iter().map(|index| courses[*index].from).min();
    let rooms: Vec<_> = by_room
        .iter()
        .map(|(room, of)| (*room, first(of).unwrap_or(upto)))
        .collect();
    let events = store.events_since(&rooms, upto, LOOK).await?;
    for chunk in events.chunks(CHUNK) {
        let nos: Vec<_> = chunk.iter().map(|(_, no)| *no).collect();
        for event in store.events_by_no(&nos).await? {
            for index in by_room.get(&event.room).into_iter().flatten() {
                courses[*index].pass(store, judge, &event).await?;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(courses.into_iter().map(|course| course.end(upto)).collect())
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
        if let Some(row) = row
            && let Some(mut tally) = Tally::read_back(&row.tally, (row.upto, row.since, row.rules))
        {
            // What the row didn't know: a receipt that has moved, or one whose event has come since.
            let news = |placed: &&PlacedReceipt| {
                placed.receipt.pos > row.upto || placed.order.is_none_or(|order| order > row.upto.0)
            };
            let reads: Vec<Step> = receipts.iter().filter(news).map(read).collect();
            for step in &reads {
                tally.take(step);
            }
            if !tally.is_stale() {
                return Self::of(wanted, wishes, tally, row.upto, reads);
            }
        }
        let reads: Vec<Step> = receipts.iter().map(read).collect();
        let read_up_to = reads.iter().filter_map(|step| match step {
            Step::Read(Scope::Room, upto) => Some(*upto),
            _ => None,
        });
        let from = read_up_to.max().unwrap_or(wanted.since).max(wanted.since);
        let tally = Tally::new(wanted.since, wishes.pos);
        Self::of(wanted, wishes, tally, from, reads)
    }

    fn of(wanted: Wanted, wishes: Arc<Wishes>, tally: Tally, from: Pos, reads: Vec<Step>) -> Self {
        Self {
            wanted,
            wishes,
            from,
            tally,
            reads,
            looked_at: 0,
        }
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
            // What was read is left out at once, so that it doesn't crowd out what wasn't.
            if !self.is_read(step) {
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
        for step in &self.reads {
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
