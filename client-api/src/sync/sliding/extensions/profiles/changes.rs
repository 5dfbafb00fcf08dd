//! What changed, in the order of the log, as much as fits.

use std::collections::HashSet;

use rhizome_protocol::Membership;
use rhizome_storage::{EventNo, Pos, RoomNo, UserNo};

use super::{
    MOST, Telling,
    person::{OF_MEMBERS, People, text},
};
use crate::{
    MatrixError,
    sync::{sliding::connection::Memory, window::Window},
};

/// Of so many changes the profiles are read at once.
const PIECE: usize = 100;

/// Something that changed.
struct Change {
    pos: Pos,
    user: UserNo,
    what: What,
}

enum What {
    /// A field of the profile of a user here.
    Field(String),
    /// A membership, which was another one before.
    Member {
        room: RoomNo,
        old: Option<EventNo>,
        new: EventNo,
    },
}

impl Telling<'_> {
    /// Tells what changed since the client was told of that. Where it didn't fit: up to where it is told.
    pub(super) async fn changes(&mut self, memory: &Memory) -> Result<Option<Pos>, MatrixError> {
        let (loader, after) = (self.context.loader, self.owed.told.upto);
        if after >= loader.upto {
            return Ok(None);
        }
        let other = self.window().await?;
        let window = other.as_ref().unwrap_or(self.context.window);
        let rows = &self.context.moment.2;
        let gone = loader.parted(rows, window, after).await?;
        let gone: Vec<UserNo> = gone.into_iter().collect();
        for user in loader.store.users(&gone).await? {
            self.gone(user);
        }
        let (mut found, mut cut) = self.fields(window).await?;
        found.extend(self.moved(window));
        found.retain(|change| cut.is_none_or(|cut| change.pos <= cut));
        found.sort_by_key(|change| change.pos);
        if found.len() > MOST {
            found.truncate(MOST);
            cut = found.last().map(|change| change.pos);
        }
        let mut told = after;
        for piece in found.chunks(PIECE) {
            let people = self.people(piece).await?;
            for change in piece {
                if self.is_full() && told > after {
                    return Ok(Some(told));
                }
                self.change(&people, change, memory);
                told = change.pos;
            }
        }
        Ok(cut)
    }

    /// Fields of profiles of the user, and of those here with whom they share rooms.
    async fn fields(&self, window: &Window) -> Result<(Vec<Change>, Option<Pos>), MatrixError> {
        let (loader, after) = (self.context.loader, self.owed.told.upto);
        let (store, user) = (loader.store, loader.viewer.user);
        let mut cut = None;
        let found = if window.unlisted {
            let span = (after, loader.upto);
            let mut found = store.profile_changes(user, span, MOST + 1).await?;
            if found.len() > MOST {
                found.truncate(MOST);
                cut = found.last().map(|last| last.pos);
            }
            found
        } else {
            window.profiles.clone()
        };
        let users: HashSet<UserNo> = found.iter().map(|one| one.user).collect();
        let sharing = if users.is_empty() {
            HashSet::new()
        } else {
            loader.sharing(&users, &self.context.moment.2).await?
        };
        let shared = found.iter().filter(|one| sharing.contains(&one.user));
        let changes = shared.map(|one| Change {
            pos: one.pos,
            user: one.user,
            what: What::Field(one.field.clone()),
        });
        Ok((changes.collect(), cut))
    }

    /// Memberships in rooms that the user is in.
    fn moved(&self, window: &Window) -> Vec<Change> {
        let mut found = Vec::new();
        let rows = self.context.moment.2.iter();
        for row in rows.filter(|row| row.membership == Membership::Join) {
            let members = window.rooms.get(&row.room).map(|room| &room.members);
            for one in members.into_iter().flatten() {
                if let (Membership::Join, Some(new)) = (one.membership, one.new) {
                    found.push(Change {
                        pos: one.pos,
                        user: one.user,
                        what: What::Member {
                            room: row.room,
                            old: one.old,
                            new,
                        },
                    });
                }
            }
        }
        found
    }

    async fn people(&self, changes: &[Change]) -> Result<People, MatrixError> {
        let mut asked = Vec::new();
        for change in changes {
            match change.what {
                What::Field(_) => asked.push((change.user, None)),
                What::Member { old, new, .. } => {
                    asked.extend([(change.user, old), (change.user, Some(new))]);
                }
            }
        }
        People::read(self.context, &asked, true).await
    }

    fn change(&mut self, people: &People, change: &Change, memory: &Memory) {
        let user = change.user;
        let Some(id) = people.id(user) else { return };
        match &change.what {
            What::Field(field) => {
                let value = people.profile(user).and_then(|profile| profile.get(field));
                self.field(id, field, value.map(ToString::to_string));
            }
            What::Member { room, old, new } => {
                if let Some(was) = old.filter(|old| is_join(people, *old)) {
                    if people.profile(user).is_some() {
                        // That is told as the profile has it.
                        return;
                    }
                    let (was, is) = (people.member(was), people.member(*new));
                    for field in OF_MEMBERS {
                        let now = text(is, field);
                        if now != text(was, field) {
                            self.field(id, field, now);
                        }
                    }
                } else if self.follows(memory, *room, user) {
                    self.whole(people, user, Some(*new));
                }
            }
        }
    }

    /// Whether a client that has the profiles of a room's members must have this one's too.
    fn follows(&self, memory: &Memory, room: RoomNo, user: UserNo) -> bool {
        let told = memory.of(room).and_then(|room| room.profiles);
        let told = told.filter(|told| told.asked == self.owed.told.asked(false));
        told.is_some_and(|told| told.upto.is_none_or(|upto| user <= upto))
    }
}

fn is_join(people: &People, event: EventNo) -> bool {
    let membership = people.member(event).get("membership");
    membership.and_then(serde_json::Value::as_str) == Some("join")
}
