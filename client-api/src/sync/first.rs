//! What a first answer tells of every room, read for many rooms at a time: a query for each room would be
//! most of what such an answer costs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{EventNo, Logged, Pos, Receipt, RoomNo, Store, StoredEvent, UserNo};
use ruma::UserId;

use crate::{
    MatrixError,
    view::{moment::EntryChange, without_members::WithoutMembers},
};

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
    /// The changes of state since right before each room's first event here, where the log has left them behind in memory.
    changes: HashMap<RoomNo, (Pos, Vec<EntryChange>)>,
    heroes: HashMap<RoomNo, Vec<UserNo>>,
    /// The states without members, if those aren't told.
    states: Option<WithoutMembers>,
}

impl FirstLook {
    /// Reads the newest `size` events of each room, all receipts, and the first `heroes` members of those
    /// without a name.
    pub async fn read(
        (store, reader): (&Store, UserNo),
        rooms: &[RoomNo],
        upto: Pos,
        (size, heroes): (usize, usize),
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
            look.read_heroes((store, reader), nameless, heroes).await?;
            let events = store.room_timelines(rooms, upto, size).await?;
            let nos: Vec<EventNo> = events.iter().map(|event| event.no).collect();
            store.note_gapless(rooms, &nos).await?;
            look.read_changes(store, &events, upto).await?;
            for event in events {
                look.timelines.entry(event.room).or_default().push(event);
            }
            for receipt in store.receipts_in_rooms_after(rooms, Pos(0), upto).await? {
                look.receipts.entry(receipt.room).or_default().push(receipt);
            }
        }
        Ok(look)
    }

    /// Reads how states changed among some events, which come room by room.
    async fn read_changes(
        &mut self,
        store: &Store,
        events: &[Arc<StoredEvent>],
        upto: Pos,
    ) -> Result<(), MatrixError> {
        let mut since: Vec<(RoomNo, Pos)> = Vec::new();
        for room in events.chunk_by(|one, next| one.room == next.room) {
            let Some(first) = room.first() else { continue };
            let before = first.pos().map_or(upto, |pos| Pos(pos.0 - 1));
            let log = store.log();
            if log.state_changes(first.room, before, upto).is_none() {
                since.push((first.room, before));
                self.changes.insert(first.room, (before, Vec::new()));
            }
        }
        if since.is_empty() {
            return Ok(());
        }
        for entry in store.state_changes_in(&since, upto).await? {
            let room = entry
                .kind
                .room()
                .and_then(|room| self.changes.get_mut(&room));
            if let Some((_, changes)) = room {
                changes.extend(EntryChange::of(&entry));
            }
        }
        Ok(())
    }

    /// The changes of a room's state after a position, if they were read.
    pub fn changes(&self, room: RoomNo, after: Pos) -> Option<Vec<EntryChange>> {
        let (since, changes) = self.changes.get(&room)?;
        let later = changes.iter().filter(|change| change.pos > after);
        (*since <= after).then(|| later.copied().collect())
    }

    async fn read_heroes(
        &mut self,
        (store, reader): (&Store, UserNo),
        nameless: Vec<RoomNo>,
        count: usize,
    ) -> Result<(), MatrixError> {
        let mut heroes = store.heroes_of(&nameless, reader, count).await?;
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

    /// Reads the rooms' states without their members but for those whom a first answer tells of.
    pub async fn read_states(
        &mut self,
        store: &Store,
        reader: &UserId,
        rooms: &[RoomNo],
    ) -> Result<(), MatrixError> {
        let mut states = WithoutMembers::read(store, rooms).await?;
        let mut members: HashSet<(RoomNo, &str)> =
            rooms.iter().map(|room| (*room, reader.as_str())).collect();
        for event in self.timelines.values().flatten() {
            members.insert((event.room, event.pdu.sender().as_str()));
            if event.pdu.kind() == "m.room.member" {
                members.extend(event.pdu.state_key().map(|user| (event.room, user)));
            }
        }
        let mut heroes = Vec::new();
        for (room, users) in &self.heroes {
            for user in users {
                heroes.push((*room, store.user(*user).await?));
            }
        }
        members.extend(heroes.iter().map(|(room, hero)| (*room, hero.as_str())));
        let members: Vec<_> = members.into_iter().collect();
        states.look_for(store, &members).await?;
        self.states = Some(states);
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
