//! The members of rooms that are wanted: all of them, or those who come up.

use std::collections::{BTreeSet, HashMap, HashSet};

use rhizome_storage::{EventNo, RoomNo, SlidingRoom, ToldProfiles, UserNo};
use ruma::OwnedUserId;

use super::{Telling, person::People};
use crate::{
    MatrixError,
    sync::sliding::{connection::Memory, room::RoomPart, wants::Members},
};

/// The most members that an answer looks at, …
const MOST_LOOKED_AT: usize = 2_000;
/// … of which so many are read at once.
const PIECE: usize = 100;
/// How many name a room.
const HEROES: usize = 5;

const MEMBER: &str = "m.room.member";

/// Somebody in a room, and what says so.
type Somebody = (RoomNo, UserNo, Option<EventNo>);

impl Telling<'_> {
    /// Tells the profiles of members, and takes note of it. Whether all were told.
    pub(super) async fn members(&mut self, memory: &mut Memory) -> Result<bool, MatrixError> {
        let scope = &self.owed.wanted.1.scope;
        let ids: HashMap<RoomNo, &str> = (self.context.picks.iter())
            .map(|(pick, id)| (pick.row.room, id.as_str()))
            .collect();
        let mut rooms = Vec::new();
        for members in self.owed.members {
            // A room that isn't told isn't there yet.
            if memory.of(members.room).is_none() {
                continue;
            }
            let id = match ids.get(&members.room) {
                Some(id) => (*id).to_owned(),
                None => self
                    .context
                    .loader
                    .store
                    .room_id(members.room)
                    .await?
                    .to_string(),
            };
            if scope.has(&id, &members.lists, members.subscribed) {
                rooms.push(members);
            }
        }
        let (lazy, all): (Vec<&Members<'_>>, Vec<_>) = rooms.iter().partition(|room| room.lazy);
        let some = self.lazy(&lazy, memory).await?;
        Ok(self.all(&all, memory).await? && some)
    }

    /// All members of rooms, on from where that ended before.
    async fn all(
        &mut self,
        rooms: &[&Members<'_>],
        memory: &mut Memory,
    ) -> Result<bool, MatrixError> {
        let asked = self.owed.told.asked(false);
        let of = |room: &Members<'_>| {
            let told = memory.of(room.room).and_then(|told| told.profiles);
            let told = told.filter(|told| told.asked == asked);
            (
                room.room,
                told.and_then(|told| told.upto).unwrap_or(UserNo(0)),
            )
        };
        let from: Vec<(RoomNo, UserNo)> = rooms.iter().map(|room| of(room)).collect();
        if from.is_empty() {
            return Ok(true);
        }
        let store = self.context.loader.store;
        let mut found = store.joined_from(&from, MOST_LOOKED_AT + 1).await?;
        let more = found.len() > MOST_LOOKED_AT;
        found.truncate(MOST_LOOKED_AT);
        let found: Vec<Somebody> = (found.into_iter())
            .map(|(room, member)| (room, member.user, member.event))
            .collect();
        let told = self.tell(&found).await?;
        if told == 0 && !found.is_empty() {
            return Ok(false);
        }
        // The last of whom anything is told says how far this got.
        let stopped = (more || told < found.len()).then(|| found[..told].last());
        for (room, _) in from {
            let upto = match stopped {
                Some(Some((at, user, _))) if *at == room => Some(*user),
                _ => None,
            };
            note(memory, room, Some(ToldProfiles { asked, upto }));
            if upto.is_some() {
                break;
            }
        }
        Ok(stopped.is_none())
    }

    /// The members of rooms who come up there.
    async fn lazy(
        &mut self,
        rooms: &[&Members<'_>],
        memory: &mut Memory,
    ) -> Result<bool, MatrixError> {
        let asked = self.owed.told.asked(true);
        let done = |room: RoomNo| {
            let told = memory.of(room).and_then(|told| told.profiles);
            told.is_some_and(|told| told.asked == asked)
        };
        // Of what was told before the client asked for profiles, nobody knows any more who came up.
        let early = rooms.iter().filter(|room| !room.whole && !done(room.room));
        let early: Vec<&Members<'_>> = early.copied().collect();
        let mut people: BTreeSet<(RoomNo, UserNo)> = self.come_up(rooms).await?;
        people.extend(self.came_up(&early).await?);
        let people: Vec<_> = people.into_iter().collect();
        let found = self.context.loader.store.joined_among(&people).await?;
        let mut found: Vec<Somebody> = (found.into_iter())
            .map(|(room, member)| (room, member.user, member.event))
            .collect();
        found.sort_unstable();
        let told = self.tell(&found).await?;
        let left: HashSet<RoomNo> = found[told..].iter().map(|(room, ..)| *room).collect();
        for room in rooms {
            let all = !left.contains(&room.room);
            note(
                memory,
                room.room,
                all.then_some(ToldProfiles { asked, upto: None }),
            );
        }
        Ok(left.is_empty())
    }

    /// Who comes up in what is told of rooms, but for those whom the client has.
    async fn come_up(
        &self,
        rooms: &[&Members<'_>],
    ) -> Result<BTreeSet<(RoomNo, UserNo)>, MatrixError> {
        let wanted: HashSet<RoomNo> = rooms.iter().map(|room| room.room).collect();
        let mut by_room: Vec<(RoomNo, OwnedUserId)> = Vec::new();
        for (room, part) in self
            .owed
            .parts
            .iter()
            .filter(|(room, _)| wanted.contains(room))
        {
            let unknown = people_of(part).into_iter().filter(|user| !self.knows(user));
            by_room.extend(unknown.map(|user| (*room, user)));
        }
        self.numbered(by_room).await
    }

    /// Who came up in the newest events of rooms.
    async fn came_up(
        &self,
        rooms: &[&Members<'_>],
    ) -> Result<BTreeSet<(RoomNo, UserNo)>, MatrixError> {
        let nos: Vec<RoomNo> = rooms.iter().map(|room| room.room).collect();
        let Some(most) = rooms.iter().map(|room| room.timeline).max() else {
            return Ok(BTreeSet::new());
        };
        let (loader, most) = (self.context.loader, usize::try_from(most).unwrap_or(1));
        let events = loader
            .store
            .room_timelines(&nos, loader.upto, most.max(1))
            .await?;
        let senders = events
            .iter()
            .map(|event| (event.room, event.pdu.sender().to_owned()));
        let mut people = self.numbered(senders.collect()).await?;
        // What has a name isn't named by anybody.
        let summaries = loader.store.room_summaries(&nos).await?;
        let named = |room: &RoomNo| {
            let summary = summaries.get(room);
            summary.is_some_and(|summary| summary.name.is_some())
        };
        let nameless: Vec<RoomNo> = nos.into_iter().filter(|room| !named(room)).collect();
        let (store, user) = (loader.store, loader.viewer.user);
        let heroes = store.heroes_of(&nameless, user, HEROES).await?;
        for (room, members) in heroes {
            people.extend(members.into_iter().map(|member| (room, member.user)));
        }
        Ok(people)
    }

    async fn numbered(
        &self,
        people: Vec<(RoomNo, OwnedUserId)>,
    ) -> Result<BTreeSet<(RoomNo, UserNo)>, MatrixError> {
        let users: BTreeSet<OwnedUserId> = people.iter().map(|(_, user)| user.clone()).collect();
        let users: Vec<OwnedUserId> = users.into_iter().collect();
        let nos = self.context.loader.store.known_users(&users).await?;
        let people = people.into_iter();
        Ok(people
            .filter_map(|(room, user)| Some((room, *nos.get(&user)?)))
            .collect())
    }

    /// Tells whole profiles. Of how many there was room for it.
    async fn tell(&mut self, people: &[Somebody]) -> Result<usize, MatrixError> {
        let mut told = 0;
        for piece in people.chunks(PIECE) {
            if self.is_full() {
                break;
            }
            let asked: Vec<_> = piece
                .iter()
                .map(|(_, user, event)| (*user, *event))
                .collect();
            let read = People::read(self.context, &asked, false).await?;
            for (_, user, event) in piece {
                if self.is_full() {
                    return Ok(told);
                }
                self.whole(&read, *user, *event);
                told += 1;
            }
        }
        Ok(told)
    }
}

fn note(memory: &mut Memory, room: RoomNo, profiles: Option<ToldProfiles>) {
    if let Some(told) = memory.of(room).copied() {
        memory.tell(room, SlidingRoom { profiles, ..told });
    }
}

/// Who comes up in what is told of a room.
fn people_of(part: &RoomPart) -> BTreeSet<OwnedUserId> {
    let mut people = BTreeSet::new();
    let timeline = part.timeline.events.iter().map(|seen| &seen.event.pdu);
    people.extend(timeline.clone().map(|pdu| pdu.sender().to_owned()));
    let state = part.state.iter().map(|seen| &seen.event.pdu);
    let members = timeline.chain(state).filter(|pdu| pdu.kind() == MEMBER);
    let members = members.filter_map(|pdu| OwnedUserId::try_from(pdu.state_key()?).ok());
    people.extend(members);
    let heroes = part.heroes.iter().flatten();
    people.extend(heroes.map(|hero| hero.user.clone()));
    people
}
