//! Reading what lists look at.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::Membership;
use rhizome_rooms::access;
use rhizome_storage::{EventNo, MembershipRow, Pos, RoomNo, Store};
use ruma::RoomId;
use serde_json::Value;

use super::{Facets, UserRooms, facets::tags_of};
use crate::{
    MatrixError,
    view::{direct, seen::Viewer},
};

/// The rooms whose memberships differ; both in the order of rooms.
pub fn differing(before: &[MembershipRow], after: &[MembershipRow]) -> Vec<RoomNo> {
    let mut old = before.iter().peekable();
    let mut differing = Vec::new();
    for row in after {
        while let Some(gone) = old.next_if(|old| old.room < row.room) {
            differing.push(gone.room);
        }
        let same = old
            .next_if(|old| old.room == row.room)
            .is_some_and(|old| old == row);
        if !same {
            differing.push(row.room);
        }
    }
    differing.extend(old.map(|gone| gone.room));
    differing
}

impl UserRooms {
    /// Reads everything anew.
    pub(super) async fn load(
        &mut self,
        store: &Store,
        viewer: &Viewer,
        rows: &Arc<[MembershipRow]>,
        upto: Pos,
    ) -> Result<(), MatrixError> {
        *self = Self {
            ignored: self.ignored.clone(),
            ..Self::default()
        };
        self.rows = Some(rows.clone());
        let activity = store.rooms_by_activity(viewer.user).await?;
        let activity: HashMap<RoomNo, (Pos, Pos)> = (activity.into_iter())
            .map(|(room, latest, bump)| (room, (latest, bump)))
            .collect();
        let all: Vec<&MembershipRow> = rows.iter().filter(|row| !row.forgotten).collect();
        self.look_at(store, viewer, &all, &activity).await?;
        self.read_direct(store, viewer).await?;
        self.at = Some(upto);
        Ok(())
    }

    /// Looks at some rooms again.
    pub(super) async fn look_again(
        &mut self,
        store: &Store,
        viewer: &Viewer,
        rooms: &[RoomNo],
    ) -> Result<(), MatrixError> {
        let rows = self.rows.clone().unwrap_or_else(|| Arc::new([]));
        let mut found = Vec::with_capacity(rooms.len());
        let mut activity = HashMap::new();
        for room in rooms {
            let index = rows.binary_search_by_key(room, |row| row.room);
            let Some(row) = index
                .ok()
                .map(|index| &rows[index])
                .filter(|row| !row.forgotten)
            else {
                self.put(*room, None);
                continue;
            };
            let known = self.rooms.get(room).filter(|known| known.is_joined());
            let since = match (row.membership, known) {
                (Membership::Join, Some(known)) => (known.activity, known.bump),
                _ => (row.pos, row.pos),
            };
            activity.insert(*room, since);
            found.push(row);
        }
        self.look_at(store, viewer, &found, &activity).await
    }

    async fn look_at(
        &mut self,
        store: &Store,
        viewer: &Viewer,
        rows: &[&MembershipRow],
        activity: &HashMap<RoomNo, (Pos, Pos)>,
    ) -> Result<(), MatrixError> {
        let rooms: Vec<RoomNo> = rows.iter().map(|row| row.room).collect();
        let summaries = store.room_summaries(&rooms).await?;
        let ids = store.room_ids(&rooms).await?;
        let put_out = put_out(store, viewer, rows).await?;
        let shown = self.shown(store, viewer, rows).await?;
        for (row, id) in rows.iter().zip(ids) {
            let (latest, bump) = activity
                .get(&row.room)
                .copied()
                .unwrap_or((row.pos, row.pos));
            let tags = self.rooms.get(&row.room).map(|known| known.tags.clone());
            let summary = summaries.get(&row.room);
            let mut facets = Facets {
                activity: latest,
                bump,
                membership: row.membership,
                is_listed: true,
                is_dm: self.direct.contains(&id),
                is_encrypted: summary.is_some_and(|it| it.encryption.is_some()),
                room_type: summary
                    .and_then(|it| it.room_type.as_deref())
                    .map(Arc::from),
                tags: tags.unwrap_or_else(|| Arc::new([])),
            };
            match row.membership {
                Membership::Leave | Membership::Ban => {
                    // What became of the room since is none of theirs to know.
                    facets.is_encrypted = put_out.get(&row.room).copied().unwrap_or(false);
                    facets.is_listed = put_out.contains_key(&row.room);
                }
                _ if row.event.is_none() => {
                    self.look_at_invite(store, viewer, row.room, &mut facets)
                        .await?;
                }
                Membership::Invite | Membership::Knock => {
                    facets.is_listed = shown.contains(&row.room);
                }
                Membership::Join => {}
            }
            self.put(row.room, Some(&facets));
        }
        Ok(())
    }

    /// Of the rooms here that the user is invited to, or knocks on, those that they are shown: an invite of somebody whom
    /// they ignore isn't.
    async fn shown(
        &self,
        store: &Store,
        viewer: &Viewer,
        rows: &[&MembershipRow],
    ) -> Result<HashSet<RoomNo>, MatrixError> {
        let summons = |row: &&&MembershipRow| {
            matches!(row.membership, Membership::Invite | Membership::Knock)
        };
        let events = rows.iter().filter(summons).filter_map(|row| row.event);
        let events: Vec<EventNo> = events.collect();
        if events.is_empty() {
            return Ok(HashSet::new());
        }
        let events = store.events_by_no(&events).await?;
        let shown = events.iter().filter(|event| {
            let by = event.pdu.sender();
            by == viewer.user_id || !self.ignored.hides_invite_to(by, event.pdu.room_id())
        });
        Ok(shown.map(|event| event.room).collect())
    }

    /// What another server's invite says of its room.
    async fn look_at_invite(
        &self,
        store: &Store,
        viewer: &Viewer,
        room: RoomNo,
        facets: &mut Facets,
    ) -> Result<(), MatrixError> {
        let Some(invite) = store.remote_invite(viewer.user, room).await? else {
            facets.is_listed = false;
            return Ok(());
        };
        let by = &invite.sender;
        let hidden = self.ignored.hides_invite_into(store, by, room);
        facets.is_listed = *by == viewer.user_id || !hidden.await?;
        let state: Vec<Value> = serde_json::from_str(&invite.stripped_state).unwrap_or_default();
        for event in &state {
            match event.get("type").and_then(Value::as_str) {
                Some("m.room.encryption") => facets.is_encrypted = true,
                Some("m.room.create") => {
                    let kind = event.get("content").and_then(|content| content.get("type"));
                    facets.room_type = kind.and_then(Value::as_str).map(Arc::from);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads which rooms are direct chats.
    pub(super) async fn read_direct(
        &mut self,
        store: &Store,
        viewer: &Viewer,
    ) -> Result<(), MatrixError> {
        let direct = direct::rooms_of(store, viewer.user).await?;
        let rooms: Vec<RoomNo> = self.rooms.keys().copied().collect();
        let ids = store.room_ids(&rooms).await?;
        self.direct = direct;
        for (room, id) in rooms.into_iter().zip(ids) {
            let is_dm = self.direct.contains(&id);
            self.change(room, |facets| facets.is_dm = is_dm);
        }
        Ok(())
    }

    /// Reads the user's tags.
    pub(super) async fn read_tags(
        &mut self,
        store: &Store,
        viewer: &Viewer,
    ) -> Result<(), MatrixError> {
        for data in store.account_data_of_kind(viewer.user, "m.tag").await? {
            if let Some(room) = data.room {
                let tags = tags_of(&data.content);
                self.change(room, |facets| facets.tags = tags);
            }
        }
        self.has_tags = true;
        Ok(())
    }

    /// The rooms that those of these spaces hold which the user is in.
    pub(super) async fn children(
        &self,
        store: &Store,
        spaces: &BTreeSet<String>,
    ) -> Result<HashSet<RoomNo>, MatrixError> {
        let mut children = HashSet::new();
        for space in spaces {
            let Ok(id) = <&RoomId>::try_from(space.as_str()) else {
                continue;
            };
            let Some(head) = store.room(id).await? else {
                continue;
            };
            let joined = self.rooms.get(&head.room).is_some_and(Facets::is_joined);
            let Some(snapshot) = head.snapshot.filter(|_| joined) else {
                continue;
            };
            children.extend(children_of(store, snapshot).await?);
        }
        Ok(children)
    }
}

async fn children_of(
    store: &Store,
    space: rhizome_storage::SnapshotNo,
) -> Result<Vec<RoomNo>, MatrixError> {
    let entries = store.state_all(space).await?;
    let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
    let keys = store.keys(&keys).await?;
    let of_children = entries
        .iter()
        .zip(&keys)
        .filter(|(_, key)| key.kind == "m.space.child");
    let events: Vec<EventNo> = of_children.map(|((_, event), _)| *event).collect();
    let mut children = Vec::new();
    for event in store.events_by_no(&events).await? {
        // Without servers to go by it was taken away.
        let via = event.pdu.content().get("via").and_then(Value::as_array);
        let id = event
            .pdu
            .state_key()
            .and_then(|id| <&RoomId>::try_from(id).ok());
        if let (Some(_), Some(id)) = (via.filter(|via| !via.is_empty()), id) {
            children.extend(store.known_room(id).await?);
        }
    }
    Ok(children)
}

/// The rooms that somebody else has put the user out of, and whether they were encrypted then.
async fn put_out(
    store: &Store,
    viewer: &Viewer,
    rows: &[&MembershipRow],
) -> Result<HashMap<RoomNo, bool>, MatrixError> {
    let gone =
        |row: &&&MembershipRow| matches!(row.membership, Membership::Leave | Membership::Ban);
    let ends: Vec<EventNo> = rows
        .iter()
        .filter(gone)
        .filter_map(|row| row.event)
        .collect();
    let ends = store.events_by_no(&ends).await?;
    let by_others: HashSet<RoomNo> = (ends.iter())
        .filter(|end| end.pdu.sender() != viewer.user_id)
        .map(|end| end.room)
        .collect();
    let mut put_out = HashMap::new();
    for row in rows.iter().filter(|row| by_others.contains(&row.room)) {
        let end = access::end_of_stay(store, &viewer.user_id, row).await?;
        let Some(left) = end.and_then(|end| end.state_after) else {
            continue;
        };
        let encryption = store.state_entry(left, "m.room.encryption", "").await?;
        put_out.insert(row.room, encryption.is_some());
    }
    Ok(put_out)
}
