//! What waits for a service: filled by who reads the log, emptied by the service's task.
//!
//! A service that keeps up is *level*: it is handed what the reader found. One for which too much waits, or that was away,
//! is *behind*: it reads the log by itself from where it is, until it has come up to the reader. So a dead service holds
//! nothing but its place.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::{Pos, RoomNo, UserNo};
use tokio::sync::Notify;

use super::news::Found;

/// So much waits for a service that is level.
const MAX_WAITING: usize = 500;
/// Rooms in which somebody types, and users whose presence has changed, that it is to be told of.
const MAX_EPHEMERAL: usize = 1_000;

/// The queue of a service.
pub struct Queue {
    state: Mutex<State>,
    /// Something has come, or is to be looked at again.
    rung: Notify,
}

struct State {
    /// What waits, in the order of the log; `None`: it is behind.
    waiting: Option<VecDeque<Found>>,
    /// Everything up to here was looked at by the reader.
    seen: Pos,
    /// What isn't in the log: rooms in which typing has changed, and users whose presence has. What is so is looked at
    /// when it is told.
    ephemeral: Ephemeral,
    /// Nothing of that is kept for a service that doesn't answer.
    deaf: bool,
    paused: bool,
    /// The operator wants it to be tried now.
    tries: bool,
    /// It has nothing to do: its transactions are acknowledged, and that is written down.
    idle: bool,
}

/// What isn't in the log.
#[derive(Debug, Default)]
pub struct Ephemeral {
    /// Rooms in which typing has changed.
    pub typing: BTreeSet<RoomNo>,
    /// Users whose presence has changed.
    pub presence: BTreeSet<UserNo>,
}

impl Ephemeral {
    pub fn is_empty(&self) -> bool {
        self.typing.is_empty() && self.presence.is_empty()
    }
}

/// What a service takes of its queue.
pub enum Next {
    /// It is behind, and the reader is here.
    Behind(Pos),
    /// The first of what waits.
    Found(Found),
    /// Nothing waits up to here.
    Nothing(Pos),
}

impl Queue {
    /// The service stands at `at`, and the reader of the log at `seen`.
    pub fn new(at: Pos, seen: Pos, paused: bool) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: (at >= seen).then(VecDeque::new),
                seen,
                ephemeral: Ephemeral::default(),
                deaf: false,
                paused,
                tries: false,
                idle: false,
            }),
            rung: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader has looked at everything up to there, and this is for the service.
    pub fn add(&self, found: Vec<Found>, seen: Pos) {
        let rings = !found.is_empty();
        let mut state = self.state();
        state.seen = seen;
        if let Some(waiting) = &mut state.waiting {
            if waiting.len() + found.len() > MAX_WAITING {
                state.waiting = None;
            } else {
                waiting.extend(found);
            }
        }
        state.idle &= !rings;
        drop(state);
        if rings {
            self.rung.notify_one();
        }
    }

    /// Typing has changed in a room.
    pub fn types(&self, room: RoomNo) {
        self.add_ephemeral(|ephemeral| {
            (ephemeral.typing.len() < MAX_EPHEMERAL).then(|| ephemeral.typing.insert(room));
        });
    }

    /// A user's presence has changed.
    pub fn sees(&self, user: UserNo) {
        self.add_ephemeral(|ephemeral| {
            (ephemeral.presence.len() < MAX_EPHEMERAL).then(|| ephemeral.presence.insert(user));
        });
    }

    fn add_ephemeral(&self, add: impl FnOnce(&mut Ephemeral)) {
        let mut state = self.state();
        if state.deaf || state.paused {
            return;
        }
        add(&mut state.ephemeral);
        drop(state);
        self.rung.notify_one();
    }

    /// Takes at most so many rooms and users of what isn't in the log.
    pub fn take_ephemeral(&self, most: usize) -> Ephemeral {
        let mut state = self.state();
        let ephemeral = &mut state.ephemeral;
        let typing = std::iter::from_fn(|| ephemeral.typing.pop_first());
        let typing = typing.take(most).collect();
        let presence = std::iter::from_fn(|| ephemeral.presence.pop_first());
        let presence = presence.take(most).collect();
        Ephemeral { typing, presence }
    }

    /// How far the reader has looked.
    pub fn seen(&self) -> Pos {
        self.state().seen
    }

    /// What comes next, without taking it.
    pub fn next(&self) -> Next {
        let state = self.state();
        match &state.waiting {
            None => Next::Behind(state.seen),
            Some(waiting) => match waiting.front() {
                Some(found) => Next::Found(found.clone()),
                None => Next::Nothing(state.seen),
            },
        }
    }

    /// What was next is taken.
    pub fn taken(&self) {
        if let Some(waiting) = &mut self.state().waiting {
            waiting.pop_front();
        }
    }

    /// A service that was behind has read up to there. Whether it is level now.
    pub fn levels(&self, at: Pos) -> bool {
        let mut state = self.state();
        let levels = state.seen <= at;
        if levels {
            state.waiting = Some(VecDeque::new());
        }
        levels
    }

    /// It is behind from now on: what waited is read again.
    pub fn falls_behind(&self) {
        self.state().waiting = None;
    }

    /// The service doesn't answer, or does again.
    pub fn deafen(&self, deaf: bool) {
        let mut state = self.state();
        state.deaf = deaf;
        if deaf {
            state.ephemeral = Ephemeral::default();
        }
    }

    /// The operator pauses the service, or lets it go on; then it is tried at once.
    pub fn pause(&self, paused: bool) {
        let mut state = self.state();
        state.paused = paused;
        state.tries = !paused;
        if paused {
            state.ephemeral = Ephemeral::default();
        }
        drop(state);
        self.rung.notify_one();
    }

    /// Whether the service is told nothing.
    pub fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Whether it is to be tried now; asked once.
    pub fn tries(&self) -> bool {
        std::mem::take(&mut self.state().tries)
    }

    /// The service has nothing to do, unless something waits by now: then `false`.
    pub fn rests(&self) -> bool {
        let mut state = self.state();
        let waits = state
            .waiting
            .as_ref()
            .is_none_or(|waiting| !waiting.is_empty());
        state.idle = !waits && state.ephemeral.is_empty();
        state.idle
    }

    /// It is at work.
    pub fn works(&self) {
        self.state().idle = false;
    }

    /// Up to where nothing concerns a service that has nothing to do.
    pub fn idles_at(&self) -> Option<Pos> {
        let state = self.state();
        state.idle.then_some(state.seen)
    }

    /// Waits until something has come since this was asked last.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::InviteEntry;

    use super::*;
    use crate::told::news::News;

    fn found(pos: i64) -> Found {
        let invite = InviteEntry {
            user: UserNo(1),
            room: RoomNo(1),
            gone: false,
        };
        let (pos, news) = (Pos(pos), News::Outside(invite));
        Found { pos, news }
    }

    #[test]
    fn what_is_level_is_handed_what_was_found() {
        let queue = Queue::new(Pos(5), Pos(5), false);
        assert!(matches!(queue.next(), Next::Nothing(Pos(5))));
        assert!(queue.rests());
        queue.add(vec![], Pos(7));
        assert_eq!(queue.idles_at(), Some(Pos(7)));
        queue.add(vec![found(8)], Pos(9));
        assert_eq!(queue.idles_at(), None);
        assert!(!queue.rests());
        // It is there until it is taken.
        assert!(matches!(
            queue.next(),
            Next::Found(Found { pos: Pos(8), .. })
        ));
        assert!(matches!(queue.next(), Next::Found(_)));
        queue.taken();
        assert!(matches!(queue.next(), Next::Nothing(Pos(9))));
    }

    #[test]
    fn who_falls_behind_comes_up_to_the_reader() {
        let queue = Queue::new(Pos(0), Pos(0), false);
        for pos in 1..=i64::try_from(MAX_WAITING).unwrap() {
            queue.add(vec![found(pos)], Pos(pos));
        }
        assert!(matches!(queue.next(), Next::Found(_)));
        queue.add(vec![found(501)], Pos(501));
        assert!(matches!(queue.next(), Next::Behind(Pos(501))));
        assert!(!queue.rests());
        queue.add(vec![found(502)], Pos(502));
        // The reader was faster.
        assert!(!queue.levels(Pos(501)));
        assert!(queue.levels(Pos(502)));
        queue.add(vec![found(503)], Pos(503));
        assert!(matches!(
            queue.next(),
            Next::Found(Found { pos: Pos(503), .. })
        ));
    }

    #[test]
    fn nobody_is_told_later_who_was_typing_when_nothing_was_heard() {
        let queue = Queue::new(Pos(0), Pos(0), false);
        queue.types(RoomNo(1));
        queue.sees(UserNo(1));
        queue.deafen(true);
        queue.types(RoomNo(2));
        queue.deafen(false);
        assert!(queue.take_ephemeral(9).is_empty());
        for room in 0..2_000 {
            queue.types(RoomNo(room));
        }
        assert_eq!(queue.take_ephemeral(3).typing.len(), 3);
        assert_eq!(queue.take_ephemeral(9_999).typing.len(), MAX_EPHEMERAL - 3);
        queue.pause(true);
        queue.types(RoomNo(3));
        assert!(queue.is_paused() && !queue.tries());
        queue.pause(false);
        assert!(queue.tries() && !queue.tries());
        assert!(queue.take_ephemeral(9).is_empty());
    }
}
