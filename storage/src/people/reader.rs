//! Following the log.

use std::time::Duration;

use rhizome_protocol::Membership;
use ruma::{OwnedServerName, ServerName};

use super::touched::Touched;
use crate::engine::lock;
use crate::{Failure, Lease, LogWork, Pos, Result, RoomNo, Store, Stretch, UserNo};

/// So many people are written at once.
pub(super) const PIECE: usize = 200;

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
        let users: Vec<UserNo> = users.into_iter().collect();
        for piece in users.chunks(PIECE) {
            if !store.write_people(lease, &self.here, piece, false).await? {
                return Ok(false);
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
        for piece in members.chunks(PIECE) {
            if !self
                .store
                .write_people(lease, &self.here, piece, true)
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
    /// Waits until everybody is found by what the log says until now, but not for long, and not where another process
    /// sees to it.
    pub async fn people_are_known(&self, patience: Duration) {
        let head = self.log().head();
        let mut reader = self.core.people.subscribe();
        let known = reader.wait_for(|reader| reader.as_ref().is_none_or(|at| at.is_at(head)));
        drop(tokio::time::timeout(patience, known).await);
    }

    /// Whether a user of this server is in the room.
    pub(super) async fn is_in(&self, here: &ServerName, room: RoomNo) -> Result<bool> {
        let servers = self.joined_servers(room).await?;
        Ok(servers.iter().any(|server| server == here))
    }
}
