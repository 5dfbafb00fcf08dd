//! Which threads users follow
//! ([MSC4306](https://github.com/matrix-org/matrix-spec-proposals/pull/4306)).
//!
//! What ended a subscription stays: its position says which mentions the user had seen by then, and these are no
//! reason for a client that comes back to begin it anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ruma::{EventId, OwnedEventId};

use super::decision::Decision;
use super::table::table;
use super::{Audience, Kind, Logged, LoggedKind};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Pos, Result, RoomNo, Store, UserNo};

/// How many threads one user says anything of.
const MOST: i64 = 10_000;

table! {
    /// Whether a user follows a thread.
    pub struct ThreadSubscription in thread_subscription {
        key {
            /// Who.
            user: UserNo = user_no,
            /// Where.
            room: RoomNo = room,
            /// The thread's root.
            thread: OwnedEventId = thread,
        }
        /// Whether they follow it.
        subscribed: bool = subscribed,
        /// Whether a client decided so by itself.
        automatic: bool = automatic,
    }
}

/// A subscription that begins, changes or ends. What is so already says nothing, and gets no position.
#[derive(Debug, Clone)]
pub struct SubscriptionChange {
    /// Who.
    pub user: UserNo,
    /// Where.
    pub room: RoomNo,
    /// The thread's root.
    pub thread: OwnedEventId,
    /// What becomes of it.
    pub wish: Following,
}

/// What a user, or their client, wants of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// To follow it.
    Yes,
    /// A client wants it because of an event, which came at this position, or before all that has one. Refused with
    /// [`CommitError::Unsubscribed`] if the user has said no since.
    Automatic(Option<Pos>),
    /// Not to follow it any more.
    No,
}

/// User, room and thread.
type Key = (UserNo, RoomNo, OwnedEventId);

/// What is so.
#[derive(Debug, Clone, Copy)]
struct Stands {
    subscribed: bool,
    automatic: bool,
    pos: Pos,
}

/// What a group's changes are decided on.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    threads: HashMap<Key, Stands>,
    /// How many threads each of the users has said something of.
    counts: HashMap<UserNo, i64>,
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Asked<'a> {
        user_no: UserNo,
        room: RoomNo,
        thread: &'a OwnedEventId,
    }
}

impl SubscriptionChange {
    fn key(&self) -> Key {
        (self.user, self.room, self.thread.clone())
    }

    fn becomes(&self) -> (bool, bool) {
        match self.wish {
            Following::Yes => (true, false),
            Following::Automatic(_) => (true, true),
            Following::No => (false, false),
        }
    }
}

impl Kind for SubscriptionChange {
    type Basis = Standing;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Standing, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let asked: BTreeSet<_> = (facts.iter())
            .map(|change| Asked {
                user_no: change.user,
                room: change.room,
                thread: &change.thread,
            })
            .collect();
        let users: BTreeSet<UserNo> = facts.iter().map(|change| change.user).collect();
        let query = tx
            .sql(
                "SELECT t.user_no, t.room, t.thread, t.subscribed, t.automatic, t.pos \
                 FROM ROWS($1) AS x JOIN thread_subscription t \
                 ON t.user_no = x.user_no AND t.room = x.room AND t.thread = x.thread",
            )
            .rows(&asked.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            let key = (row.get("user_no")?, row.get("room")?, row.get("thread")?);
            let stands = Stands {
                subscribed: row.get("subscribed")?,
                automatic: row.get("automatic")?,
                pos: row.get("pos")?,
            };
            held.threads.insert(key, stands);
        }
        let query = tx
            .sql(
                "SELECT user_no, COUNT(*) AS n FROM thread_subscription \
                 WHERE user_no IN NUMBERS($1) GROUP BY user_no",
            )
            .numbers(users);
        for row in tx.rows(query).await? {
            held.counts.insert(row.get("user_no")?, row.get("n")?);
        }
        Ok(())
    }

    fn check(&self, held: &Standing, _retried: bool) -> Option<Decision> {
        let Some(stands) = held.threads.get(&self.key()) else {
            let count = held.counts.get(&self.user).copied().unwrap_or_default();
            let full = self.wish != Following::No && count >= MOST;
            return full.then_some(Decision::Refuse(CommitError::TooManyThreads(self.user)));
        };
        let Following::Automatic(cause) = self.wish else {
            return None;
        };
        let known = !stands.subscribed && cause.is_none_or(|cause| cause <= stands.pos);
        known.then_some(Decision::Refuse(CommitError::Unsubscribed(self.user)))
    }

    fn apply(&self, held: &mut Standing) -> bool {
        let (subscribed, automatic) = self.becomes();
        let stands = held.threads.get(&self.key());
        let news = match (self.wish, stands) {
            (Following::No, stands) => stands.is_some_and(|stands| stands.subscribed),
            (Following::Yes, Some(stands)) => !stands.subscribed || stands.automatic,
            (Following::Automatic(_), Some(stands)) => !stands.subscribed,
            (_, None) => {
                *held.counts.entry(self.user).or_default() += 1;
                true
            }
        };
        if news {
            let stands = Stands {
                subscribed,
                automatic,
                // After all that anybody can have seen.
                pos: Pos(i64::MAX),
            };
            held.threads.insert(self.key(), stands);
        }
        news
    }

    fn write(facts: &[(i64, &Self)], _: &Standing, statements: &mut Statements) -> Result<()> {
        let mut last: BTreeMap<Key, (i64, ThreadSubscription)> = BTreeMap::new();
        for (pos, change) in facts {
            last.insert(change.key(), (*pos, change.entry()));
        }
        let last: Vec<_> = last.values().map(|(pos, entry)| (*pos, entry)).collect();
        ThreadSubscription::put(&last, statements)
    }
}

impl LoggedKind for SubscriptionChange {
    type Entry = ThreadSubscription;

    fn entry(&self) -> ThreadSubscription {
        let (subscribed, automatic) = self.becomes();
        ThreadSubscription {
            user: self.user,
            room: self.room,
            thread: self.thread.clone(),
            subscribed,
            automatic,
        }
    }

    fn audience(subscription: &ThreadSubscription) -> Audience {
        Audience::User(subscription.user)
    }

    fn forget(subscription: &ThreadSubscription, store: &Store) {
        let thread = (subscription.room, subscription.thread.clone());
        store.core.caches.followers.remove(&thread);
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            room: world.room,
            thread: ruma::owned_event_id!("$root"),
            wish: Following::Automatic(Some(Pos(1))),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let thread = ruma::event_id!("$root");
        let stands = store.thread_subscription(world.user, world.room, thread);
        let followers = store.thread_followers(world.room, thread).await?;
        let follows = followers.contains(&world.user);
        Ok(format!("{:?} {follows}", stands.await?))
    }
}

impl Store {
    /// What a user has said of a thread.
    pub async fn thread_subscription(
        &self,
        user: UserNo,
        room: RoomNo,
        thread: &EventId,
    ) -> Result<Option<Arc<Logged<ThreadSubscription>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, thread, subscribed, automatic FROM thread_subscription \
                 WHERE user_no = $1 AND room = $2 AND thread = $3",
            )
            .bind(user)
            .bind(room)
            .bind(thread);
        self.row(query)
            .await?
            .as_ref()
            .map(Logged::read)
            .transpose()
    }

    /// Who follows a thread, cached while that doesn't change.
    pub async fn thread_followers(
        &self,
        room: RoomNo,
        thread: &EventId,
    ) -> Result<Arc<HashSet<UserNo>>> {
        let cache = &self.core.caches.followers;
        let key = (room, thread.to_owned());
        if let Some(known) = cache.get(&key) {
            return Ok(known);
        }
        let moment = cache.moment();
        let query = self
            .sql(
                "SELECT user_no FROM thread_subscription \
                 WHERE room = $1 AND thread = $2 AND subscribed = 1",
            )
            .bind(room)
            .bind(thread);
        let rows = self.rows(query).await?;
        let users = rows.iter().map(|row| row.get("user_no"));
        let users: Arc<HashSet<UserNo>> = Arc::new(users.collect::<Result<_>>()?);
        cache.insert_since(moment, key, users.clone(), users.len() + 1);
        Ok(users)
    }

    /// The newest `limit` of what a user has said of threads with `after < pos ≤ upto`, newest first.
    pub async fn thread_subscriptions(
        &self,
        user: UserNo,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<Logged<ThreadSubscription>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, thread, subscribed, automatic FROM thread_subscription \
                 WHERE user_no = $1 AND pos > $2 AND pos <= $3 ORDER BY pos DESC LIMIT $4",
            )
            .bind(user)
            .bind(after)
            .bind(upto)
            .bind(limit);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::Fact;
    use crate::testing::each_database;

    #[tokio::test]
    async fn of_so_many_threads_and_no_more_a_user_says_whether_they_follow_them() {
        each_database(async |store| {
            let user = store.user_no(user_id!("@ada:here")).await.unwrap();
            let change = |n: i64, wish| {
                Fact::from(SubscriptionChange {
                    user,
                    room: RoomNo(1),
                    thread: EventId::parse(format!("$root{n}")).unwrap(),
                    wish,
                })
            };
            let most: Vec<_> = (0..MOST).map(|n| change(n, Following::Yes)).collect();
            store.commit(most.into()).await.unwrap();
            for wish in [Following::Yes, Following::Automatic(Some(Pos(1)))] {
                let refused = store.commit(vec![change(MOST, wish)].into()).await;
                assert!(matches!(refused, Err(CommitError::TooManyThreads(_))));
            }
            // What is there may change, and what isn't may stay so.
            for n in [0, MOST] {
                let no = change(n, Following::No);
                store.commit(vec![no].into()).await.unwrap();
            }
        })
        .await;
    }
}
