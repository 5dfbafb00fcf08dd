//! Which state goes with a room: what is wanted of it as it is at the end of the timeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rhizome_protocol::StateKey;
use rhizome_storage::{EventNo, KeyNo, Pos, RoomNo, SnapshotNo, Store};
use ruma::UserId;

use super::{Scope, Teller};
use crate::{
    MatrixError,
    sync::{room::timeline::Timeline, sliding::request::config::State, window::RoomWindow},
    view::{
        dress,
        moment::{changes, state_at},
        seen::Seen,
        without_members::WithoutMembers,
    },
};

const MEMBER: &str = "m.room.member";
/// A state with more members than this is read without them, if it can be; a smaller one is remembered whole.
const MANY: i64 = 200;

/// State that is told.
pub struct Found {
    /// What is there.
    pub events: Vec<Seen>,
    /// What is there no more.
    pub gone: Vec<Arc<StateKey>>,
    /// What the client has with it.
    pub knows: State,
}

impl Teller<'_> {
    /// The state that goes with a timeline.
    pub(super) async fn state(
        &self,
        scope: &Scope<'_>,
        window: &RoomWindow,
        timeline: &Timeline,
    ) -> Result<Found, MatrixError> {
        let wanted = &scope.pick.config.state;
        let people = if wanted.is_lazy() {
            people_of(timeline)
        } else {
            BTreeSet::new()
        };
        let mut found: BTreeSet<EventNo> = BTreeSet::new();
        let mut gone = Vec::new();
        let mut knows = wanted.clone();
        if scope.from.is_some() {
            let all_members = wanted.is_lazy() && !timeline.limited;
            let mut lost = false;
            for (key, event) in self.changed(window).await? {
                let member =
                    key.kind == MEMBER && (all_members || people.contains(key.key.as_str()));
                if !member && !wanted.has(&key.kind, &key.key) {
                    lost |= scope.has.is_some_and(|has| has.has(&key.kind, &key.key));
                    continue;
                }
                match event {
                    Some(event) => drop(found.insert(event)),
                    None => gone.push(key),
                }
            }
            if let Some(has) = scope.has.filter(|has| !lost && !has.is_within(wanted)) {
                knows = has.with(wanted);
            }
        }
        if scope.has.is_none_or(|has| !wanted.is_within(has)) {
            found.extend(self.selected(scope, wanted).await?);
        }
        found.extend(self.members(scope, &people).await?);
        let nos: Vec<EventNo> = found.into_iter().collect();
        let events = self.loader.store.events_by_no(&nos).await?;
        if wanted.is_lazy() {
            let members = events.iter().filter(|event| event.pdu.kind() == MEMBER);
            let members =
                members.filter_map(|event| <&UserId>::try_from(event.pdu.state_key()?).ok());
            let (room, upto) = (scope.pick.row.room, self.loader.upto);
            self.loader.lazy.tell(&self.device, room, members, upto);
        }
        let events = dress::as_state(self.loader.store, events).await?;
        Ok(Found {
            events,
            gone,
            knows,
        })
    }

    /// What changed, and what it became.
    async fn changed(
        &self,
        window: &RoomWindow,
    ) -> Result<Vec<(Arc<StateKey>, Option<EventNo>)>, MatrixError> {
        let last: BTreeMap<KeyNo, Option<EventNo>> = window
            .changes
            .iter()
            .map(|change| (change.key, change.new))
            .collect();
        let keys: Vec<KeyNo> = last.keys().copied().collect();
        let keys = self.loader.store.keys(&keys).await?;
        Ok(keys.into_iter().zip(last.into_values()).collect())
    }

    /// What is wanted, but for what the client has.
    async fn selected(
        &self,
        scope: &Scope<'_>,
        wanted: &State,
    ) -> Result<Vec<EventNo>, MatrixError> {
        let is_new = |kind: &str, key: &str| !scope.has.is_some_and(|has| has.has(kind, key));
        if let Some(mut named) = wanted.named() {
            named.retain(|(kind, key)| is_new(kind, key));
            return self.entries(scope, &named).await;
        }
        let (store, room) = (self.loader.store, scope.pick.row.room);
        let all: BTreeMap<KeyNo, EventNo> = match scope.left {
            Some(left) => store.state_all(left).await?.into_iter().collect(),
            None => match wanted.members() {
                Some(members) if self.is_large(room).await? => {
                    let members: Vec<&str> = members.into_iter().collect();
                    let states = WithoutMembers::read(store, &[room]).await?;
                    states.with(store, room, &members, scope.upto).await?
                }
                _ => state_at(store, room, scope.upto).await?,
            },
        };
        let nos: Vec<KeyNo> = all.keys().copied().collect();
        let keys = store.keys(&nos).await?;
        let chosen = all
            .into_values()
            .zip(keys)
            .filter(|(_, key)| wanted.has(&key.kind, &key.key) && is_new(&key.kind, &key.key));
        Ok(chosen.map(|(event, _)| event).collect())
    }

    /// Whether it is worth a question not to look at those members of a room that nobody asks for.
    async fn is_large(&self, room: RoomNo) -> Result<bool, MatrixError> {
        let head = self.loader.store.room_by_no(room).await?;
        Ok(head.is_some_and(|head| head.joined + head.invited > MANY))
    }

    /// The members whom the client must know and doesn't.
    async fn members(
        &self,
        scope: &Scope<'_>,
        people: &BTreeSet<&str>,
    ) -> Result<Vec<EventNo>, MatrixError> {
        let room = scope.pick.row.room;
        let known = |user: &str| {
            let (Some(from), Ok(user)) = (scope.from, <&UserId>::try_from(user)) else {
                return false;
            };
            self.loader.lazy.knows(&self.device, room, user, from)
        };
        let owed: Vec<_> = (people.iter())
            .filter(|user| !known(user))
            .map(|user| (MEMBER, *user))
            .collect();
        self.entries(scope, &owed).await
    }

    async fn entries(
        &self,
        scope: &Scope<'_>,
        keys: &[(&str, &str)],
    ) -> Result<Vec<EventNo>, MatrixError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.loader.store;
        let found = match scope.left {
            Some(left) => store.state_entries(left, keys).await?,
            None => entries_at(store, scope.pick.row.room, scope.upto, keys).await?,
        };
        Ok(found.into_iter().flatten().collect())
    }
}

/// Some entries of a room's current state as it was at a position.
async fn entries_at(
    store: &Store,
    room: RoomNo,
    upto: Pos,
    keys: &[(&str, &str)],
) -> Result<Vec<Option<EventNo>>, MatrixError> {
    let Some(snapshot) = current(store, room).await? else {
        return Ok(Vec::new());
    };
    let mut found = store.state_entries(snapshot, keys).await?;
    // Read after the head: whatever it holds beyond the position is among these.
    let now = store.log().refresh().await?;
    if now > upto {
        let nos = store.known_keys(keys).await?;
        for change in changes(store, room, upto, now).await?.iter().rev() {
            if let Some(at) = nos.iter().position(|no| *no == Some(change.key)) {
                found[at] = change.old;
            }
        }
    }
    Ok(found)
}

async fn current(store: &Store, room: RoomNo) -> Result<Option<SnapshotNo>, MatrixError> {
    let head = store.room_by_no(room).await?;
    Ok(head.and_then(|head| head.snapshot))
}

/// The senders of a timeline, and those whose membership it tells of.
fn people_of(timeline: &Timeline) -> BTreeSet<&str> {
    let mut people = BTreeSet::new();
    for event in timeline.events.iter().map(|seen| &seen.event) {
        people.insert(event.pdu.sender().as_str());
        if event.pdu.kind() == MEMBER {
            people.extend(event.pdu.state_key());
        }
    }
    people
}

impl Teller<'_> {
    /// Reads at once what rooms that are told as a whole will ask for one by one.
    pub async fn read_ahead(&self, rooms: &[(RoomNo, &State)]) -> Result<(), MatrixError> {
        let store = self.loader.store;
        let mut wanted = Vec::new();
        for (room, state) in rooms {
            let (Some(at), Some(named)) = (current(store, *room).await?, state.named()) else {
                continue;
            };
            let events = self.newest.get(room).into_iter().flatten();
            let senders: BTreeSet<&str> = events.map(|event| event.pdu.sender().as_str()).collect();
            let senders = senders.into_iter().filter(|_| state.is_lazy());
            wanted.extend(senders.map(|user| (at, MEMBER, user)));
            wanted.extend(named.into_iter().map(|(kind, key)| (at, kind, key)));
        }
        let found = store.state_entries_at(&wanted).await?;
        let nos: Vec<EventNo> = found.into_iter().flatten().collect();
        store.events_by_no(&nos).await?;
        Ok(())
    }
}
