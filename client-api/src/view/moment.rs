//! A room's current state at a moment of the log: today's, with what has changed since undone.

use std::collections::BTreeMap;

use rhizome_storage::{Entry, EntryKind, EventNo, KeyNo, Pos, RoomNo, StateChanged, Store};

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

impl EntryChange {
    /// What an entry of the log says of it.
    pub fn of(entry: &Entry) -> Option<EntryChange> {
        let EntryKind::State(StateChanged { key, old, new, .. }) = entry.kind else {
            return None;
        };
        let pos = entry.pos;
        Some(EntryChange { pos, key, old, new })
    }
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

/// The changes of a room's current state between two positions.
pub async fn changes(
    store: &Store,
    room: RoomNo,
    after: Pos,
    upto: Pos,
) -> Result<Vec<EntryChange>, MatrixError> {
    let Some(entries) = store.log().state_changes(room, after, upto) else {
        return stored_changes(store, room, after, upto).await;
    };
    let changes = entries.iter().filter_map(|entry| EntryChange::of(entry));
    Ok(changes.collect())
}

/// The same from the database, which may be ahead of the log that we have read.
pub async fn stored_changes(
    store: &Store,
    room: RoomNo,
    after: Pos,
    upto: Pos,
) -> Result<Vec<EntryChange>, MatrixError> {
    let rows = store.state_changes(room, after, upto).await?.into_iter();
    let changes = rows.map(|(pos, key, old, new)| EntryChange { pos, key, old, new });
    Ok(changes.collect())
}

/// The state at a position from a later one: `full` with every change after that position undone.
///
/// It does no harm when `full` holds only some of `undo`: each key gets the value that it had
/// before its first change after the position.
pub fn rewound(full: BTreeMap<KeyNo, EventNo>, undo: &[EntryChange]) -> BTreeMap<KeyNo, EventNo> {
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
