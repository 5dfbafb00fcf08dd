//! What the operator has set of users' limits. It is little, so all of it is in memory from the start on, and true as far as the
//! log has been read: whoever asks reads no database.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ruma::UserId;

use crate::engine::database::Database;
use crate::engine::sql::{Columns as _, Query, ReadRow};
use crate::facts::user_limit::UserLimit;
use crate::{CommitError, Dialect, Fact, OpenError, Result, Store};

/// How many millionths one has.
const WHOLE: f64 = 1_000_000.0;
/// The most actions per second that make a difference.
const MOST_PER_SECOND: f64 = 1_000_000.0;

/// How often somebody may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnLimit {
    millionths: i64,
    burst: u32,
}

impl OwnLimit {
    /// So many actions per second, and so many at once; `None` if that is none, or more than makes a difference.
    pub fn new(per_second: f64, burst: u32) -> Option<Self> {
        let is_usable = per_second > 0.0 && per_second <= MOST_PER_SECOND && burst > 0;
        if !is_usable {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most a million of millionths"
        )]
        let millionths = (per_second * WHOLE).round() as i64;
        Some(Self {
            millionths: millionths.max(1),
            burst,
        })
    }

    /// Actions per second in the long run.
    pub fn per_second(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below what is exact")]
        let millionths = self.millionths as f64;
        millionths / WHOLE
    }

    /// Actions at once.
    pub fn burst(self) -> u32 {
        self.burst
    }
}

/// The limits of users, by what they limit. Cheap to clone: what one hears, all do.
#[derive(Debug, Clone, Default)]
pub struct UserLimits(Arc<RwLock<Known>>);

type OfUser = BTreeMap<String, OwnLimit>;

#[derive(Debug, Default)]
struct Known {
    users: BTreeMap<String, OfUser>,
    /// How often something was heard.
    heard: u64,
}

impl Known {
    fn take(&mut self, limit: &UserLimit) {
        if limit.is_set {
            let own = OwnLimit {
                millionths: limit.millionths,
                burst: u32::try_from(limit.burst).unwrap_or(u32::MAX),
            };
            let of_user = self.users.entry(limit.user.clone()).or_default();
            of_user.insert(limit.kind.clone(), own);
        } else if let Some(of_user) = self.users.get_mut(&limit.user) {
            of_user.remove(&limit.kind);
            if of_user.is_empty() {
                self.users.remove(&limit.user);
            }
        }
    }
}

impl UserLimits {
    /// What is set for a user of this kind.
    pub fn of(&self, user: &UserId, kind: &str) -> Option<OwnLimit> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.users.get(user.as_str())?.get(kind).copied()
    }

    /// All that is set for a user.
    pub fn all_of(&self, user: &UserId) -> Vec<(String, OwnLimit)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = all.users.get(user.as_str()).into_iter().flatten();
        own.map(|(kind, limit)| (kind.clone(), *limit)).collect()
    }

    /// Takes up what the log says.
    fn hear(&self, limit: &UserLimit) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.heard += 1;
        all.take(limit);
    }

    /// Takes up all that is set; `false` if something was heard since.
    fn replace(&self, users: BTreeMap<String, OfUser>, heard: u64) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = all.heard == heard;
        if is_new {
            all.users = users;
        }
        is_new
    }

    fn heard(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).heard
    }

    /// What is set when a store opens. What others set meanwhile, the log says once more.
    pub(crate) async fn load(database: &Database, dialect: Dialect) -> Result<Self, OpenError> {
        let rows = database.rows(Query::new(dialect, SET)).await?;
        let known = Known {
            users: users_of(&rows)?,
            heard: 0,
        };
        Ok(Self(Arc::new(RwLock::new(known))))
    }
}

const SET: &str = "SELECT user_id, kind, millionths, burst FROM user_limit WHERE is_set = 1";

fn users_of(rows: &[ReadRow]) -> Result<BTreeMap<String, OfUser>> {
    let mut known = Known::default();
    for row in rows {
        known.take(&UserLimit {
            user: row.get("user_id")?,
            kind: row.get("kind")?,
            millionths: row.get("millionths")?,
            burst: row.get("burst")?,
            is_set: true,
        });
    }
    Ok(known.users)
}

impl Store {
    /// Takes up what the log says of a limit. It may say it late, after what came later: so all is read once more.
    pub(crate) fn hear_user_limit(&self, limit: &UserLimit) {
        self.core.user_limits.hear(limit);
        self.look_at_user_limits();
    }

    /// Reads all limits again, soon.
    pub(crate) fn look_at_user_limits(&self) {
        let store = Self {
            core: Arc::clone(&self.core),
            queue: None,
        };
        tokio::spawn(async move {
            let limits = store.user_limits();
            loop {
                let heard = limits.heard();
                let read = store.rows(store.sql(SET)).await;
                let done = match read.and_then(|rows| users_of(&rows)) {
                    Ok(users) => limits.replace(users, heard),
                    Err(error) => {
                        tracing::warn!(%error, "users' limits can't be read again");
                        true
                    }
                };
                if done {
                    return;
                }
            }
        });
    }
}

impl Store {
    /// What the operator has set of users' limits.
    pub fn user_limits(&self) -> &UserLimits {
        &self.core.user_limits
    }

    /// Sets limits of a user by what they limit; `None`: it is as usual from now on.
    pub async fn set_user_limits(
        &self,
        user: &UserId,
        limits: &[(&str, Option<OwnLimit>)],
    ) -> Result<(), CommitError> {
        let facts: Vec<Fact> = limits
            .iter()
            .map(|(kind, limit)| {
                let fact = UserLimit {
                    user: user.to_string(),
                    kind: (*kind).to_owned(),
                    millionths: limit.map_or(0, |limit| limit.millionths),
                    burst: limit.map_or(0, |limit| i64::from(limit.burst)),
                    is_set: limit.is_some(),
                };
                fact.into()
            })
            .collect();
        self.commit(facts.into()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use std::time::Duration;

    use super::*;
    use crate::Options;
    use crate::testing::{TestDatabase, eventually};

    #[test]
    fn a_limit_lets_something_through() {
        let limit = OwnLimit::new(2.5, 7).unwrap();
        assert_eq!(
            (limit.per_second().to_string(), limit.burst()),
            ("2.5".into(), 7)
        );
        assert_eq!(OwnLimit::new(1e-9, 1).unwrap().millionths, 1);
        for (per_second, burst) in [
            (0.0, 1),
            (-1.0, 1),
            (f64::NAN, 1),
            (f64::INFINITY, 1),
            (1e9, 1),
            (1.0, 0),
        ] {
            assert_eq!(
                OwnLimit::new(per_second, burst),
                None,
                "{per_second} {burst}"
            );
        }
    }

    async fn set(store: &Store, limits: &[(&str, Option<OwnLimit>)]) {
        let set = store.set_user_limits(user_id!("@ada:here"), limits);
        set.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_set_holds_until_it_is_as_usual_also_after_a_restart() {
        for database in TestDatabase::both().await {
            let store = database.open().await;
            let (ada, bob) = (user_id!("@ada:here"), user_id!("@bob:here"));
            let (few, many) = (OwnLimit::new(0.5, 1), OwnLimit::new(100.0, 1_000));
            set(&store, &[("message", few), ("join", few)]).await;
            set(&store, &[("message", many)]).await;
            let again = database.open().await;
            for one in [&store, &again] {
                let limits = one.user_limits();
                assert_eq!(limits.of(ada, "message"), many);
                assert_eq!(limits.of(ada, "join"), few);
                assert_eq!(limits.of(ada, "invite"), None);
                assert_eq!(limits.of(bob, "message"), None);
                assert_eq!(limits.all_of(ada).len(), 2);
            }
            again.close().await;
            set(
                &store,
                &[("message", None), ("join", None), ("invite", None)],
            )
            .await;
            assert!(store.user_limits().all_of(ada).is_empty());
            let again = database.open().await;
            assert!(again.user_limits().all_of(ada).is_empty());
            again.close().await;
            store.close().await;
            database.remove().await;
        }
    }

    /// A process that was away for longer than the log's tail reaches knows what was set meanwhile.
    #[tokio::test]
    async fn what_is_set_while_a_process_is_away_holds_there_too() {
        for database in TestDatabase::both().await {
            let store = database.open().await;
            let away = Store::open(Options {
                poll_interval: Some(Duration::from_hours(1)),
                tail_entries: 3,
                ..database.options()
            });
            let away = away.await.unwrap();
            let few = OwnLimit::new(0.5, 1);
            set(&store, &[("message", few)]).await;
            for _ in 0..10 {
                set(&store, &[("join", few)]).await;
            }
            away.log().refresh().await.unwrap();
            let ada = user_id!("@ada:here");
            eventually("it is known", async || {
                away.user_limits().of(ada, "message") == few
            })
            .await;
            away.close().await;
            store.close().await;
            database.remove().await;
        }
    }
}
