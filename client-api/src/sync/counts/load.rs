//! Counting from the database: from what is written down, or else from the beginning, with what has come since.

use std::{
    borrow::BorrowMut,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_storage::{EventNo, PlacedReceipt, Pos, RoomNo, Store, StoredEvent, UnreadRow, UserNo};

use super::{
    alerts::{Alerts, Whose},
    question::Question,
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
/// Of a room's events at most about so many bytes are read.
const MOST_BYTES: usize = 2 << 20;
/// So many of a room are read with others, …
const FEW: usize = 50;
/// … this many at once.
const CHUNK: usize = 200;

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
struct Loading {
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
    (compiled, alerts): (&Compiled, &Alerts),
    wanted: &[Wanted],
    upto: Pos,
) -> Result<Vec<Loaded>, MatrixError> {
    let mut all = begin(store, compiled, wanted, upto).await?;
    run(store, alerts, &mut all, upto).await?;
    // Of those whose rows can't be gone on with nothing is taken from them.
    let mut again = Vec::new();
    for one in all.iter_mut().filter(|one| one.tally.is_stale()) {
        one.begin_at_receipts();
        again.push(one);
    }
    run(store, alerts, &mut again, upto).await?;
    Ok(all.into_iter().map(|one| one.end(upto)).collect())
}

/// Takes all of them over the events since where each begins.
async fn run(
    store: &Store,
    alerts: &Alerts,
    all: &mut [impl BorrowMut<Loading>],
    upto: Pos,
) -> Result<(), MatrixError> {
    let mut by_room: BTreeMap<RoomNo, (Pos, Vec<&mut Loading>)> = BTreeMap::new();
    for one in all {
        let one = one.borrow_mut();
        let (from, of) = by_room.entry(one.wanted.room).or_insert((upto, Vec::new()));
        *from = one.from.min(*from);
        of.push(one);
    }
    let rooms: Vec<_> = by_room
        .iter()
        .map(|(room, (from, _))| (*room, *from))
        .collect();
    let look = (LOOK_ALL / rooms.len().max(1)).clamp(LOOK_LEAST, LOOK);
    let found = store.events_since(&rooms, upto, look).await?;
    let mut few = Vec::new();
    for of_room in found.chunk_by(|one, other| one.0 == other.0) {
        let nos = of_room.iter().map(|(_, no)| *no);
        if of_room.len() <= FEW {
            few.extend(nos);
            continue;
        }
        let nos: Vec<_> = nos.collect();
        for events in newest(store, &nos).await? {
            pass(store, alerts, &mut by_room, &events).await?;
        }
    }
    for nos in few.chunks(CHUNK) {
        let events = store.events_by_no(nos).await?;
        pass(store, alerts, &mut by_room, &events).await?;
    }
    Ok(())
}

/// The newest of these events that aren't too large together, in order.
async fn newest(
    store: &Store,
    nos: &[EventNo],
) -> Result<impl Iterator<Item = Vec<Arc<StoredEvent>>>, MatrixError> {
    let (mut read, mut bytes) = (Vec::new(), 0);
    for nos in nos.rchunks(FEW) {
        let events = store.events_by_no(nos).await?;
        let size = events.iter().map(|event| event.pdu.json().len());
        bytes += size.sum::<usize>();
        read.push(events);
        if bytes > MOST_BYTES {
            break;
        }
    }
    Ok(read.into_iter().rev())
}

async fn pass(
    store: &Store,
    alerts: &Alerts,
    by_room: &mut BTreeMap<RoomNo, (Pos, Vec<&mut Loading>)>,
    events: &[Arc<StoredEvent>],
) -> Result<(), MatrixError> {
    let (mut since_pause, mut steps) = (0, Vec::new());
    for event in events {
        let mut question = Question::new(alerts, store, event);
        let of = by_room.get_mut(&event.room);
        for one in of.into_iter().flat_map(|(_, of)| of) {
            one.pass(event, &mut question, &mut steps).await?;
            since_pause += 1;
        }
        // Of many users in a room this is work that waits for nothing.
        if since_pause >= 1_000 {
            tokio::task::yield_now().await;
            since_pause = 0;
        }
    }
    Ok(())
}

async fn begin(
    store: &Store,
    compiled: &Compiled,
    wanted: &[Wanted],
    upto: Pos,
) -> Result<Vec<Loading>, MatrixError> {
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
    let all = wanted.iter().zip(wishes).map(|(wanted, wishes)| {
        let key = (wanted.room, wanted.user);
        let row = rows
            .remove(&key)
            .filter(|row| row.upto <= upto && row.since == wanted.since && row.rules == wishes.pos);
        Loading::begin(
            *wanted,
            wishes,
            row,
            &receipts_of.remove(&key).unwrap_or_default(),
        )
    });
    Ok(all.collect())
}

impl Loading {
    fn begin(
        wanted: Wanted,
        wishes: Arc<Wishes>,
        row: Option<UnreadRow>,
        receipts: &[PlacedReceipt],
    ) -> Self {
        let mut one = Self {
            from: wanted.since,
            tally: Tally::new(wanted.since, wishes.pos),
            reads: receipts.iter().map(read).collect(),
            receipts_only: true,
            looked_at: 0,
            wanted,
            wishes,
        };
        let Some(row) = row else {
            one.begin_at_receipts();
            return one;
        };
        let place = (row.upto, row.since, row.rules);
        if let Some(tally) = Tally::read_back(&row.tally, place) {
            one.tally = tally;
            one.from = row.upto;
            one.receipts_only = false;
            // What the row didn't know: a receipt that has moved, or one whose event has come since.
            for (placed, step) in receipts.iter().zip(&one.reads) {
                let place = placed.order;
                if placed.receipt.pos > row.upto || place.is_none_or(|order| order > row.upto.0) {
                    one.tally.take(step);
                }
            }
        }
        if one.receipts_only || one.tally.is_stale() {
            one.begin_at_receipts();
        }
        one
    }

    /// Begins after what the user's receipts say is read.
    fn begin_at_receipts(&mut self) {
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
        event: &StoredEvent,
        question: &mut Question<'_>,
        steps: &mut Vec<Step>,
    ) -> Result<(), MatrixError> {
        if event.pos().is_none_or(|pos| pos <= self.from) {
            return Ok(());
        }
        self.looked_at += 1;
        let whose = Whose {
            user: self.wanted.user,
            wishes: &self.wishes,
        };
        question.steps(whose, steps).await?;
        for step in steps.drain(..) {
            // What is read is left out at once, so that it doesn't crowd out what isn't.
            let old = self.is_read(&step) || (self.receipts_only && step.is_redaction());
            if !old {
                self.tally.take(&step);
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
