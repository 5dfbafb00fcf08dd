//! What a first answer tells of every room, read for many rooms at a time: a query for each room would be
//! most of what such an answer costs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{EventNo, Logged, Pos, Receipt, RoomNo, Store, StoredEvent, UserNo};
use ruma::UserId;

use super::room::summary::HEROES;
use crate::{MatrixError, view::moment::WithoutMembers};

/// Rooms per query.
const ROOMS: usize = 200;

/// The newest events and the receipts of some rooms, up to a position.
#[derive(Debug, Default)]
pub struct FirstLook {
    /// How many events were asked for.
    size: usize,
    timelines: HashMap<RoomNo, Vec<Arc<StoredEvent>>>,
    receipts: HashMap<RoomNo, Vec<Arc<Logged<Receipt>>>>,
    put_out: HashSet<RoomNo>,
    heroes: HashMap<RoomNo, Vec<UserNo>>,
    /// The states without members, if those aren't told.
    states: Option<WithoutMembers>,
}

impl FirstLook {
    /// Reads the newest `size` events of each room, all receipts, and who stands for those without a name.
    pub async fn read(
        (store, reader): (&Store, UserNo),
        rooms: &[RoomNo],
        upto: Pos,
        size: usize,
    ) -> Result<Self, MatrixError> {
        let mut look = Self {
            size,
            ..Self::default()
        };
        for rooms in rooms.chunks(ROOMS) {
            // Heads and summaries are remembered from here on.
            store.load_rooms(rooms).await?;
            let summaries = store.room_summaries(rooms).await?;
            let named = |room: &RoomNo| summaries.get(room).is_some_and(|known| known.is_named());
            let nameless: Vec<RoomNo> = rooms.iter().copied().filter(|room| !named(room)).collect();
            look.read_heroes(store, reader, nameless).await?;
            for event in store.room_timelines(rooms, upto, size).await? {
                look.timelines.entry(event.room).or_default().push(event);
            }
            for receipt in store.receipts_in_rooms(rooms, upto).await? {
                look.receipts.entry(receipt.room).or_default().push(receipt);
            }
        }
        Ok(look)
    }

    async fn read_heroes(
        &mut self,
        store: &Store,
        reader: UserNo,
        nameless: Vec<RoomNo>,
    ) -> Result<(), MatrixError> {
        let mut heroes = store.heroes_of(&nameless, reader, HEROES).await?;
        let users = heroes.values().flatten().map(|member| member.user);
        let users: HashSet<UserNo> = users.collect();
        // The names are remembered from here on.
        let users: Vec<UserNo> = users.into_iter().collect();
        store.users(&users).await?;
        for room in nameless {
            let members = heroes.remove(&room).unwrap_or_default();
            let users = members.iter().map(|member| member.user);
            self.heroes.insert(room, users.collect());
        }
        Ok(())
    }

    /// Who stands for a room without a name, if that was read.
    pub fn heroes(&self, room: RoomNo) -> Option<&[UserNo]> {
        self.heroes.get(&room).map(Vec::as_slice)
    }

    /// Reads the rooms' states without their members.
    pub async fn read_states(
        &mut self,
        store: &Store,
        rooms: &[RoomNo],
    ) -> Result<(), MatrixError> {
        self.states = Some(WithoutMembers::read(store, rooms).await?);
        Ok(())
    }

    /// The states of all its rooms, if they were read.
    pub fn states(&self) -> Option<&WithoutMembers> {
        self.states.as_ref()
    }

    /// Notes which stays somebody else than `reader` has ended, by the events that ended them.
    pub async fn note_ends(
        &mut self,
        store: &Store,
        reader: &UserId,
        ends: &[EventNo],
    ) -> Result<(), MatrixError> {
        let ends = store.events_by_no(ends).await?;
        let by_others = ends.iter().filter(|end| end.pdu.sender() != reader);
        self.put_out.extend(by_others.map(|end| end.room));
        Ok(())
    }

    /// Whether somebody else ended the reader's stay in the room, or invite: a client that starts has to
    /// learn of that like one that was listening. Where the reader left themselves, they know.
    pub fn was_put_out(&self, room: RoomNo) -> bool {
        self.put_out.contains(&room)
    }

    /// The room's newest events, and whether these are all.
    pub fn timeline(&self, room: RoomNo) -> (&[Arc<StoredEvent>], bool) {
        let events = self.timelines.get(&room).map_or(&[][..], Vec::as_slice);
        (events, events.len() < self.size)
    }

    /// The room's receipts.
    pub fn receipts(&self, room: RoomNo) -> &[Arc<Logged<Receipt>>] {
        self.receipts.get(&room).map_or(&[][..], Vec::as_slice)
    }
}
