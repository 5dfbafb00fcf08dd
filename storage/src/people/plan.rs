//! What is to be written down of people: what they are called now, against what is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ruma::{OwnedUserId, ServerName};
use serde_json::{Map, Value};

use super::words::{LONGEST_NAME, cut, words_of};
use crate::engine::sql::{Columns as _, Query, rows};
use crate::{EventNo, Result, RoomNo, Store, UserNo};

/// The longest address of a picture, in bytes.
const LONGEST_AVATAR: usize = 1_024;
/// What `people_room.open` says of a room that we aren't in.
pub(super) const AWAY: i64 = 2;
/// And what is added to it while its members are taken.
pub(super) const TAKEN: i64 = 10;
/// What `people_name.hidden` says of users of this server who are no guests.
const OURS: i64 = 2;

macro_rules! came {
    ($and:literal) => {
        concat!(
            "SELECT m.user_no, m.room, m.event FROM membership m \
             LEFT JOIN people_member d ON d.user_no = m.user_no AND d.room = m.room \
             WHERE m.user_no IN NUMBERS($1) AND m.membership = 1 AND m.event IS NOT NULL \
             AND (d.event IS NULL OR d.event <> m.event)",
            $and
        )
    };
}

const CAME: &str = came!("");
const CAME_THERE: &str = came!(" AND m.room IN NUMBERS($2)");

macro_rules! gone {
    ($and:literal) => {
        concat!(
            "SELECT d.user_no, d.room FROM people_member d \
             LEFT JOIN membership m ON m.user_no = d.user_no AND m.room = d.room AND m.membership = 1 \
             WHERE d.user_no IN NUMBERS($1) AND m.user_no IS NULL",
            $and
        )
    };
}

const GONE: &str = gone!("");
const GONE_THERE: &str = gone!(" AND d.room IN NUMBERS($2)");

/// A name and a picture.
type Called = (Option<String>, Option<String>);

/// Somebody who is looked at.
struct Someone {
    id: OwnedUserId,
    /// What their profile says, if they are of this server.
    profile: Option<Called>,
    hidden: i64,
}

rows! {
    pub(super) struct NameRow {
        user_no: UserNo,
        n: i64,
        name: Option<String>,
        avatar: Option<String>,
        hidden: i64,
    }
}

rows! {
    pub(super) struct WordRow {
        user_no: UserNo,
        n: i64,
        word: String,
    }
}

rows! {
    pub(super) struct MemberRow {
        user_no: UserNo,
        room: RoomNo,
        n: i64,
        event: EventNo,
    }
}

rows! {
    pub(super) struct GoneRow {
        user_no: UserNo,
        room: RoomNo,
    }
}

rows! {
    pub(super) struct RoomRow {
        room: RoomNo,
        open: i64,
    }
}

/// What is to be written of some users.
#[derive(Default)]
pub(super) struct Plan {
    /// Of whom nothing is to be left.
    pub(super) nobody: Vec<UserNo>,
    pub(super) names: Vec<NameRow>,
    pub(super) words: Vec<WordRow>,
    pub(super) members: Vec<MemberRow>,
    pub(super) gone: Vec<GoneRow>,
    /// Of which nobody has said yet whether anybody may look into them.
    pub(super) rooms: Vec<RoomRow>,
}

impl Store {
    /// Into which of some rooms anybody may look: those whose members the specification wants to be found by all, as far
    /// as we are there to hear of it when that ends.
    pub(super) async fn doors(&self, here: &ServerName, rooms: &[RoomNo]) -> Result<Vec<RoomRow>> {
        let summaries = self.room_summaries(rooms).await?;
        let mut doors = Vec::with_capacity(rooms.len());
        for room in rooms {
            let open = summaries.get(room).is_some_and(|summary| {
                summary.join_rule.as_deref() == Some("public")
                    || summary.history_visibility.as_deref() == Some("world_readable")
            });
            let open = if self.is_in(here, *room).await? {
                i64::from(open)
            } else {
                AWAY
            };
            doors.push(RoomRow { room: *room, open });
        }
        Ok(doors)
    }

    /// `rooms`: only there something may have changed of who is in which room. `None`: anywhere.
    pub(super) async fn plan(
        &self,
        here: &ServerName,
        users: &[UserNo],
        rooms: Option<&BTreeSet<RoomNo>>,
    ) -> Result<Plan> {
        let mut plan = Plan::default();
        let people = self.people(here, users).await?;
        let known = self.names_of(users).await?;
        let someone = |user: &UserNo| !people.contains_key(user);
        let with_names: HashSet<UserNo> = known.keys().map(|(user, _)| *user).collect();
        plan.nobody = with_names
            .iter()
            .filter(|user| someone(user))
            .copied()
            .collect();
        plan.gone = self.gone(users, rooms).await?;
        let came = self.came(users, rooms).await?;
        let events = came.iter().filter(|(user, ..)| {
            let someone = people.get(user);
            someone.is_some_and(|someone| someone.profile.is_none())
        });
        let events: Vec<EventNo> = events.map(|(_, _, event)| *event).collect();
        let events = self.events_by_no(&events).await?;
        let events: HashMap<EventNo, Called> = events
            .iter()
            .map(|event| (event.no, called(event.pdu.content())))
            .collect();
        let mut names = Names {
            known: &known,
            new: BTreeMap::new(),
        };
        for (user, someone) in &people {
            if let Some(profile) = &someone.profile
                && names.known.get(&(*user, 0)) != Some(&(profile.clone(), someone.hidden))
            {
                plan.name(*user, 0, someone, profile.clone());
            }
        }
        let mut rooms = Vec::new();
        for (user, room, event) in came {
            let Some(someone) = people.get(&user) else {
                continue;
            };
            let n = match (&someone.profile, events.get(&event)) {
                (Some(_), _) => 0,
                (None, Some(called)) => {
                    let (n, new) = names.number(user, called);
                    if new {
                        plan.name(user, n, someone, called.clone());
                    }
                    n
                }
                (None, None) => continue,
            };
            rooms.push(room);
            plan.members.push(MemberRow {
                user_no: user,
                room,
                n,
                event,
            });
        }
        rooms.sort_unstable();
        rooms.dedup();
        let rooms = self.rooms_without_doors(rooms).await?;
        plan.rooms = self.doors(here, &rooms).await?;
        Ok(plan)
    }

    /// Who these users are; nobody is who has no account here any more, or never had one.
    async fn people(
        &self,
        here: &ServerName,
        users: &[UserNo],
    ) -> Result<BTreeMap<UserNo, Someone>> {
        let query = self
            .sql(
                "SELECT u.no, u.user_id, a.deactivated, g.user_no AS guest, p.fields FROM user_name u \
                 LEFT JOIN account a ON a.user_no = u.no LEFT JOIN guest g ON g.user_no = u.no \
                 LEFT JOIN profile p ON p.user_no = u.no WHERE u.no IN NUMBERS($1)",
            )
            .numbers(users.iter().copied());
        let mut people = BTreeMap::new();
        for row in self.rows(query).await? {
            let id: OwnedUserId = row.get("user_id")?;
            let mut someone = Someone {
                id,
                profile: None,
                hidden: 0,
            };
            if someone.id.server_name() == here {
                let deactivated: Option<bool> = row.get("deactivated")?;
                if deactivated != Some(false) {
                    continue;
                }
                let fields: Option<String> = row.get("fields")?;
                let fields: Map<String, Value> = fields
                    .map_or_else(|| Ok(Map::new()), |fields| serde_json::from_str(&fields))?;
                someone.profile = Some(called(&fields));
                let guest: Option<i64> = row.get("guest")?;
                someone.hidden = if guest.is_some() { 0 } else { OURS };
            }
            people.insert(row.get("no")?, someone);
        }
        Ok(people)
    }

    /// What is written down that these users are called.
    async fn names_of(&self, users: &[UserNo]) -> Result<BTreeMap<(UserNo, i64), (Called, i64)>> {
        let query = self
            .sql("SELECT user_no, n, name, avatar, hidden FROM people_name WHERE user_no IN NUMBERS($1)")
            .numbers(users.iter().copied());
        let rows = self.rows(query).await?;
        let names = rows.iter().map(|row| {
            let called = (row.get("name")?, row.get("avatar")?);
            let key = (row.get("user_no")?, row.get("n")?);
            Ok((key, (called, row.get("hidden")?)))
        });
        names.collect()
    }

    /// Where they are joined by an event that hasn't been looked at.
    async fn came(
        &self,
        users: &[UserNo],
        rooms: Option<&BTreeSet<RoomNo>>,
    ) -> Result<Vec<(UserNo, RoomNo, EventNo)>> {
        let query = self.of_users([CAME, CAME_THERE], users, rooms);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("user_no")?, row.get("room")?, row.get("event")?)))
            .collect()
    }

    /// Where they aren't joined any more.
    async fn gone(
        &self,
        users: &[UserNo],
        rooms: Option<&BTreeSet<RoomNo>>,
    ) -> Result<Vec<GoneRow>> {
        let query = self.of_users([GONE, GONE_THERE], users, rooms);
        let rows = self.rows(query).await?;
        let gone = rows.iter().map(|row| {
            Ok(GoneRow {
                user_no: row.get("user_no")?,
                room: row.get("room")?,
            })
        });
        gone.collect()
    }

    /// One statement about users in all of their rooms, or the other about these rooms.
    fn of_users(
        &self,
        [anywhere, there]: [&'static str; 2],
        users: &[UserNo],
        rooms: Option<&BTreeSet<RoomNo>>,
    ) -> Query {
        let users = users.iter().copied();
        match rooms {
            None => self.sql(anywhere).numbers(users),
            Some(rooms) => {
                let query = self.sql(there).numbers(users);
                query.numbers(rooms.iter().copied())
            }
        }
    }

    async fn rooms_without_doors(&self, rooms: Vec<RoomNo>) -> Result<Vec<RoomNo>> {
        if rooms.is_empty() {
            return Ok(rooms);
        }
        let query = self
            .sql("SELECT room FROM people_room WHERE room IN NUMBERS($1)")
            .numbers(rooms.iter().copied());
        let known = self.rows(query).await?;
        let known = known.iter().map(|row| row.get("room"));
        let known: HashSet<RoomNo> = known.collect::<Result<_>>()?;
        Ok(rooms
            .into_iter()
            .filter(|room| !known.contains(room))
            .collect())
    }
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.nobody.is_empty()
            && self.names.is_empty()
            && self.members.is_empty()
            && self.gone.is_empty()
    }

    fn name(&mut self, user_no: UserNo, n: i64, someone: &Someone, (name, avatar): Called) {
        let words = words_of(&someone.id, name.as_deref());
        self.words
            .extend(words.into_iter().map(|word| WordRow { user_no, n, word }));
        self.names.push(NameRow {
            user_no,
            n,
            name,
            avatar,
            hidden: someone.hidden,
        });
    }
}

/// The numbers of names.
struct Names<'a> {
    known: &'a BTreeMap<(UserNo, i64), (Called, i64)>,
    new: BTreeMap<(UserNo, i64), Called>,
}

impl Names<'_> {
    /// The number of what a user of another server is called, and whether it is a new one.
    fn number(&mut self, user: UserNo, called: &Called) -> (i64, bool) {
        let all = (user, 1)..=(user, i64::MAX);
        let known = self.known.range(all.clone());
        let mut known = known.filter(|(_, (name, _))| name == called);
        if let Some(((_, n), _)) = known.next() {
            return (*n, false);
        }
        let mut new = self.new.range(all.clone());
        if let Some(((_, n), _)) = new.find(|(_, name)| *name == called) {
            return (*n, false);
        }
        let last = |found: Option<i64>| found.unwrap_or(0);
        let known = self.known.range(all.clone()).next_back();
        let new = self.new.range(all).next_back();
        let n = last(known.map(|((_, n), _)| *n)).max(last(new.map(|((_, n), _)| *n))) + 1;
        self.new.insert((user, n), called.clone());
        (n, true)
    }
}

/// What a profile or a member event says that somebody is called.
fn called(content: &Map<String, Value>) -> Called {
    let text = |field: &str| {
        let text = content.get(field)?.as_str()?;
        (!text.is_empty()).then_some(text)
    };
    let name = text("displayname").map(|name| cut(name, LONGEST_NAME).to_owned());
    let avatar = text("avatar_url").filter(|url| url.len() <= LONGEST_AVATAR);
    (name, avatar.map(str::to_owned))
}
