//! How much users have not read: notifications and highlights by user, room and thread (client-server API,
//! "Receiving notifications").
//!
//! A count is a fold over what happened in a room ([`tally`]) of what each event is to the user ([`judge`]). This
//! process keeps the tallies of users who listen and takes them forward with what their answers read anyhow
//! ([`Counting::advance`]), so that an answer's counts cost no query. Others start from what is written down now and
//! then ([`writer`]) or from the user's receipt ([`load`]).
//!
//! For whoever answers: read the window after the client's position, [`Counting::advance`], then [`Counting::of`] with
//! all rooms of the answer at once.

mod judge;
mod load;
mod tally;
#[cfg(test)]
mod tests;
pub mod writer;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rhizome_protocol::Membership;
use rhizome_storage::{Cache, MembershipRow, Pos, RoomNo, Store, UserNo};

pub use self::tally::{Count, Counts};
use self::{
    judge::{Judge, Whose},
    load::{Wanted, load},
    tally::{Scope, Step, Tally},
};
use super::window::{RoomWindow, Window};
use crate::{
    MatrixError,
    push::wishes::{Compiled, Wishes},
};

/// Users whose tallies are kept, …
const MAX_USERS: usize = 50_000;
/// … and how many tallies. (One takes up to 3 KiB, where much is unread.)
const MAX_TALLIES: usize = 200_000;
/// Tallies counted at once.
const AT_ONCE: usize = 200;

/// The counts of users who listen.
#[derive(Debug)]
pub struct Counting {
    compiled: Compiled,
    judge: Judge,
    listeners: Cache<UserNo, Arc<Listener>>,
    tallies: Cache<(UserNo, RoomNo), Arc<Mutex<Held>>>,
    /// The last listener's number.
    last: AtomicU64,
}

/// A user who listens.
#[derive(Debug)]
struct Listener {
    /// Whose tallies these are: of one who was forgotten and has come again the old ones don't count.
    number: u64,
    /// Up to where all of their tallies have been taken.
    upto: Mutex<Pos>,
}

/// A tally that is kept.
#[derive(Debug)]
struct Held {
    listener: u64,
    tally: Tally,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            compiled: Compiled::default(),
            judge: Judge::default(),
            listeners: Cache::new(MAX_USERS),
            tallies: Cache::new(MAX_TALLIES),
            last: AtomicU64::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    fn takes(&self, held: &Held) -> bool {
        held.listener == self.number
    }
}

impl Counting {
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
        let Some(listener) = self.listeners.get(&user) else {
            self.listen(user, upto);
            return Ok(());
        };
        let known = *lock(&listener.upto);
        if known >= upto {
            return Ok(());
        }
        if after.is_some_and(|after| after <= known) {
            return self
                .take(store, (user, &listener), (known, upto), window)
                .await;
        }
        if store.log().tail(known, upto).is_some() {
            let window = Window::read(store, user, rows, known, upto).await?;
            return self
                .take(store, (user, &listener), (known, upto), &window)
                .await;
        }
        // Nobody has listened for long: what they are asked for is counted anew.
        self.listen(user, upto);
        Ok(())
    }

    fn listen(&self, user: UserNo, upto: Pos) {
        let listener = Listener {
            number: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            upto: Mutex::new(upto),
        };
        self.listeners.insert(user, Arc::new(listener));
    }

    /// Takes the tallies that are kept over what the window has after `known`.
    async fn take(
        &self,
        store: &Store,
        (user, listener): (UserNo, &Listener),
        (known, upto): (Pos, Pos),
        window: &Window,
    ) -> Result<(), MatrixError> {
        let mut taken: Vec<(RoomNo, Vec<(Pos, Step)>)> = Vec::new();
        let mut wishes = None;
        for (room, window) in &window.rooms {
            let Some(held) = self.tallies.get(&(user, *room)) else {
                continue;
            };
            if !listener.takes(&lock(&held)) || !window.whole {
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
        let mut at = lock(&listener.upto);
        if *at >= upto {
            return Ok(());
        }
        let mut left: Vec<&RoomNo> = window.rooms.keys().collect();
        for (room, steps) in &taken {
            left.retain(|left| *left != room);
            if let Some(held) = self.tallies.get(&(user, *room)) {
                let tally = &mut lock(&held).tally;
                for (pos, step) in steps {
                    if *pos > tally.upto {
                        tally.take(step);
                    }
                }
                tally.upto = tally.upto.max(upto);
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
            self.judge.steps(store, event, whose, &mut steps).await?;
            if awaits {
                steps.push(Step::Came(event.pdu.event_id().to_owned(), pos));
            }
            all.extend(steps.drain(..).map(|step| (pos, step)));
        }
        for receipt in &window.receipts {
            if receipt.user != whose.user || receipt.pos <= known {
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

    async fn wishes(&self, store: &Store, user: UserNo) -> Result<Arc<Wishes>, MatrixError> {
        let mut wishes = self.compiled.of(store, &[user]).await?;
        wishes.pop().ok_or_else(MatrixError::internal)
    }

    /// A user's counts of rooms that they are joined to, as of `upto` or a moment later.
    pub async fn of<'a>(
        &self,
        store: &Store,
        user: UserNo,
        rooms: impl Iterator<Item = &'a MembershipRow>,
        upto: Pos,
    ) -> Result<HashMap<RoomNo, Counts>, MatrixError> {
        let mut found = HashMap::new();
        let mut wanted = Vec::new();
        let wishes = self.wishes(store, user).await?;
        let listener = self.listeners.get(&user);
        for row in rows_joined(rooms) {
            let held = self.tallies.get(&(user, row.room));
            let counts = held.zip(listener.as_ref()).and_then(|(held, listener)| {
                let held = lock(&held);
                let tally = &held.tally;
                let good = listener.takes(&held)
                    && !tally.is_stale()
                    && (tally.since, tally.rules) == (row.since, wishes.pos);
                good.then(|| tally.counts())
            });
            match counts {
                Some(counts) => drop(found.insert(row.room, counts)),
                None => wanted.push(Wanted {
                    user,
                    room: row.room,
                    since: row.since,
                }),
            }
        }
        for wanted in wanted.chunks(AT_ONCE) {
            let loaded = load(store, (&self.compiled, &self.judge), wanted, upto).await?;
            for (wanted, loaded) in wanted.iter().zip(loaded) {
                found.insert(wanted.room, loaded.tally.counts());
                if let Some(listener) = &listener {
                    self.keep(wanted, listener, loaded.tally);
                }
            }
        }
        Ok(found)
    }

    fn keep(&self, of: &Wanted, listener: &Listener, tally: Tally) {
        let at = lock(&listener.upto);
        // What another connection was told of meanwhile isn't in it.
        if *at <= tally.upto {
            let held = Held {
                listener: listener.number,
                tally,
            };
            let key = (of.user, of.room);
            self.tallies.insert(key, Arc::new(Mutex::new(held)));
        }
    }
}

fn rows_joined<'a>(
    rows: impl Iterator<Item = &'a MembershipRow>,
) -> impl Iterator<Item = &'a MembershipRow> {
    rows.filter(|row| row.membership == Membership::Join)
}
