//! Rooms that couldn't be told of somebody's profile.

use crate::engine::sql::Columns as _;
use crate::{Pos, Result, RoomNo, Store, UserNo};

/// How long it takes to the second attempt, in milliseconds. Each further one takes twice as long, up to most of two days.
const FIRST_MS: i64 = 5_000;

/// A room that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untold {
    /// Of whom.
    pub user: UserNo,
    /// Which.
    pub room: RoomNo,
    /// Of what has changed after this position.
    pub since: Pos,
}

impl Store {
    /// Remembers that a room couldn't be told: later, but later each time, it comes up again ([`Store::untold`]).
    pub async fn remember_untold(&self, untold: Untold) -> Result<()> {
        let query = self
            .sql(
                "INSERT INTO profile_untold (user_no, room, since, tries, due_ms) VALUES ($1, $2, $3, 0, $4) \
                 ON CONFLICT (user_no, room) DO UPDATE SET \
                 since = CASE WHEN profile_untold.since < excluded.since THEN profile_untold.since ELSE excluded.since END, \
                 tries = CASE WHEN profile_untold.tries < 14 THEN profile_untold.tries + 1 ELSE 14 END, \
                 due_ms = excluded.due_ms + 5000 * ((2 << CAST(profile_untold.tries AS INTEGER)) - 1)",
            )
            .bind(untold.user)
            .bind(untold.room)
            .bind(untold.since)
            .bind(self.clock().now_ms() + FIRST_MS);
        self.execute(query).await?;
        Ok(())
    }

    /// All that couldn't be told of this user comes up now.
    pub async fn hasten_untold(&self, user: UserNo) -> Result<()> {
        let query = self
            .sql("UPDATE profile_untold SET due_ms = 0 WHERE user_no = $1")
            .bind(user);
        self.execute(query).await?;
        Ok(())
    }

    /// The room has been told, or isn't to be.
    pub async fn forget_untold(&self, untold: Untold) -> Result<()> {
        let query = self
            .sql("DELETE FROM profile_untold WHERE user_no = $1 AND room = $2")
            .bind(untold.user)
            .bind(untold.room);
        self.execute(query).await?;
        Ok(())
    }

    /// Some of those that are to be told now.
    pub async fn untold(&self, limit: usize) -> Result<Vec<Untold>> {
        let query = self
            .sql(
                "SELECT user_no, room, since FROM profile_untold WHERE due_ms <= $1 \
                 ORDER BY due_ms, user_no, room LIMIT $2",
            )
            .bind(self.clock().now_ms())
            .bind(limit);
        let rows = self.rows(query).await?;
        let untold = rows.iter().map(|row| {
            Ok(Untold {
                user: row.get("user_no")?,
                room: row.get("room")?,
                since: row.get("since")?,
            })
        });
        untold.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::TestDatabase;
    use crate::{Clock, Options};

    #[tokio::test]
    async fn what_could_not_be_told_comes_again_later_each_time() {
        for database in TestDatabase::both().await {
            let options = Options {
                clock: Clock::manual(1_000_000),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let untold = |since| Untold {
                user: UserNo(1),
                room: RoomNo(2),
                since: Pos(since),
            };
            for (since, wait) in [(7, 5), (9, 10), (11, 20)] {
                store.remember_untold(untold(since)).await.unwrap();
                store.clock().advance(Duration::from_secs(wait - 1));
                assert_eq!(store.untold(9).await.unwrap(), []);
                store.clock().advance(Duration::from_secs(1));
                assert_eq!(store.untold(9).await.unwrap(), [untold(7)]);
            }
            for _ in 0..20 {
                store.remember_untold(untold(7)).await.unwrap();
            }
            store.clock().advance(Duration::from_hours(48));
            assert_eq!(store.untold(9).await.unwrap(), [untold(7)]);
            store.forget_untold(untold(7)).await.unwrap();
            assert_eq!(store.untold(9).await.unwrap(), []);
            store.close().await;
            database.remove().await;
        }
    }
}
