//! How far users' devices have got, in memory: of those who were heard of last.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::{Pos, RoomNo, SlidingRoom, UserNo};

/// How many users are remembered; of others it is found out anew.
const REMEMBERED: usize = 20_000;
/// Of so many connections of a user it is remembered how far they have got.
const SOURCES: usize = 16;

/// What a device has got.
#[derive(Debug, Clone)]
pub struct Got {
    /// Up to here.
    pub upto: Pos,
    /// Of which rooms; `None`: of all.
    pub of: Option<OfConnection>,
}

/// What a connection of sliding sync has told.
#[derive(Debug, Clone)]
pub struct OfConnection {
    /// Its number.
    pub connection: i64,
    /// What it told of each room.
    pub rooms: Arc<HashMap<RoomNo, SlidingRoom>>,
    /// The rooms that it told something else of than up to its last position; `None`: nobody knows which.
    pub fresh: Option<Vec<RoomNo>>,
}

/// What is to be seen to.
#[derive(Debug)]
pub struct Work {
    /// Receipts are written up to here; `None`: nobody knows.
    pub after: Option<Pos>,
    /// Up to where a device has got what it was told.
    pub upto: Pos,
    /// What a connection told; `None`: everything.
    pub rooms: Option<Arc<HashMap<RoomNo, SlidingRoom>>>,
    /// Rooms of which older messages may have come by now.
    pub fresh: HashSet<RoomNo>,
    connection: Option<i64>,
}

/// How far users have got.
#[derive(Debug, Default)]
pub struct Deliveries(Mutex<Users>);

#[derive(Debug, Default)]
struct Users {
    by_no: HashMap<UserNo, Progress>,
    /// The same by when they were heard of, the last at the end.
    by_use: BTreeMap<u64, UserNo>,
    uses: u64,
}

/// One user's.
#[derive(Debug, Default)]
struct Progress {
    /// Somebody is at it.
    busy: bool,
    /// When they were heard of.
    used: u64,
    /// What follows the log for them, the last that was heard of at the end.
    sources: Vec<Source>,
}

/// A connection of sliding sync, or all that gets everything.
#[derive(Debug)]
struct Source {
    connection: Option<i64>,
    /// It has everything up to here that it was told.
    got: Pos,
    /// Receipts are written up to here; `None`: nobody knows.
    told: Option<Pos>,
    rooms: Option<Arc<HashMap<RoomNo, SlidingRoom>>>,
    fresh: HashSet<RoomNo>,
}

impl Source {
    /// Whether somebody has to see to it.
    fn has_news(&self) -> bool {
        // What a connection told isn't known any more once that is seen to.
        let is_known = self.connection.is_none() || self.rooms.is_some();
        is_known && self.is_owed()
    }

    fn is_owed(&self) -> bool {
        self.told.is_none_or(|told| told < self.got) || !self.fresh.is_empty()
    }

    fn got(&mut self, got: Got) {
        if got.upto < self.got {
            // It is asked again what was answered already.
            return;
        }
        self.got = got.upto;
        let Some(of) = got.of else { return };
        match of.fresh {
            Some(fresh) => self.fresh.extend(fresh),
            None => self.told = None,
        }
        self.rooms = self.is_owed().then_some(of.rooms);
    }
}

impl Users {
    /// A user is heard of.
    fn hear(&mut self, user: UserNo) -> &mut Progress {
        self.uses += 1;
        let known = self.by_no.entry(user).or_default();
        self.by_use.remove(&known.used);
        known.used = self.uses;
        self.by_use.insert(self.uses, user);
        known
    }

    /// Forgets those who were heard of longest ago, but for whom somebody is at it.
    fn forget_beyond(&mut self, most: usize) {
        while self.by_no.len() > most {
            let mut oldest = self.by_use.iter();
            let idle = oldest.find(|(_, user)| !self.by_no[*user].busy);
            let Some((used, user)) = idle.map(|(used, user)| (*used, *user)) else {
                return;
            };
            self.by_use.remove(&used);
            self.by_no.remove(&user);
        }
    }
}

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device has got something. Whether somebody has to see to it.
    pub fn got(&self, user: UserNo, got: Got) -> bool {
        let mut users = self.lock();
        let progress = users.hear(user);
        let connection = got.of.as_ref().map(|of| of.connection);
        let mut sources = progress.sources.iter();
        let at = sources.position(|source| source.connection == connection);
        let mut source = match at {
            Some(at) => progress.sources.remove(at),
            None => Source {
                connection,
                got: Pos(0),
                told: None,
                rooms: None,
                fresh: HashSet::new(),
            },
        };
        if progress.sources.len() >= SOURCES {
            progress.sources.remove(0);
        }
        source.got(got);
        let news = source.has_news();
        progress.sources.push(source);
        let begins = news && !std::mem::replace(&mut progress.busy, true);
        users.forget_beyond(REMEMBERED);
        begins
    }

    /// What is to be told of now. `None`: nothing is, and nobody is at it.
    pub fn next(&self, user: UserNo) -> Option<Work> {
        let mut users = self.lock();
        let progress = users.by_no.get_mut(&user)?;
        let mut sources = progress.sources.iter_mut();
        let Some(source) = sources.find(|source| source.has_news()) else {
            progress.busy = false;
            return None;
        };
        Some(Work {
            after: source.told,
            upto: source.got,
            rooms: source.rooms.take(),
            fresh: std::mem::take(&mut source.fresh),
            connection: source.connection,
        })
    }

    /// It is told.
    pub fn told(&self, user: UserNo, work: &Work) {
        self.change(user, work, |source| {
            source.told = source.told.max(Some(work.upto));
        });
    }

    /// It didn't work, and is tried with the next that comes.
    pub fn failed(&self, user: UserNo, work: &Work) {
        self.change(user, work, |source| source.told = None);
        if let Some(progress) = self.lock().by_no.get_mut(&user) {
            progress.busy = false;
        }
    }

    fn change(&self, user: UserNo, work: &Work, change: impl FnOnce(&mut Source)) {
        let mut users = self.lock();
        let progress = users.by_no.get_mut(&user);
        let mut sources = progress.into_iter().flat_map(|it| &mut it.sources);
        let found = sources.find(|source| source.connection == work.connection);
        if let Some(source) = found {
            change(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(upto: i64) -> Got {
        Got {
            upto: Pos(upto),
            of: None,
        }
    }

    /// Says that it is told up to there.
    fn tell(deliveries: &Deliveries, user: UserNo) {
        while let Some(work) = deliveries.next(user) {
            deliveries.told(user, &work);
        }
    }

    #[test]
    fn who_was_heard_of_longest_ago_is_forgotten() {
        let mut users = Users::default();
        for user in 0..10 {
            users.hear(UserNo(user));
        }
        users.hear(UserNo(0));
        users.by_no.get_mut(&UserNo(1)).unwrap().busy = true;
        users.forget_beyond(4);
        let mut left: Vec<i64> = users.by_no.keys().map(|user| user.0).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 8, 9]);
        assert_eq!(users.by_use.len(), 4);
        users.hear(UserNo(8));
        users.forget_beyond(2);
        assert!(users.by_no.contains_key(&UserNo(8)) && users.by_no.contains_key(&UserNo(1)));
    }

    #[test]
    fn what_was_told_is_not_looked_at_again() {
        let (deliveries, user) = (Deliveries::default(), UserNo(1));
        assert!(deliveries.got(user, all(5)));
        assert!(!deliveries.got(user, all(6)), "somebody is at it");
        let work = deliveries.next(user).unwrap();
        assert_eq!((work.after, work.upto), (None, Pos(6)));
        deliveries.told(user, &work);
        assert!(deliveries.next(user).is_none());
        assert!(!deliveries.got(user, all(4)) && !deliveries.got(user, all(6)));
        assert!(deliveries.got(user, all(7)));
        let work = deliveries.next(user).unwrap();
        assert_eq!(work.after, Some(Pos(6)));
        deliveries.failed(user, &work);
        assert!(deliveries.got(user, all(7)));
    }

    #[test]
    fn a_connection_has_what_it_was_told() {
        let (deliveries, user) = (Deliveries::default(), UserNo(1));
        let got = |upto, fresh: Option<Vec<RoomNo>>| Got {
            upto: Pos(upto),
            of: Some(OfConnection {
                connection: 3,
                rooms: Arc::default(),
                fresh,
            }),
        };
        assert!(deliveries.got(user, got(5, Some(Vec::new()))));
        tell(&deliveries, user);
        // Rooms of which more was told without anything that happened.
        assert!(!deliveries.got(user, got(5, Some(Vec::new()))));
        assert!(deliveries.got(user, got(5, Some(vec![RoomNo(1)]))));
        let work = deliveries.next(user).unwrap();
        assert!(work.rooms.is_some() && work.fresh.contains(&RoomNo(1)));
        deliveries.told(user, &work);
        tell(&deliveries, user);
        // Another process has gone on with it.
        assert!(deliveries.got(user, got(5, None)));
        assert_eq!(deliveries.next(user).unwrap().after, None);
        tell(&deliveries, user);
        // What is asked again says nothing, not even after a failure, and others have their own.
        assert!(deliveries.got(user, got(6, Some(Vec::new()))));
        let work = deliveries.next(user).unwrap();
        deliveries.failed(user, &work);
        assert!(!deliveries.got(user, got(4, Some(vec![RoomNo(2)]))));
        assert!(deliveries.got(user, all(5)));
    }
}
