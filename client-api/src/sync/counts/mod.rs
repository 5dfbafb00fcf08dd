//! How much users have not read: notifications and highlights by user, room and thread (client-server API,
//! "Receiving notifications").
//!
//! A count is a fold over what happened in a room ([`tally`]) of what each event is to the user ([`alerts`]). This
//! process keeps the tallies of users who listen and takes them forward with what their answers read anyhow
//! ([`Counting::advance`]), so that an answer's counts cost no query. Others start from what is written down now and
//! then ([`writer`]) or from the user's receipt ([`load`]).
//!
//! For whoever answers: read the window after the client's position, [`Counting::advance`], then [`Counting::of`] with
//! all rooms of the answer at once.

mod alerts;
mod asking;
pub mod crowd;
pub mod event;
mod load;
pub mod notified;
mod question;
mod tally;
mod together;
pub mod writer;
mod written;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rhizome_storage::{
    Cache, CacheFigures, DELIVERED, MembershipRow, Pos, RoomNo, Store, UnreadRow, UserNo,
};

pub use self::tally::Counts;
use self::{
    alerts::{Alerts, Whose},
    load::Wanted,
    question::Question,
    tally::{Scope, Step, Tally},
    together::Together,
};
use super::window::{RoomWindow, Window};
use crate::{
    MatrixError,
    push::wishes::{Compiled, Wishes},
};

/// Users whose tallies are kept, …
const MAX_USERS: usize = 50_000;
/// … and how many tallies. (One takes up to 3 KiB, where much is unread; one with more in it counts as several.)
const MAX_TALLIES: usize = 100_000;
/// A tally for which so many events were looked at is written down, so that nobody has to look again.
const WORTH_A_ROW: usize = 100;
/// Tallies counted at once.
const AT_ONCE: usize = 200;

/// The counts of users who listen.
#[derive(Debug)]
pub struct Counting {
    compiled: Compiled,
    alerts: Alerts,
    together: Together,
    attending: Cache<UserNo, Arc<Attendance>>,
    tallies: Cache<(UserNo, RoomNo), Arc<Mutex<Held>>>,
    /// The last attendance's number.
    last: AtomicU64,
}

/// A user who listens.
#[derive(Debug)]
struct Attendance {
    /// Whose tallies these are: of one who was forgotten and has come again the old ones don't count.
    number: u64,
    /// Up to where all of their tallies have been taken.
    upto: Mutex<Pos>,
}

/// A tally that is kept.
#[derive(Debug)]
struct Held {
    attendance: u64,
    tally: Tally,
    /// What the cache knows that it weighs.
    weight: usize,
}

impl Held {
    /// Takes the tally up to `upto`; gives what it weighs if that has changed.
    fn take(&mut self, steps: &[(Pos, Step)], upto: Pos) -> Option<usize> {
        let mut weigh = false;
        for (pos, step) in steps {
            if *pos > self.tally.upto {
                self.tally.take(step);
                weigh |= step.changes_weight();
            }
        }
        self.tally.upto = self.tally.upto.max(upto);
        if !weigh {
            return None;
        }
        let before = std::mem::replace(&mut self.weight, self.tally.weight());
        (before != self.weight).then_some(self.weight)
    }
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            compiled: Compiled::default(),
            alerts: Alerts::default(),
            together: Together::default(),
            attending: Cache::new(MAX_USERS),
            tallies: Cache::new(MAX_TALLIES),
            last: AtomicU64::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attendance {
    fn takes(&self, held: &Held) -> bool {
        held.attendance == self.number
    }
}

impl Counting {
    /// What is held of what users haven't read, and how often that was of use.
    pub(crate) fn figures(&self) -> CacheFigures {
        self.tallies.figures()
    }

    /// Takes a user's tallies forward to `upto`. `window` is what happened in their rooms (`rows`) after `after`;
    /// `None`: it wasn't read.
    pub async fn advance(
        &self,
        store: &Store,
        user: UserNo,
        rows: &[MembershipRow],
        (after, upto): (Option<Pos>, Pos),
        window: &Window,
    ) -> Result<(), MatrixError> {
        let Some(attendance) = self.attending.get(&user) else {
            self.listen(user, upto);
            return Ok(());
        };
        let known = *lock(&attendance.upto);
        if known >= upto {
            return Ok(());
        }
        if after.is_some_and(|after| after <= known) {
            return self
                .take(store, (user, &attendance), (known, upto), window)
                .await;
        }
        if store.log().reaches(known, upto) {
            let window = Window::read(store, user, rows, known, upto).await?;
            return self
                .take(store, (user, &attendance), (known, upto), &window)
                .await;
        }
        // Nobody has listened for long: what they are asked for is counted anew.
        self.listen(user, upto);
        Ok(())
    }

    fn listen(&self, user: UserNo, upto: Pos) {
        let attendance = Attendance {
            number: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            upto: Mutex::new(upto),
        };
        self.attending.insert(user, Arc::new(attendance));
    }

    /// Takes the tallies that are kept over what the window has after `known`.
    async fn take(
        &self,
        store: &Store,
        (user, attendance): (UserNo, &Attendance),
        (known, upto): (Pos, Pos),
        window: &Window,
    ) -> Result<(), MatrixError> {
        let mut taken: Vec<(RoomNo, Vec<(Pos, Step)>)> = Vec::new();
        let mut wishes = None;
        for (room, window) in &window.rooms {
            let Some(held) = self.tallies.get(&(user, *room)) else {
                continue;
            };
            if !attendance.takes(&lock(&held)) || !window.whole {
                continue;
            }
            let wishes = match &wishes {
                Some(wishes) => wishes,
                None => wishes.insert(self.wishes(store, user).await?),
            };
            let awaits = lock(&held).tally.awaits();
            let whose = Whose { user, wishes };
            let steps = self.steps(store, whose, window, (known, awaits)).await?;
            taken.push((*room, steps));
        }
        // From here on nothing is put there that has missed any of this.
        let mut at = lock(&attendance.upto);
        if *at >= upto {
            return Ok(());
        }
        let mut left: Vec<&RoomNo> = window.rooms.keys().collect();
        for (room, steps) in &taken {
            left.retain(|left| *left != room);
            if let Some(held) = self.tallies.get(&(user, *room)) {
                let weight = lock(&held).take(steps, upto);
                if let Some(weight) = weight {
                    self.tallies.insert_weighing((user, *room), held, weight);
                }
            }
        }
        for room in left {
            let key = (user, *room);
            let held = self.tallies.get(&key);
            if held.is_some_and(|held| lock(&held).tally.upto < upto) {
                self.tallies.remove(&key);
            }
        }
        *at = upto;
        Ok(())
    }

    /// What happens to a user's tally of a room, each at its position.
    async fn steps(
        &self,
        store: &Store,
        whose: Whose<'_>,
        window: &RoomWindow,
        (known, awaits): (Pos, bool),
    ) -> Result<Vec<(Pos, Step)>, MatrixError> {
        let mut all = Vec::new();
        let mut steps = Vec::new();
        for event in &window.events {
            let Some(pos) = event.pos().filter(|pos| *pos > known) else {
                continue;
            };
            let mut question = Question::new(&self.alerts, store, event);
            question.steps(whose, &mut steps).await?;
            if awaits {
                steps.push(Step::Came(event.pdu.event_id().to_owned(), pos));
            }
            all.extend(steps.drain(..).map(|step| (pos, step)));
        }
        for receipt in &window.receipts {
            let is_read = receipt.user == whose.user && receipt.kind != DELIVERED;
            if !is_read || receipt.pos <= known {
                continue;
            }
            let scope = Scope::of_receipt(receipt.thread.as_deref());
            let event = store.event(&receipt.event_id).await?;
            let event = event.filter(|event| event.room == receipt.room);
            let step = match event.and_then(|event| event.order) {
                Some(order) => Step::Read(scope, Pos(order)),
                None => Step::Awaits(receipt.event_id.clone(), scope),
            };
            all.push((receipt.pos, step));
        }
        Ok(all)
    }

    /// What a user wants to be notified of.
    pub async fn wishes(&self, store: &Store, user: UserNo) -> Result<Arc<Wishes>, MatrixError> {
        let mut wishes = self.compiled.of(store, &[user]).await?;
        wishes.pop().ok_or_else(MatrixError::internal)
    }

    /// A user's counts of rooms that they are joined to, as of `upto` or a moment later.
    pub async fn of(
        &self,
        store: &Store,
        user: UserNo,
        rooms: &[&MembershipRow],
        upto: Pos,
    ) -> Result<HashMap<RoomNo, Counts>, MatrixError> {
        self.look(store, user, rooms, upto, Tally::counts).await
    }

    /// Looks at a user's tallies of rooms that they are joined to, as of `upto` or a moment later.
    async fn look<T>(
        &self,
        store: &Store,
        user: UserNo,
        rooms: &[&MembershipRow],
        upto: Pos,
        look: impl Fn(&Tally) -> T,
    ) -> Result<HashMap<RoomNo, T>, MatrixError> {
        let mut found = HashMap::with_capacity(rooms.len());
        if rooms.is_empty() {
            return Ok(found);
        }
        let mut wanted = Vec::new();
        // What somebody wants is read with their first tally, for all who wait for theirs together.
        let mut wishes = None;
        let attendance = self.attending.get(&user);
        for row in rooms {
            let held = self.tallies.get(&(user, row.room));
            let mut seen = None;
            if let (Some(held), Some(attendance)) = (held, &attendance) {
                let wishes = match &wishes {
                    Some(wishes) => wishes,
                    None => wishes.insert(self.wishes(store, user).await?),
                };
                let held = lock(&held);
                let tally = &held.tally;
                let good = attendance.takes(&held)
                    && !tally.is_stale()
                    && (tally.since, tally.rules) == (row.since, wishes.pos);
                seen = good.then(|| look(tally));
            }
            match seen {
                Some(seen) => drop(found.insert(row.room, seen)),
                None => wanted.push(Wanted {
                    user,
                    room: row.room,
                    since: row.since,
                }),
            }
        }
        for (wanted, tally) in self.load(store, wanted, upto).await? {
            found.insert(wanted.room, look(&tally));
            if let Some(attendance) = &attendance {
                self.keep(&wanted, attendance, tally);
            }
        }
        Ok(found)
    }

    /// Tallies from the database.
    async fn load(
        &self,
        store: &Store,
        wanted: Vec<Wanted>,
        upto: Pos,
    ) -> Result<Vec<(Wanted, Tally)>, MatrixError> {
        let (mut rows, mut tallies) = (Vec::new(), Vec::with_capacity(wanted.len()));
        for wanted in wanted.chunks(AT_ONCE) {
            let evaluation = (&self.compiled, &self.alerts);
            let together = &self.together;
            let loaded = together.load(store, evaluation, wanted, upto).await?;
            for (wanted, loaded) in wanted.iter().zip(loaded) {
                if loaded.looked_at >= WORTH_A_ROW {
                    rows.push(loaded.row(wanted));
                }
                tallies.push((*wanted, loaded.tally));
            }
        }
        write_down(store, rows);
        Ok(tallies)
    }

    fn keep(&self, of: &Wanted, attendance: &Attendance, tally: Tally) {
        let at = lock(&attendance.upto);
        // What another connection was told of meanwhile isn't in it.
        if *at <= tally.upto {
            let weight = tally.weight();
            let held = Held {
                attendance: attendance.number,
                tally,
                weight,
            };
            let held = Arc::new(Mutex::new(held));
            let key = (of.user, of.room);
            self.tallies.insert_weighing(key, held, weight);
        }
    }
}

/// Writes rows down beside the answer, which doesn't wait for it.
fn write_down(store: &Store, rows: Vec<UnreadRow>) {
    if rows.is_empty() {
        return;
    }
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = store.write_unread(None, &rows).await {
            tracing::warn!(%error, "unread counts can't be written down");
        }
    });
}
