//! Which rooms an answer has: those that a list's window or a subscription wants, and of which there is something to tell.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use rhizome_protocol::Membership;
use rhizome_storage::{MembershipRow, Pos, RoomNo, SlidingRoom};

use super::{
    connection::{Memory, ProfilesPos},
    lists::{Facets, Sorted, UserRooms},
    request::{Asked, List, config::Config},
};

/// The most rooms of an answer. What is left comes with the next one, which is given at once.
const MOST_ROOMS: usize = 500;

/// A room that is told.
#[derive(Debug)]
pub struct Pick<'a> {
    /// The user's membership.
    pub row: MembershipRow,
    /// What lists know of it; nothing of one that was forgotten.
    pub facets: Option<Facets>,
    /// The lists that have it.
    pub lists: Vec<&'a str>,
    /// Whether it is wanted by itself.
    pub subscribed: bool,
    /// How much of it is wanted.
    pub config: Config,
    /// What the client was told of it.
    pub told: Option<SlidingRoom>,
    /// How much it is told.
    pub how: How,
}

/// How much of a room is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Everything, as to someone who knows nothing of it.
    Whole,
    /// What happened after this.
    Since(Pos),
}

/// What the client knows, and what has happened since.
pub struct News<'a> {
    /// Up to where live rooms were told; `None`: nothing was.
    pub after: Option<Pos>,
    /// The user's memberships.
    pub rows: &'a [MembershipRow],
    /// Rooms in which something happened after it.
    pub rooms: HashSet<RoomNo>,
    /// Rooms in which who types has changed.
    pub typing: HashSet<RoomNo>,
    /// Whether the user's direct chats changed.
    pub direct: bool,
    /// Whether what is unread may be other than it was, in any room.
    pub recounts: bool,
    /// The rooms that are wanted by themselves.
    pub subscriptions: HashMap<RoomNo, &'a Config>,
    /// If profiles are wanted: what was told of them.
    pub profiles: Option<ProfilesPos>,
}

/// A room that is wanted and whose members' profiles may have to be told.
#[derive(Debug)]
pub struct Members<'a> {
    /// Which.
    pub room: RoomNo,
    /// The lists that have it.
    pub lists: Vec<&'a str>,
    /// Whether it is wanted by itself.
    pub subscribed: bool,
    /// Whether those are told only who come up.
    pub lazy: bool,
    /// How many events of its timeline are wanted.
    pub timeline: u32,
    /// Whether it is told as a whole.
    pub whole: bool,
}

impl News<'_> {
    /// Whether the user's membership is another than it was.
    fn has_moved(&self, room: RoomNo) -> bool {
        let at = self.rows.binary_search_by_key(&room, |row| row.room);
        let row = at.ok().map(|at| &self.rows[at]);
        row.zip(self.after)
            .is_some_and(|(row, after)| row.since > after)
    }
}

/// What an answer has.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Its rooms, those with the latest activity first.
    pub picks: Vec<Pick<'a>>,
    /// Rooms whose members' profiles may have to be told.
    pub members: Vec<Members<'a>>,
    /// Rooms that the client isn't told of what happened in them.
    pub behind: Vec<RoomNo>,
    /// How many rooms each list has.
    pub counts: BTreeMap<&'a str, usize>,
    /// What was wanted, and how often each list has changed, if nothing is left to tell.
    pub settled: Option<(u64, Vec<u64>)>,
}

/// Chooses what to tell.
pub fn choose<'a>(
    asked: &'a Asked,
    rooms: &UserRooms,
    memory: &Memory,
    news: &News<'_>,
) -> Choice<'a> {
    let lists: Vec<(&str, &List, &Sorted)> = (asked.lists.iter())
        .filter_map(|(name, list)| Some((name.as_str(), list, rooms.list(&list.filter)?)))
        .collect();
    let chooser = Chooser {
        lists: &lists,
        rooms,
        memory,
        news,
    };
    let mut hasher = DefaultHasher::new();
    asked.lists.hash(&mut hasher);
    asked.rooms.hash(&mut hasher);
    if let (Some(told), Some((_, wanted))) = (news.profiles, asked.extensions.profiles()) {
        let scope = &wanted.scope;
        (told.asked(true), &scope.lists, &scope.rooms).hash(&mut hasher);
    }
    let wanted = hasher.finish();
    let changes: Vec<u64> = lists.iter().map(|(_, _, sorted)| sorted.changes).collect();
    let mut choice = Choice {
        counts: lists
            .iter()
            .map(|(name, _, sorted)| (*name, sorted.len()))
            .collect(),
        ..Choice::default()
    };
    for room in chooser.candidates(wanted, &changes) {
        let Some((pick, how)) = chooser.pick(room) else {
            choice.behind.push(room);
            continue;
        };
        choice.members.extend(chooser.members(&pick, how));
        choice.picks.extend(how.map(|how| Pick { how, ..pick }));
    }
    let latest = |pick: &Pick<'_>| pick.facets.as_ref().map_or(pick.row.pos, |it| it.activity);
    choice
        .picks
        .sort_by_key(|pick| (std::cmp::Reverse(latest(pick)), pick.row.room));
    let rest = choice.picks.split_off(choice.picks.len().min(MOST_ROOMS));
    choice.settled = rest.is_empty().then_some((wanted, changes));
    choice.behind.extend(rest.iter().map(|pick| pick.row.room));
    // Only what the client has, and what isn't behind already, falls behind.
    choice.behind.retain(|room| {
        let live = memory.of(*room).is_some_and(|told| told.upto.is_none());
        live && (news.recounts || news.rooms.contains(room) || news.has_moved(*room))
    });
    choice
}

struct Chooser<'c, 'a> {
    lists: &'c [(&'a str, &'a List, &'c Sorted)],
    rooms: &'c UserRooms,
    memory: &'c Memory,
    news: &'c News<'c>,
}

impl<'a> Chooser<'_, 'a> {
    /// The rooms to look at: where something happened, and, unless all that was wanted was told, whatever is wanted.
    fn candidates(&self, wanted: u64, changes: &[u64]) -> HashSet<RoomNo> {
        let news = self.news;
        let mut found: HashSet<RoomNo> = news.rooms.union(&news.typing).copied().collect();
        found.extend(news.subscriptions.keys());
        if let Some(after) = news.after {
            let moved = news
                .rows
                .iter()
                .filter(|row| row.pos > after || row.since > after);
            found.extend(moved.map(|row| row.room));
        }
        if news.recounts {
            found.extend(self.memory.all().map(|(room, _)| room));
        }
        if news.direct {
            let other = |room: RoomNo, told: &SlidingRoom| {
                self.rooms
                    .get(room)
                    .is_some_and(|facets| facets.is_dm != told.direct)
            };
            let told = self.memory.all().filter(|(room, told)| other(*room, told));
            found.extend(told.map(|(room, _)| room));
        }
        let settled = self.memory.settled.as_ref();
        let settled = settled
            .filter(|settled| settled.wanted == wanted && settled.changes.len() == changes.len());
        for (at, (_, list, sorted)) in self.lists.iter().enumerate() {
            let moves = settled.map_or(usize::MAX, |settled| {
                let moves = changes[at].wrapping_sub(settled.changes[at]);
                usize::try_from(moves).unwrap_or(usize::MAX)
            });
            for range in &list.ranges {
                found.extend(entered(sorted, *range, moves));
            }
        }
        found
    }

    /// A room that is wanted, and how much of it is told, if there is anything to tell.
    fn pick(&self, room: RoomNo) -> Option<(Pick<'a>, Option<How>)> {
        let rows = self.news.rows;
        let row = rows[rows.binary_search_by_key(&room, |row| row.room).ok()?];
        let facets = self.rooms.get(room);
        let told = self.memory.of(room).copied();
        let upto = told.and_then(|told| told.upto.or(self.news.after));
        let gone = matches!(row.membership, Membership::Leave | Membership::Ban);
        // Whoever leaves hears of it once, if they were told of the room.
        let leaving = gone && upto.is_some_and(|upto| row.pos > upto);
        if row.forgotten && !leaving {
            return None;
        }
        let mut pick = Pick {
            row,
            facets: facets.cloned(),
            lists: Vec::new(),
            subscribed: false,
            config: Config::default(),
            told,
            how: How::Whole,
        };
        for (name, list, sorted) in self.lists {
            let index = facets.and_then(|facets| sorted.index(facets.activity, room));
            let stands = index.is_some_and(|index| list.has(index));
            let leaves = leaving
                && index.is_none()
                && facets.is_none_or(|facets| sorted.would_have(&list.filter, room, facets));
            if stands || leaves {
                pick.lists.push(name);
                pick.config.add(&list.config);
            }
        }
        if let Some(config) = self.news.subscriptions.get(&room) {
            pick.subscribed = true;
            pick.config.add(config);
        }
        if pick.lists.is_empty() && !pick.subscribed {
            return None;
        }
        let how = self.how(&pick, upto);
        Some((pick, how))
    }

    /// If profiles are wanted and not all that the room has were told: of whom they are.
    fn members(&self, pick: &Pick<'a>, how: Option<How>) -> Option<Members<'a>> {
        let told = self.news.profiles?;
        let lazy = pick.config.state.is_lazy();
        let whole = how == Some(How::Whole);
        let done = pick.told.and_then(|room| room.profiles);
        let done = done.is_some_and(|done| done.asked == told.asked(lazy) && done.upto.is_none());
        // What is told lazily comes up with what is told of the room.
        let owed = whole || !done || lazy && how.is_some();
        (owed && pick.row.membership == Membership::Join).then(|| Members {
            room: pick.row.room,
            lists: pick.lists.clone(),
            subscribed: pick.subscribed,
            lazy,
            timeline: pick.config.timeline,
            whole,
        })
    }

    fn how(&self, pick: &Pick<'_>, upto: Option<Pos>) -> Option<How> {
        let (Some(told), Some(upto)) = (pick.told, upto) else {
            return Some(How::Whole);
        };
        let row = &pick.row;
        let is_dm = pick.facets.as_ref().is_some_and(|facets| facets.is_dm);
        match row.membership {
            Membership::Leave | Membership::Ban => (row.pos > upto).then_some(How::Since(upto)),
            _ if row.since > upto => Some(How::Whole),
            Membership::Join => {
                let room = row.room;
                let state = self.memory.state(&told);
                let wider = state.is_none_or(|state| !pick.config.state.is_within(state))
                    || pick.config.timeline > told.timeline;
                let news = told.upto.is_some()
                    || self.news.recounts
                    || self.news.rooms.contains(&room)
                    || self.news.typing.contains(&room);
                (wider || news || is_dm != told.direct).then_some(How::Since(upto))
            }
            _ => (is_dm != told.direct).then_some(How::Since(upto)),
        }
    }
}

/// The rooms within a range of a list that may not have been there some moves ago.
fn entered(
    list: &Sorted,
    (start, end): (usize, usize),
    moves: usize,
) -> impl Iterator<Item = RoomNo> {
    let nothing = (1, 0);
    let all = end.min(list.len()).saturating_sub(start);
    let (first, last) = if moves >= all / 2 {
        ((start, end), nothing)
    } else if moves == 0 {
        (nothing, nothing)
    } else {
        // Beyond the last room there are none.
        let end = end.min(list.len() - 1);
        ((start, start + moves), (end - moves, end))
    };
    list.range(first).chain(list.range(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::sliding::request::filter::Filter;

    fn facets(activity: i64) -> Facets {
        Facets::joined(Pos(activity))
    }

    /// What came into a range is among what is looked at, however much moved, or what moved itself.
    #[test]
    fn whatever_entered_a_range_is_looked_at() {
        let mut seed = 3_u64;
        let mut random = move |below: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            i64::try_from(seed >> 33).unwrap() % below
        };
        let filter = Filter::default();
        let place = |number: i64| usize::try_from(number).unwrap();
        for _ in 0..3_000 {
            let mut all: HashMap<RoomNo, Facets> =
                (0..random(40)).map(|n| (RoomNo(n), facets(n))).collect();
            let mut list = Sorted::of(&filter, None, &all);
            let start = place(random(20));
            let range = (start, start + place(random(25)));
            let was: HashSet<RoomNo> = list.range(range).collect();
            let mut moved = HashSet::new();
            let before = list.changes;
            for at in 0..random(6) {
                let room = RoomNo(random(45));
                let new = (random(3) > 0).then(|| facets(100 + at));
                let old = match &new {
                    Some(new) => all.insert(room, new.clone()),
                    None => all.remove(&room),
                };
                list.moved(&filter, room, old.map(|old| old.activity), new.as_ref());
                moved.insert(room);
            }
            let moves = usize::try_from(list.changes - before).unwrap();
            let looked_at: HashSet<RoomNo> = entered(&list, range, moves).collect();
            for room in list.range(range) {
                let known = was.contains(&room) || moved.contains(&room);
                assert!(known || looked_at.contains(&room), "{range:?} {moves}");
            }
        }
    }
}
