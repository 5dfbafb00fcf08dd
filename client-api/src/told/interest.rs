//! Which services are interested in what (application service API, "Registration"): known per room and per user, so that
//! an event costs a look or two and no regular expression.
//!
//! A room interests a service by its id, by one of its aliases, or because a user of the service's namespace is joined.
//! That is looked up when the room is met first, as it was right before the entry that is looked at, and goes on with the
//! entries of the log. So who looks at the log later finds what was so then, whatever has become of it since.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_appservice::{Registration, Registrations};
use rhizome_protocol::Membership;
use rhizome_storage::{Pos, RoomNo, Store, UserNo};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};

use crate::MatrixError;

/// Users whose services are remembered; beyond, all are looked up anew.
const MAX_USERS: usize = 200_000;
/// Rooms, and members of them in namespaces, that are remembered.
const MAX_ROOMS: usize = 100_000;
const MAX_MEMBERS: usize = 1_000_000;

/// Services by their places in a list.
pub type Places = Arc<[usize]>;

/// The services that are told something.
pub struct Hearers {
    /// These.
    pub services: Vec<Arc<Registration>>,
    /// If it is all of them: by one look for all.
    all: Option<(Arc<Registrations>, HashMap<String, usize>)>,
    here: OwnedServerName,
}

impl Hearers {
    /// All services that have an address.
    pub fn all(registrations: &Arc<Registrations>, here: &ServerName) -> Self {
        let services = registrations.iter();
        let services: Vec<_> = services.filter(|one| one.url.is_some()).cloned().collect();
        let places = services.iter().enumerate();
        let places = places.map(|(place, service)| (service.id.clone(), place));
        Self {
            all: Some((registrations.clone(), places.collect())),
            services,
            here: here.to_owned(),
        }
    }

    /// One, at place 0.
    pub fn one(service: &Arc<Registration>, here: &ServerName) -> Self {
        Self {
            services: vec![service.clone()],
            all: None,
            here: here.to_owned(),
        }
    }

    fn of(
        &self,
        asked: impl Fn(&Registrations) -> Vec<Arc<Registration>>,
        interests: impl Fn(&Registration) -> bool,
    ) -> Vec<usize> {
        let Some((registrations, places)) = &self.all else {
            let services = self.services.iter().enumerate();
            let interested = services.filter(|(_, service)| interests(service));
            return interested.map(|(place, _)| place).collect();
        };
        let found = asked(registrations);
        let places = found.iter().filter_map(|one| places.get(&one.id).copied());
        places.collect()
    }

    fn of_user(&self, user: &str) -> Vec<usize> {
        self.of(
            |all| all.interested_in_user(user),
            |one| one.is_interested_in_user(user),
        )
    }

    fn of_room(&self, room: &str) -> Vec<usize> {
        self.of(
            |all| all.interested_in_room(room),
            |one| one.is_interested_in_room(room),
        )
    }

    fn of_alias(&self, alias: &str) -> Vec<usize> {
        self.of(
            |all| all.interested_in_alias(alias),
            |one| one.is_interested_in_alias(alias),
        )
    }

    /// Whether aliases interest anybody.
    fn has_aliases(&self) -> bool {
        let mut services = self.services.iter();
        services.any(|service| !service.namespaces().aliases().is_empty())
    }
}

/// What is known of interests.
pub struct Interest {
    store: Store,
    hearers: Arc<Hearers>,
    /// Of users here, whose they are.
    users: HashMap<OwnedUserId, Places>,
    rooms: HashMap<RoomNo, Room>,
    /// How many members all rooms have together.
    members: usize,
    nobody: Places,
}

/// Whom a room interests.
#[derive(Default)]
struct Room {
    /// Those to whom its id or an alias belongs.
    fixed: Vec<usize>,
    /// Those who have users there, and which.
    joined: BTreeMap<usize, HashSet<UserNo>>,
    /// All of them.
    all: Places,
}

impl Room {
    fn settle(&mut self) {
        let mut all = self.fixed.clone();
        all.extend(self.joined.keys());
        all.sort_unstable();
        all.dedup();
        self.all = all.into();
    }

    fn members(&self) -> usize {
        self.joined.values().map(HashSet::len).sum()
    }
}

/// Whom a room interested before somebody came or went, and afterwards.
pub struct Moved {
    /// Before.
    pub before: Places,
    /// Afterwards.
    pub after: Places,
}

impl Interest {
    pub fn new(store: &Store, hearers: &Arc<Hearers>) -> Self {
        Self {
            store: store.clone(),
            hearers: hearers.clone(),
            users: HashMap::new(),
            rooms: HashMap::new(),
            members: 0,
            nobody: Arc::default(),
        }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The services.
    pub fn hearers(&self) -> &Arc<Hearers> {
        &self.hearers
    }

    /// Whose a user is. Those of other servers are nobody's.
    pub fn of_user(&mut self, user: &UserId) -> Places {
        if user.server_name() != self.hearers.here {
            return self.nobody.clone();
        }
        if let Some(known) = self.users.get(user) {
            return known.clone();
        }
        let places: Places = self.hearers.of_user(user.as_str()).into();
        if self.users.len() >= MAX_USERS {
            self.users.clear();
        }
        self.users.insert(user.to_owned(), places.clone());
        places
    }

    /// Whom a room interests, as it is after what stands in the log up to `at`. Entries are looked at in their order.
    pub async fn of_room(&mut self, room: RoomNo, at: Pos) -> Result<Places, MatrixError> {
        if let Some(known) = self.rooms.get(&room) {
            return Ok(known.all.clone());
        }
        self.make_room(1);
        self.look_up(&[room], at).await?;
        let known = self.rooms.get(&room);
        Ok(known.map_or_else(|| self.nobody.clone(), |room| room.all.clone()))
    }

    /// Whom one of some rooms interests.
    pub async fn of_rooms(&mut self, rooms: &[RoomNo], at: Pos) -> Result<Vec<usize>, MatrixError> {
        self.make_room(rooms.len());
        let known = |room: &&RoomNo| !self.rooms.contains_key(room);
        let unknown: Vec<RoomNo> = rooms.iter().filter(known).copied().collect();
        self.look_up(&unknown, at).await?;
        let known = rooms.iter().filter_map(|room| self.rooms.get(room));
        let mut all: Vec<usize> = known.flat_map(|room| room.all.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Somebody's membership of a room changes, right after `before`. Nothing of who is nobody's.
    pub async fn member(
        &mut self,
        room: RoomNo,
        (user, user_id): (UserNo, &UserId),
        membership: Membership,
        before: Pos,
    ) -> Result<Option<Moved>, MatrixError> {
        let whose = self.of_user(user_id);
        if whose.is_empty() {
            return Ok(None);
        }
        let before = self.of_room(room, before).await?;
        let Some(known) = self.rooms.get_mut(&room) else {
            return Ok(None);
        };
        self.members -= known.members();
        for place in whose.iter() {
            if membership == Membership::Join {
                known.joined.entry(*place).or_default().insert(user);
            } else if let Some(users) = known.joined.get_mut(place) {
                users.remove(&user);
                if users.is_empty() {
                    known.joined.remove(place);
                }
            }
        }
        self.members += known.members();
        known.settle();
        let after = known.all.clone();
        Ok(Some(Moved { before, after }))
    }

    /// A room's aliases are others: it is looked at anew.
    pub fn forget(&mut self, room: RoomNo) {
        if let Some(gone) = self.rooms.remove(&room) {
            self.members -= gone.members();
        }
    }

    /// Forgets all rooms if so many more would be too many.
    fn make_room(&mut self, more: usize) {
        if self.rooms.len() + more > MAX_ROOMS || self.members > MAX_MEMBERS {
            self.rooms.clear();
            self.members = 0;
        }
    }

    async fn look_up(&mut self, rooms: &[RoomNo], at: Pos) -> Result<(), MatrixError> {
        if rooms.is_empty() {
            return Ok(());
        }
        let mut found: HashMap<RoomNo, Room> = HashMap::new();
        for room in rooms {
            let id = self.store.room_id(*room).await?;
            let fixed = self.hearers.of_room(id.as_str());
            let room = found.entry(*room).or_default();
            room.fixed = fixed;
        }
        if self.hearers.has_aliases() {
            for (room, alias) in self.store.aliases_of_rooms(rooms).await? {
                let room = found.entry(room).or_default();
                room.fixed.extend(self.hearers.of_alias(alias.as_str()));
            }
        }
        let here = self.hearers.here.clone();
        let joined = self.store.joined_here_at(rooms, &here, at).await?;
        for (room, users) in joined {
            let names = self.store.users(&users).await?;
            for (user, name) in users.into_iter().zip(names) {
                for place in self.of_user(&name).iter() {
                    let room = found.entry(room).or_default();
                    room.joined.entry(*place).or_default().insert(user);
                }
            }
        }
        for (no, mut room) in found {
            room.settle();
            self.members += room.members();
            self.rooms.insert(no, room);
        }
        Ok(())
    }
}
