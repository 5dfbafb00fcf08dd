//! A user's rooms in the order of their last activity, and those of each list.
//!
//! They are read once, and then kept by what answers read anyhow: a room in which something happened moves, one that
//! changed is looked at again by each filter. All connections of a user share them, and lists with the same filter are
//! the same list.

mod facets;
mod load;
mod sorted;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{Cache, MembershipRow, Pos, RoomNo, UserNo, is_activity};
use ruma::OwnedRoomId;
use tokio::sync::Mutex;

pub use self::{facets::Facets, sorted::Sorted};
use super::request::filter::Filter;
use crate::{
    MatrixError,
    sync::window::Window,
    view::{ignored::Unwanted, seen::Viewer},
};
use rhizome_storage::Store;

/// About how many rooms of users are kept in order.
const MOST_ROOMS: usize = 1_000_000;
/// How many lists are kept of a user: at least those of a request.
const MOST_LISTS: usize = 128;
/// As how many rooms a user counts by themselves.
const BASE: usize = 16;

/// The rooms of users who listen.
#[derive(Debug)]
pub struct AllRooms(Cache<UserNo, Arc<Mutex<UserRooms>>>);

impl Default for AllRooms {
    fn default() -> Self {
        Self(Cache::new(MOST_ROOMS))
    }
}

impl AllRooms {
    /// The rooms of a user.
    pub fn of(&self, user: UserNo, rows: usize) -> Arc<Mutex<UserRooms>> {
        let new = || Arc::new(Mutex::new(UserRooms::default()));
        self.0
            .get(&user)
            .unwrap_or_else(|| self.0.get_or_insert(user, new(), rows + BASE))
    }

    /// Weighs a user's rooms, which may have become more.
    pub fn weigh(&self, user: UserNo, shared: &Arc<Mutex<UserRooms>>, rooms: &mut UserRooms) {
        let weight = rooms.weight();
        if std::mem::replace(&mut rooms.weighed, weight) != weight {
            self.0.insert_weighing(user, shared.clone(), weight);
        }
    }
}

/// A user's rooms.
#[derive(Debug, Default)]
pub struct UserRooms {
    /// As of when; `None`: nothing was read yet.
    at: Option<Pos>,
    rows: Option<Arc<[MembershipRow]>>,
    rooms: HashMap<RoomNo, Facets>,
    /// Whom the user ignores, and whose invites.
    ignored: Arc<Unwanted>,
    /// The rooms that the user's `m.direct` names.
    direct: BTreeSet<OwnedRoomId>,
    /// Whether tags have been read.
    has_tags: bool,
    lists: HashMap<Filter, Sorted>,
    /// How heavy it was when it was weighed.
    weighed: usize,
}

impl UserRooms {
    /// What is known of a room.
    pub fn get(&self, room: RoomNo) -> Option<&Facets> {
        self.rooms.get(&room)
    }

    /// The list of a filter that was [brought up](Self::bring) before.
    pub fn list(&self, filter: &Filter) -> Option<&Sorted> {
        self.lists.get(filter)
    }

    /// How much memory it takes, counted in rooms.
    fn weight(&self) -> usize {
        let lists = self.lists.iter();
        let lists: usize = lists.map(|(of, list)| of.weight() + list.weight()).sum();
        self.rooms.len() + lists + BASE
    }

    /// Takes it forward to `upto`. `window` is what happened after `after`; the invites of those who are `ignored` then
    /// stand in no list.
    pub async fn advance(
        &mut self,
        store: &Store,
        viewer: &Viewer,
        (rows, ignored): (&Arc<[MembershipRow]>, &Arc<Unwanted>),
        (after, upto): (Option<Pos>, Pos),
        window: &Window,
    ) -> Result<(), MatrixError> {
        let Some(at) = self.at else {
            self.ignored = ignored.clone();
            return self.load(store, viewer, rows, upto).await;
        };
        if at >= upto {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.ignored, ignored.clone());
        let ignores = !Arc::ptr_eq(&before, ignored) && before != *ignored;
        if after.is_some_and(|after| after <= at) && window.rooms.values().all(|room| room.whole) {
            self.take(store, viewer, rows, window).await?;
        } else if store.log().reaches(at, upto) {
            let window = Window::read(store, viewer.user, rows, at, upto).await?;
            self.take(store, viewer, rows, &window).await?;
        } else {
            return self.load(store, viewer, rows, upto).await;
        }
        if ignores {
            let summoned = self.rooms.iter().filter(|(_, room)| room.is_summons());
            let summoned: Vec<RoomNo> = summoned.map(|(room, _)| *room).collect();
            self.look_again(store, viewer, &summoned).await?;
        }
        self.at = Some(upto);
        Ok(())
    }

    async fn take(
        &mut self,
        store: &Store,
        viewer: &Viewer,
        rows: &Arc<[MembershipRow]>,
        window: &Window,
    ) -> Result<(), MatrixError> {
        let told = [("m.room.encryption", ""), ("m.room.create", "")];
        let told = store.known_keys(&told).await?;
        let mut changed: BTreeSet<RoomNo> = BTreeSet::new();
        if !self
            .rows
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, rows))
        {
            let known = self.rows.replace(rows.clone());
            let differing = load::differing(known.as_deref().unwrap_or_default(), rows);
            if differing.iter().any(|room| !self.rooms.contains_key(room)) {
                // It may be the child of a space, which nobody here knew when the list was made.
                self.lists.retain(|filter, _| filter.spaces.is_none());
            }
            changed.extend(differing);
        }
        for (room, happened) in &window.rooms {
            let mut keys = happened.changes.iter().map(|change| Some(change.key));
            if keys.any(|key| told.contains(&key)) {
                changed.insert(*room);
            }
        }
        if !changed.is_empty() {
            let changed: Vec<RoomNo> = changed.into_iter().collect();
            self.look_again(store, viewer, &changed).await?;
        }
        for (room, happened) in &window.rooms {
            let tags = happened
                .account_data
                .iter()
                .find(|data| data.kind == "m.tag");
            let last = happened.events.last().and_then(|event| event.pos());
            let bumps = |kind: &str| is_activity(kind);
            let bump = happened.events.iter().rev().find(|it| bumps(it.pdu.kind()));
            let bump = bump.and_then(|event| event.pos());
            self.change(*room, |facets| {
                if facets.is_joined() {
                    facets.activity =
                        last.map_or(facets.activity, |last| last.max(facets.activity));
                    facets.bump = bump.map_or(facets.bump, |bump| bump.max(facets.bump));
                }
                if let Some(tags) = tags {
                    facets.tags = facets::tags_of(&tags.content);
                }
            });
            if !happened.changes.is_empty() {
                let id = store.room_id(*room).await?;
                // Whatever changed in a space may be what it holds.
                self.lists.retain(|filter, _| {
                    let spaces = filter.spaces.as_ref();
                    !spaces.is_some_and(|spaces| spaces.contains(id.as_str()))
                });
            }
        }
        if window
            .account_data
            .iter()
            .any(|data| data.kind == "m.direct")
        {
            self.read_direct(store, viewer).await?;
        }
        Ok(())
    }

    /// Changes what is known of a room, and where it stands in lists.
    fn change(&mut self, room: RoomNo, change: impl FnOnce(&mut Facets)) {
        let Some(facets) = self.rooms.get_mut(&room) else {
            return;
        };
        let before = facets.activity;
        let was = facets.clone();
        change(facets);
        if was == *facets {
            return;
        }
        for (filter, list) in &mut self.lists {
            list.moved(filter, room, Some(before), Some(facets));
        }
    }

    /// Puts a room there, or takes it away.
    fn put(&mut self, room: RoomNo, facets: Option<&Facets>) {
        let before = match facets {
            Some(facets) => self.rooms.insert(room, facets.clone()),
            None => self.rooms.remove(&room),
        };
        let before = before.map(|before| before.activity);
        for (filter, list) in &mut self.lists {
            list.moved(filter, room, before, facets);
        }
    }

    /// Makes the lists of these filters.
    pub async fn bring(
        &mut self,
        store: &Store,
        viewer: &Viewer,
        filters: impl Iterator<Item = &Filter>,
    ) -> Result<(), MatrixError> {
        let asked: HashSet<&Filter> = filters.collect();
        let missing: Vec<&Filter> = (asked.iter().copied())
            .filter(|filter| !self.lists.contains_key(*filter))
            .collect();
        if self.lists.len() + missing.len() > MOST_LISTS {
            self.lists.retain(|filter, _| asked.contains(filter));
        }
        for filter in missing {
            if filter.is_of_tags() && !self.has_tags {
                self.read_tags(store, viewer).await?;
            }
            let children = match &filter.spaces {
                Some(spaces) => Some(self.children(store, spaces).await?),
                None => None,
            };
            let list = Sorted::of(filter, children, &self.rooms);
            self.lists.insert(filter.clone(), list);
        }
        Ok(())
    }
}
