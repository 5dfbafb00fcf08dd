//! Following the log.

use std::collections::BTreeSet;
use std::time::Duration;

use rhizome_protocol::Membership;
use ruma::{OwnedServerName, ServerName};

use super::touched::{Touched, door_keys};
use crate::engine::lock;
use crate::engine::sql::Columns as _;
use crate::{EntryKind, Failure, Lease, LogWork, Pos, Result, RoomNo, Store, Stretch, UserNo};

/// So many people are written at once.
pub(super) const PIECE: usize = 200;

/// The name of this reader.
pub const PEOPLE_READER: &str = "people";
/// So often a process in which it doesn't run asks how far it is, while somebody waits for it.
const ASKED: u32 = 4;
/// So many entries of the log that aren't read yet are looked at for rooms that may have been closed.
const LOOKED_AHEAD: usize = 1_000;

/// How far the reader of this process has come.
#[derive(Debug)]
pub(crate) struct PeopleReader {
    lease: Lease,
    upto: Pos,
}

impl PeopleReader {
    /// Whether there is no use in waiting for it to come to this position.
    fn is_at(&self, pos: Pos) -> bool {
        self.upto >= pos || !self.lease.held()
    }
}

/// Keeps what people are called, as the work of a [`LogReader`](crate::LogReader).
#[derive(Debug)]
pub struct FillPeople {
    store: Store,
    here: OwnedServerName,
    lease: std::sync::Mutex<Option<Lease>>,
}

impl FillPeople {
    /// For what this database holds. `here`: this server, whose users are called what their profiles say.
    pub fn new(store: &Store, here: OwnedServerName) -> Self {
        Self {
            store: store.clone(),
            here,
            lease: std::sync::Mutex::default(),
        }
    }

    async fn take(&self, lease: &Lease, touched: Touched) -> Result<bool, Failure> {
        let store = &self.store;
        let mut users = touched.users;
        let events: Vec<_> = touched.events.into_iter().collect();
        if !events.is_empty() {
            users.extend(store.forget_names(lease, &events).await?);
        }
        let mut rooms = touched.rooms;
        rooms.extend(store.rooms_come_back_to(touched.joined).await?);
        for room in touched.left {
            if !store.is_in(&self.here, room).await? {
                rooms.insert(room);
            }
        }
        let moved: Vec<UserNo> = touched.moved.difference(&users).copied().collect();
        let users: Vec<UserNo> = users.into_iter().collect();
        for (users, at) in [(users, None), (moved, Some(&touched.moved_in))] {
            for piece in users.chunks(PIECE) {
                let here = &self.here;
                if !store.write_people(lease, here, piece, at, false).await? {
                    return Ok(false);
                }
            }
        }
        for room in touched.doors {
            if !rooms.contains(&room) && store.door_has_changed(&self.here, room).await? {
                rooms.insert(room);
            }
        }
        for room in rooms {
            if !self.take_room(lease, room).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes all members of a room, and whether anybody may look into it.
    async fn take_room(&self, lease: &Lease, room: RoomNo) -> Result<bool> {
        if !self.store.write_room(lease, &self.here, room, true).await? {
            return Ok(false);
        }
        let join = Some(Membership::Join);
        let members = self.store.members(room, join).await?;
        let members: Vec<UserNo> = members.iter().map(|member| member.user).collect();
        let there = BTreeSet::from([room]);
        for piece in members.chunks(PIECE) {
            if !self
                .store
                .write_people(lease, &self.here, piece, Some(&there), true)
                .await?
            {
                return Ok(false);
            }
        }
        self.store.write_room(lease, &self.here, room, false).await
    }
}

impl LogWork for FillPeople {
    async fn begin(&self, lease: &Lease, done: Pos) -> Result<Pos, Failure> {
        *lock(&self.lease) = Some(lease.clone());
        self.store.core.people.send_replace(None);
        let begun = self.store.fill_people(lease, &self.here).await?;
        Ok(begun.max(done))
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        let Some(lease) = lock(&self.lease).clone() else {
            return Err("it hasn't begun".into());
        };
        let touched = Touched::by(&self.store, &self.here, stretch).await?;
        if !self.take(&lease, touched).await? {
            return Err("another process keeps what people are called".into());
        }
        let upto = stretch.upto;
        self.store
            .core
            .people
            .send_replace(Some(PeopleReader { lease, upto }));
        Ok(())
    }
}

impl Store {
    /// Waits until everybody is found by what the log says until now, but not for long.
    pub async fn people_are_known(&self, patience: Duration) {
        let head = self.log().head();
        let mut reader = self.core.people.subscribe();
        let known = reader.wait_for(|reader| reader.as_ref().is_none_or(|at| at.is_at(head)));
        drop(tokio::time::timeout(patience, known).await);
        // Another process sees to it, and says now and then how far it is.
        for _ in 0..ASKED {
            let at = match self.people_are_read_here() {
                Some(_) => return,
                None => self.people_stand_at().await,
            };
            if !matches!(at, Ok(Some(at)) if at < head) {
                return;
            }
            tokio::time::sleep(patience / ASKED).await;
        }
    }

    /// Up to where what people are called is known; `None` if nobody has begun.
    async fn people_stand_at(&self) -> Result<Option<Pos>> {
        if let Some(at) = self.people_are_read_here() {
            return Ok(Some(at));
        }
        let query = self
            .sql("SELECT pos FROM reader WHERE name = $1")
            .bind(PEOPLE_READER);
        let row = self.row(query).await?;
        let at: Option<Pos> = row.map(|row| row.get("pos")).transpose()?;
        Ok(at.filter(|at| *at > Pos(0)))
    }

    fn people_are_read_here(&self) -> Option<Pos> {
        let reader = self.core.people.borrow();
        let reader = reader.as_ref().filter(|reader| reader.lease.held());
        reader.map(|reader| reader.upto)
    }

    /// Rooms of which something has changed, that isn't known yet, which decides who may look into them.
    pub(super) async fn rooms_in_question(&self) -> Result<Vec<RoomNo>> {
        let head = self.log().head();
        let at = self.people_stand_at().await?.unwrap_or(head);
        if at >= head {
            return Ok(Vec::new());
        }
        let keys = door_keys(self).await?;
        let entries = self.log().read(at, head, LOOKED_AHEAD).await?;
        let rooms = entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::State(state) if keys.contains(&state.key) => Some(state.room),
            _ => None,
        });
        Ok(rooms.collect())
    }

    /// Whether a user of this server is in the room.
    pub(super) async fn is_in(&self, here: &ServerName, room: RoomNo) -> Result<bool> {
        let servers = self.joined_servers(room).await?;
        Ok(servers.iter().any(|server| server == here))
    }
}
