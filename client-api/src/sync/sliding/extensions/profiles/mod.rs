//! Profiles of those with whom the user shares rooms
//! ([MSC4262](https://github.com/matrix-org/matrix-spec-proposals/pull/4262)).
//!
//! Of users of this server these are their profiles. Of others we know what their membership says: their name and
//! their picture, and nothing else.
//!
//! What changes is told by its position ([`changes`]), whichever rooms are wanted; whoever has left the last room in
//! common is told to be gone. Who is in a room that comes to be wanted is told with the whole profile: all its members,
//! or, with lazy loading, those who come up ([`members`]). Of each room a connection remembers up to which member they
//! were told, and as an answer to what: an answer has room for so many, and the next goes on from there.

mod changes;
mod members;
mod person;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rhizome_storage::{EventNo, Pos, RoomNo, UserNo};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use self::person::People;
use super::Context;
use crate::{
    MatrixError,
    sync::{
        lazy::LazyMembers,
        sliding::{
            connection::{Memory, ProfilesPos},
            request::extensions::Profiles as Asked,
            room::RoomPart,
            wants::Members,
        },
        window::Window,
    },
    view::json::Json,
};

/// About how many users an answer tells of, …
const MOST: usize = 1_000;
/// … and about how many bytes of what they say.
const MOST_BYTES: usize = 1 << 20;

/// What an answer tells of profiles.
#[derive(Debug)]
pub struct Profiles {
    /// Under which name.
    name: &'static str,
    users: BTreeMap<OwnedUserId, Option<Told>>,
    /// Where the next goes on.
    pub next: ProfilesPos,
    /// Whether the members were told of all rooms that are wanted.
    pub is_whole: bool,
    /// Whether there are more changes.
    is_behind: bool,
}

/// What is told of one user: fields with their JSON, and those that are there no more.
#[derive(Debug, Default)]
struct Told {
    updated: BTreeMap<String, String>,
    removed: BTreeSet<String>,
}

/// What is owed to a client.
pub struct Owed<'a> {
    /// What it asked for, and under which name.
    pub wanted: (&'static str, &'a Asked),
    /// What it was told.
    pub told: ProfilesPos,
    /// Rooms whose members it may have to be told.
    pub members: &'a [Members<'a>],
    /// What it is told of rooms.
    pub parts: &'a [(RoomNo, RoomPart)],
    /// Whose profiles it was told, and under which name that is remembered.
    pub known: (&'a LazyMembers, &'a (UserNo, OwnedDeviceId)),
}

/// An answer as it is put together.
struct Telling<'a> {
    context: &'a Context<'a>,
    owed: &'a Owed<'a>,
    users: BTreeMap<OwnedUserId, Option<Told>>,
    /// How many of them aren't gone, …
    count: usize,
    /// … and how much is told of them.
    bytes: usize,
    /// Who was told with the whole profile.
    whole: HashSet<OwnedUserId>,
}

/// Reads what is owed, as much as an answer has room for, and takes note of it.
pub async fn read(
    context: &Context<'_>,
    owed: Owed<'_>,
    memory: &mut Memory,
) -> Result<Profiles, MatrixError> {
    let upto = context.loader.upto;
    let mut telling = Telling {
        context,
        owed: &owed,
        users: BTreeMap::new(),
        count: 0,
        bytes: 0,
        whole: HashSet::new(),
    };
    let cut = telling.changes(memory).await?;
    let is_whole = telling.members(memory).await?;
    let (known, device) = owed.known;
    let whole = telling.whole.iter().map(AsRef::as_ref);
    let mut answers = owed.told.answers;
    if !telling.whole.is_empty() || telling.users.values().any(Option::is_none) {
        answers = Pos(answers.0 + 1);
        known.tell(device, owed.number(), whole, answers);
        known.stands_at(device, answers);
    }
    Ok(Profiles {
        name: owed.wanted.0,
        users: telling.users,
        next: ProfilesPos {
            upto: cut.unwrap_or(upto),
            answers,
            ..owed.told
        },
        is_whole,
        is_behind: cut.is_some(),
    })
}

impl Owed<'_> {
    /// In place of which room is remembered who was told: what was told as an answer to something else doesn't count.
    fn number(&self) -> RoomNo {
        RoomNo(self.told.asked(false))
    }
}

impl Telling<'_> {
    /// Whether there is no room for anybody else.
    fn is_full(&self) -> bool {
        self.count >= MOST || self.bytes >= MOST_BYTES
    }

    /// Whether the client has a user's whole profile: what changes in it, it is told.
    fn knows(&self, user: &UserId) -> bool {
        let (known, device) = self.owed.known;
        self.whole.contains(user)
            || known.knows(device, self.owed.number(), user, self.owed.told.answers)
    }

    /// Whoever is gone need not be followed any more.
    fn gone(&mut self, user: OwnedUserId) {
        let (known, device) = self.owed.known;
        known.forget_member(device, self.owed.number(), &user);
        self.users.insert(user, None);
    }

    /// A field is this now; `None`: it is there no more. The text is JSON.
    fn field(&mut self, user: &UserId, field: &str, text: Option<String>) {
        if !self.owed.wanted.1.has(field) {
            return;
        }
        let told = self.users.entry(user.to_owned()).or_insert_with(|| {
            self.count += 1;
            Some(Told::default())
        });
        let Some(told) = told else { return };
        self.bytes += field.len() + text.as_ref().map_or(0, String::len);
        if let Some(text) = text {
            told.removed.remove(field);
            told.updated.insert(field.to_owned(), text);
        } else {
            told.updated.remove(field);
            told.removed.insert(field.to_owned());
        }
    }

    /// All fields of somebody who was read, if they are wanted and not known.
    fn whole(&mut self, people: &People, user: UserNo, member: Option<EventNo>) {
        let Some(id) = people.id(user).filter(|id| !self.knows(id)) else {
            return;
        };
        if self.users.get(id).is_some_and(Option::is_none) {
            return;
        }
        for (field, text) in people.fields(user, member) {
            self.field(id, field, Some(text));
        }
        self.whole.insert(id.to_owned());
    }

    /// What happened after the position up to which the client was told of changes.
    async fn window(&self) -> Result<Option<Window>, MatrixError> {
        let loader = self.context.loader;
        let after = self.owed.told.upto;
        if Some(after) == loader.after {
            return Ok(None);
        }
        let rows = &self.context.moment.2;
        let user = loader.viewer.user;
        let window = Window::read(loader.store, user, rows, after, loader.upto).await?;
        Ok(Some(window))
    }
}

impl Profiles {
    /// Whether there is nothing that anybody waits for.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.is_behind
    }

    /// Writes it, with its name, if there is something to tell.
    pub fn write(&self, json: &mut Json) {
        if self.users.is_empty() {
            return;
        }
        json.key(self.name).open().key("users").open();
        for (user, told) in &self.users {
            let json = json.key(user.as_str());
            let Some(told) = told else {
                json.null();
                continue;
            };
            json.open();
            if !told.updated.is_empty() {
                json.key("updated").open();
                for (field, text) in &told.updated {
                    json.key(field).raw(text);
                }
                json.close();
            }
            if !told.removed.is_empty() {
                json.key("removed").open_list();
                for field in &told.removed {
                    json.string(field);
                }
                json.close_list();
            }
            json.close();
        }
        json.close().close();
    }
}
