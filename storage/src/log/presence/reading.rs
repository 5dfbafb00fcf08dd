//! What is read of everybody of whom something is known.

use std::collections::HashMap;
use std::time::Duration;

use super::people::People;
use super::status::{PresenceNews, PresenceStatus};
use crate::{RoomNo, UserNo};

impl People {
    /// What is told of somebody, if anything was heard of them.
    pub(super) fn status(&self, user: UserNo, now: Duration) -> Option<PresenceStatus> {
        let person = self.known.get(&user)?;
        Some(person.status(user, now))
    }

    /// The rooms in which somebody is to be seen.
    pub(super) fn places_of(&self, user: UserNo) -> Vec<RoomNo> {
        let places = self.known.get(&user).map(|person| &person.places);
        places
            .into_iter()
            .flat_map(HashMap::keys)
            .copied()
            .collect()
    }

    /// Users of ours who are there, in a room, of whom this process tells others.
    pub(super) fn ours_in(&self, room: RoomNo) -> Vec<UserNo> {
        let alone = !self.positions.has_others();
        let there = self.rooms.after(room, None).map(|(_, user)| user);
        let ours = there.filter(|user| {
            let person = self.known.get(user);
            person.is_some_and(|person| person.is_told_here(alone) && person.is_there())
        });
        ours.collect()
    }

    /// What a reader is to be told: of changes after a position, or of all who are there; of rooms that are new to the
    /// reader (`true`), of all who are there in any case. In the order of positions, at most so many.
    pub(super) fn news(
        &self,
        reader: UserNo,
        rooms: &[(RoomNo, bool)],
        after: Option<i64>,
        (most, now): (usize, Duration),
    ) -> Vec<PresenceNews> {
        let mut found: HashMap<UserNo, i64> = HashMap::new();
        for (room, new) in rooms {
            let since = if *new { None } else { after };
            for (position, user) in self.rooms.after(*room, since) {
                let at = found.entry(user).or_insert(position);
                *at = position.max(*at);
            }
        }
        found.remove(&reader);
        if let Some(own) = self.known.get(&reader)
            && after.is_none_or(|after| own.changed > after)
        {
            found.insert(reader, own.changed);
        }
        let mut found: Vec<(i64, UserNo)> = (found.into_iter())
            .map(|(user, position)| (position, user))
            .collect();
        found.sort_unstable();
        let news = found.into_iter().filter_map(|(position, user)| {
            let person = self.known.get(&user)?;
            // That somebody isn't there is news only for who may think that they are.
            let tells = person.is_there() || after.is_some_and(|after| position > after);
            let status = tells.then(|| person.status(user, now))?;
            Some(PresenceNews { position, status })
        });
        news.take(most).collect()
    }
}
