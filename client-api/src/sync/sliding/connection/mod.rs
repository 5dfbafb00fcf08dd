//! What a client's connections have been told.
//!
//! A connection stands at a version: what it was told of each room. A room is *live* if it was told up to the position
//! of the last answer, whatever that is; so an answer that only goes on with live rooms changes nothing but the position,
//! which is in the token. Any other makes a new version, kept as what differs from the one that it was made upon. Both are
//! kept until the client shows the new one's token: the same `pos` again is answered from what it was answered from.

mod held;
mod keep;
mod pos;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::{RoomNo, SlidingRoom, SlidingStep, UserNo, random};
use ruma::OwnedDeviceId;

pub use self::{
    held::Connections,
    pos::{Position, ProfilesPos},
};
use super::request::config::State;
use crate::{App, MatrixError};

/// How many versions are kept that were made upon the same one.
const MOST_VERSIONS: usize = 4;
/// How much room the configurations of a connection may take, as text.
const MAX_CONFIGS: usize = 64 << 10;

/// How many bytes a room of a connection takes about, …
const BYTES_OF_ROOM: usize = 80;
/// … and as how many rooms a connection counts by itself.
const BASE: usize = 16;

type Rooms = HashMap<RoomNo, SlidingRoom>;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Its number, which nobody can guess.
    pub no: i64,
    user: UserNo,
    device: OwnedDeviceId,
    conn_id: String,
    inner: Mutex<Inner>,
    /// Whose steps are being written.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    version: i64,
    rooms: Arc<Rooms>,
    versions: Vec<(i64, Rooms)>,
    /// What has become part of `rooms`, and isn't in the database yet.
    confirmed: Option<Rooms>,
    configs: Arc<Vec<State>>,
    /// How much room they take, as text.
    configs_size: usize,
    seen_ms: i64,
    is_new: bool,
    /// Whether the database knows of it.
    is_stored: bool,
    /// After which every room that is wanted was live.
    settled: Option<Settled>,
    /// What is to be written down.
    steps: VecDeque<SlidingStep>,
}

/// That every room which some lists' windows and some subscriptions want was live, at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The version.
    pub version: i64,
    /// What was wanted.
    pub wanted: u64,
    /// How often each list had changed.
    pub changes: Vec<u64>,
}

/// What a client had been told when it asked.
#[derive(Debug)]
pub struct Memory {
    /// The version; `None`: nothing.
    pub version: i64,
    rooms: Arc<Rooms>,
    /// What differs by now.
    pub changed: Rooms,
    /// Which state has been asked for, by the numbers in rooms.
    pub configs: Arc<Vec<State>>,
    /// Where nothing but what moved has to be looked at.
    pub settled: Option<Settled>,
    /// The rooms of which the client shows only now that it was told; `None`: nobody knows which.
    pub confirmed: Option<Vec<RoomNo>>,
}

impl Memory {
    /// What the client had been told of its rooms when it asked.
    pub fn rooms(&self) -> Arc<HashMap<RoomNo, SlidingRoom>> {
        self.rooms.clone()
    }

    /// What the client was told of a room.
    pub fn of(&self, room: RoomNo) -> Option<&SlidingRoom> {
        self.changed.get(&room).or_else(|| self.rooms.get(&room))
    }

    /// Notes what it is told now.
    pub fn tell(&mut self, room: RoomNo, told: SlidingRoom) {
        if self.of(room) != Some(&told) {
            self.changed.insert(room, told);
        }
    }

    /// All rooms that it was told of.
    pub fn all(&self) -> impl Iterator<Item = (RoomNo, &SlidingRoom)> {
        let known = self
            .rooms
            .iter()
            .filter(|(room, _)| !self.changed.contains_key(room));
        let all = known.chain(&self.changed);
        all.map(|(room, told)| (*room, told))
    }

    /// The state that a room was told with.
    pub fn state(&self, told: &SlidingRoom) -> Option<&State> {
        self.configs.get(usize::from(told.config))
    }

    /// The number of a configuration.
    pub fn number(&mut self, state: &State) -> Result<u16, MatrixError> {
        number(&mut self.configs, state)
    }
}

/// The number of a configuration among others, to which it is added if it isn't one of them.
fn number(known: &mut Arc<Vec<State>>, state: &State) -> Result<u16, MatrixError> {
    if let Some(at) = known.iter().position(|known| known == state) {
        return u16::try_from(at).map_err(|_| MatrixError::internal());
    }
    let mut configs = Vec::clone(known);
    configs.push(state.clone());
    // Who asks for ever other things begins anew: no client does.
    let size = serde_json::to_string(&configs).map_or(usize::MAX, |text| text.len());
    let at = u16::try_from(configs.len() - 1);
    let (Ok(at), true) = (at, size <= MAX_CONFIGS) else {
        return Err(pos::unknown());
    };
    *known = Arc::new(configs);
    Ok(at)
}

impl Inner {
    /// Numbers the configurations of an answer as they are numbered here: another that was made upon the same version
    /// may have added others.
    fn agree(&mut self, memory: &mut Memory) -> Result<(), MatrixError> {
        if memory.configs.starts_with(&self.configs) {
            self.configs = memory.configs.clone();
        } else if !self.configs.starts_with(&memory.configs) {
            let mut numbers = Vec::new();
            for state in memory.configs.iter() {
                numbers.push(number(&mut self.configs, state)?);
            }
            for told in memory.changed.values_mut() {
                let number = numbers.get(usize::from(told.config));
                told.config = number.copied().unwrap_or(told.config);
            }
        }
        Ok(())
    }

    /// How much memory it takes, counted in rooms.
    fn weight(&self) -> usize {
        let of_steps = self.steps.iter().map(|step| {
            let confirmed = step.confirmed.as_ref().map_or(0, Vec::len);
            confirmed + step.next.as_ref().map_or(0, |(_, rooms)| rooms.len())
        });
        let of_versions = self.versions.iter().map(|(_, rooms)| rooms.len());
        let rooms = self.rooms.len() + self.confirmed.as_ref().map_or(0, Rooms::len);
        rooms
            + of_versions.sum::<usize>()
            + of_steps.sum::<usize>()
            + self.configs_size / BYTES_OF_ROOM
            + BASE
    }
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client had been told that shows this version; the version is confirmed by that.
    fn at(&self, version: i64) -> Option<(Memory, bool)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut confirmed = Vec::new();
        let mut confirms = false;
        if let Some(at) = inner
            .versions
            .iter()
            .position(|(known, _)| *known == version)
        {
            let (_, rooms) = inner.versions.swap_remove(at);
            inner.versions.clear();
            inner.version = version;
            confirms = true;
            confirmed.extend(rooms.keys());
            Arc::make_mut(&mut inner.rooms).extend(rooms.iter().map(|(room, told)| (*room, *told)));
            inner.confirmed.get_or_insert_default().extend(rooms);
        }
        let memory = (inner.version == version).then(|| Memory {
            version,
            rooms: inner.rooms.clone(),
            changed: Rooms::new(),
            configs: inner.configs.clone(),
            settled: inner
                .settled
                .clone()
                .filter(|settled| settled.version == version),
            confirmed: Some(confirmed),
        });
        memory.map(|memory| (memory, confirms))
    }

    /// Takes note of what an answer tells; gives its version. What is to be written down goes its own way.
    pub fn told(
        self: &Arc<Self>,
        app: &App,
        mut memory: Memory,
        settled: Option<(u64, Vec<u64>)>,
    ) -> Result<i64, MatrixError> {
        let now_ms = app.store.clock().now_ms();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let is_touched = now_ms - inner.seen_ms > keep::TOUCHED_MS;
        let next = if memory.changed.is_empty() && memory.version != 0 {
            memory.version
        } else {
            random_number()?
        };
        inner.settled = settled.map(|(wanted, changes)| Settled {
            version: next,
            wanted,
            changes,
        });
        // What was made upon a version that another request has left behind can't be gone on with.
        if next == memory.version && !is_touched || memory.version != inner.version {
            return Ok(next);
        }
        inner.agree(&mut memory)?;
        let mut step = SlidingStep {
            connection: self.no,
            user: self.user,
            device: self.device.clone(),
            conn_id: self.conn_id.clone(),
            is_new: std::mem::take(&mut inner.is_new),
            version: inner.version,
            confirmed: inner
                .confirmed
                .take()
                .map(|rooms| rooms.into_iter().collect()),
            next: None,
            gone: None,
            configs: serde_json::to_string(&*inner.configs).map_err(|_| MatrixError::internal())?,
            now_ms,
        };
        inner.configs_size = step.configs.len();
        if next != memory.version {
            step.next = Some((
                next,
                memory
                    .changed
                    .iter()
                    .map(|(room, told)| (*room, *told))
                    .collect(),
            ));
            if inner.versions.len() >= MOST_VERSIONS {
                step.gone = Some(inner.versions.remove(0).0);
            }
            inner.versions.push((next, memory.changed));
        } else if step.confirmed.is_some() {
            // All versions go with what is confirmed: this one is what the connection stands at now.
            inner.versions.clear();
        }
        inner.seen_ms = now_ms;
        inner.steps.push_back(step);
        drop(guard);
        app.sync.sliding.connections.weigh(self);
        keep::write(app, self.clone());
        Ok(next)
    }
}

/// A number that nobody can guess.
fn random_number() -> Result<i64, MatrixError> {
    let number = i64::from_le_bytes(random::bytes::<8>()?);
    Ok(number & i64::MAX | 1)
}
