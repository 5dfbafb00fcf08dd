//! A room's current state at a moment of the log: today's, with what has changed since undone.

use std::collections::{BTreeMap, HashMap};

use rhizome_storage::{EntryKind, EventNo, KeyNo, Pos, RoomNo, StateChanged, StateEntry, Store};

use crate::MatrixError;

/// One change of a room's current state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// Its place in the log.
    pub pos: Pos,
    /// What changed.
    pub key: KeyNo,
    /// The event that was there before.
    pub old: Option<EventNo>,
    /// The event that is there since.
    pub new: Option<EventNo>,
}

/// A room's current state as it was at a position.
pub async fn state_at(
    store: &Store,
    room: RoomNo,
    at: Pos,
) -> Result<BTreeMap<KeyNo, EventNo>, MatrixError> {
    let Some(head) = store.room_by_no(room).await? else {
        return Ok(BTreeMap::new());
    };
    let Some(snapshot) = head.snapshot else {
        return Ok(BTreeMap::new());
    };
    let full = store.state_all(snapshot).await?.into_iter().collect();
    // Read after the head: whatever it holds beyond `at` is among these.
    let now = store.log().refresh().await?;
    let later = if now > at {
        changes(store, room, at, now).await?
    } else {
        Vec::new()
    };
    Ok(rewound(full, &later))
}

/// Rooms per query.
const ROOMS: usize = 200;

/// The current states of rooms without their members, as the database has them by now.
#[derive(Debug, Default)]
pub struct WithoutMembers(HashMap<RoomNo, Vec<(StateEntry, Pos)>>);

impl WithoutMembers {
    /// Reads those of many rooms at once.
    pub async fn read(store: &Store, rooms: &[RoomNo]) -> Result<Self, MatrixError> {
        let mut states = Self::default();
        for rooms in rooms.chunks(ROOMS) {
            for (room, entry, pos) in store.current_without_members(rooms).await? {
                states.0.entry(room).or_default().push((entry, pos));
            }
        }
        Ok(states)
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
        let keys: Vec<_> = members
            .iter()
            .map(|user| ("m.room.member", *user))
            .collect();
        let keys = store.known_keys(&keys).await?;
        let keys: Vec<KeyNo> = keys.into_iter().flatten().collect();
        let found = store.state_lookup(snapshot, &keys).await?;
        let found = keys.iter().zip(found);
        let members = found.filter_map(|(key, event)| Some((*key, event?)));
        let held = self.0.get(&room).map_or(&[][..], Vec::as_slice);
        let plain = held.iter().map(|(entry, _)| *entry);
        let now = store.log().refresh().await?;
        // What isn't told in the log yet may be in the database already.
        let ahead = held.iter().any(|(_, pos)| *pos > now);
        let later = match () {
            () if ahead => changes(store, room, at, Pos(i64::MAX)).await?,
            () if now > at => changes(store, room, at, now).await?,
            () => Vec::new(),
        };
        Ok(rewound(plain.chain(members).collect(), &later))
    }
}

/// The changes of a room's current state between two positions.
pub async fn changes(
    store: &Store,
    room: RoomNo,
    after: Pos,
    upto: Pos,
) -> Result<Vec<EntryChange>, MatrixError> {
    let rows = match store.log().state_changes(room, after, upto) {
        Some(entries) => entries
            .iter()
            .filter_map(|entry| match entry.kind {
                EntryKind::State(StateChanged { key, old, new, .. }) => {
                    Some((entry.pos, key, old, new))
                }
                _ => None,
            })
            .collect(),
        None => store.state_changes(room, after, upto).await?,
    };
    Ok(rows
        .into_iter()
        .map(|(pos, key, old, new)| EntryChange { pos, key, old, new })
        .collect())
}

/// The state at a position from a later one: `full` with every change after that position undone.
///
/// It does no harm when `full` holds only some of `undo`: each key gets the value that it had
/// before its first change after the position.
fn rewound(full: BTreeMap<KeyNo, EventNo>, undo: &[EntryChange]) -> BTreeMap<KeyNo, EventNo> {
    let mut state = full;
    for change in undo.iter().rev() {
        match change.old {
            Some(old) => state.insert(change.key, old),
            None => state.remove(&change.key),
        };
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(pos: i64, key: i64, old: Option<i64>, new: Option<i64>) -> EntryChange {
        EntryChange {
            pos: Pos(pos),
            key: KeyNo(key),
            old: old.map(EventNo),
            new: new.map(EventNo),
        }
    }

    fn map(entries: &[(i64, i64)]) -> BTreeMap<KeyNo, EventNo> {
        entries
            .iter()
            .map(|&(key, event)| (KeyNo(key), EventNo(event)))
            .collect()
    }

    #[test]
    fn rewinding_gives_the_state_of_then_whichever_changes_were_in_it() {
        let undo = [
            change(5, 7, Some(9), Some(11)),
            change(6, 7, Some(11), Some(12)),
            change(7, 8, None, Some(20)),
        ];
        let then = map(&[(1, 1), (7, 9)]);
        assert_eq!(rewound(map(&[(1, 1), (7, 12), (8, 20)]), &undo), then);
        assert_eq!(rewound(map(&[(1, 1), (7, 11)]), &undo), then);
        assert_eq!(rewound(then.clone(), &undo), then);
    }
}
