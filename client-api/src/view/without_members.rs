//! Current states of rooms without their members, of whom there may be very many.

use std::collections::{BTreeMap, HashMap};

use rhizome_storage::{EventNo, KeyNo, Pos, RoomNo, SnapshotNo, StateEntry, Store};

use crate::{
    MatrixError,
    view::moment::{changes, rewound, stored_changes},
};

/// Rooms per query.
const ROOMS: usize = 200;

/// Of so many rooms the events are read beforehand, too; of more they might be forgotten before they are told.
const FEW: usize = 500;

/// The current states of rooms without their members, as the database has them by now.
#[derive(Debug, Default)]
pub struct WithoutMembers {
    plain: HashMap<RoomNo, Vec<(StateEntry, Pos)>>,
    /// Members that were looked for beforehand.
    members: HashMap<(SnapshotNo, KeyNo), Option<EventNo>>,
    /// Where the log was when all of it had been read.
    now: Pos,
}

impl WithoutMembers {
    /// Reads those of many rooms at once.
    pub async fn read(store: &Store, rooms: &[RoomNo]) -> Result<Self, MatrixError> {
        let mut states = Self::default();
        for rooms in rooms.chunks(ROOMS) {
            for (room, entry, pos) in store.current_without_members(rooms).await? {
                let plain = states.plain.entry(room).or_default();
                plain.push((entry, pos));
            }
        }
        states.now = store.log().refresh().await?;
        Ok(states)
    }

    /// Looks for some members of the rooms, and reads the events of what was found.
    pub async fn look_for(
        &mut self,
        store: &Store,
        members: &[(RoomNo, &str)],
    ) -> Result<(), MatrixError> {
        let mut wanted = Vec::with_capacity(members.len());
        for (room, user) in members {
            let head = store.room_by_no(*room).await?;
            let snapshot = head.and_then(|head| head.snapshot);
            wanted.extend(snapshot.map(|at| (at, "m.room.member", *user)));
        }
        let names: Vec<_> = wanted
            .iter()
            .map(|(_, kind, user)| (*kind, *user))
            .collect();
        let keys = store.known_keys(&names).await?;
        let found = store.state_entries_at(&wanted).await?;
        for (((at, ..), key), event) in wanted.iter().zip(keys).zip(found) {
            if let Some(key) = key {
                self.members.insert((*at, key), event);
            }
        }
        if self.plain.len() <= FEW {
            let plain = self.plain.values().flatten().map(|((_, event), _)| *event);
            let members = self.members.values().flatten().copied();
            let events: Vec<EventNo> = plain.chain(members).collect();
            store.events_by_no(&events).await?;
        }
        self.now = store.log().refresh().await?;
        Ok(())
    }

    /// A room's state as it was at a position, with the entries of some members alone. Who isn't among them may be there
    /// or not.
    pub async fn with(
        &self,
        store: &Store,
        room: RoomNo,
        members: &[&str],
        at: Pos,
    ) -> Result<BTreeMap<KeyNo, EventNo>, MatrixError> {
        let Some(snapshot) = store.room_by_no(room).await?.and_then(|head| head.snapshot) else {
            return Ok(BTreeMap::new());
        };
        let held = self.plain.get(&room).map_or(&[][..], Vec::as_slice);
        let mut full: BTreeMap<KeyNo, EventNo> = held.iter().map(|(entry, _)| *entry).collect();
        let keys: Vec<_> = members
            .iter()
            .map(|user| ("m.room.member", *user))
            .collect();
        let mut left = Vec::new();
        for key in store.known_keys(&keys).await?.into_iter().flatten() {
            match self.members.get(&(snapshot, key)) {
                Some(event) => full.extend(event.map(|event| (key, event))),
                None => left.push(key),
            }
        }
        let mut now = self.now;
        if !left.is_empty() {
            let found = store.state_lookup(snapshot, &left).await?;
            let found = left.into_iter().zip(found);
            full.extend(found.filter_map(|(key, event)| Some((key, event?))));
            now = store.log().refresh().await?;
        }
        // What isn't told in the log yet may be in the database already.
        let ahead = held.iter().any(|(_, pos)| *pos > now);
        let later = match () {
            () if ahead => stored_changes(store, room, at, Pos(i64::MAX)).await?,
            () if now > at => changes(store, room, at, now).await?,
            () => Vec::new(),
        };
        Ok(rewound(full, &later))
    }
}
