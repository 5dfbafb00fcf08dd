//! Joins that were handed in at other servers, and of which it isn't known here what became of them.
//!
//! Rows are claimed by moving their due time into the future: whoever dies with a claim only delays.

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};

use crate::engine::sql::Columns as _;
use crate::{Result, Store};

/// A join that another server may count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentJoin {
    /// Who wanted to join.
    pub user_id: OwnedUserId,
    /// What.
    pub room_id: OwnedRoomId,
    /// Where the join was handed in.
    pub server: OwnedServerName,
    /// When it was last handed in, milliseconds since 1970.
    pub sent_ts: i64,
    /// How often it couldn't be taken back.
    pub failures: u32,
    /// When it is to be taken back, milliseconds since 1970.
    pub retry_at: i64,
}

impl Store {
    /// Notes that a join is about to be handed in, and not to be taken back before `retry_at` (ms).
    pub async fn join_is_sent(
        &self,
        user: &UserId,
        room: &RoomId,
        server: &ServerName,
        retry_at: i64,
    ) -> Result<()> {
        let query = self
            .sql(
                "INSERT INTO sent_join (user_id, room_id, server, sent_ts, tries, failures, retry_at) \
                 VALUES ($1, $2, $3, $4, 1, 0, $5) ON CONFLICT (user_id, room_id, server) DO UPDATE SET \
                 sent_ts = excluded.sent_ts, tries = sent_join.tries + 1, retry_at = excluded.retry_at",
            )
            .bind(user)
            .bind(room)
            .bind(server)
            .bind(self.clock().now_ms())
            .bind(retry_at);
        self.execute(query).await?;
        Ok(())
    }

    /// The server has refused the join: it doesn't count there, unless one from before does.
    pub async fn join_is_refused(
        &self,
        user: &UserId,
        room: &RoomId,
        server: &ServerName,
    ) -> Result<()> {
        let query = self
            .sql(
                "DELETE FROM sent_join \
                 WHERE user_id = $1 AND room_id = $2 AND server = $3 AND tries = 1",
            )
            .bind(user)
            .bind(room)
            .bind(server);
        self.execute(query).await?;
        Ok(())
    }

    /// The user is in the room: nothing is to be taken back.
    pub async fn joins_are_done(&self, user: &UserId, room: &RoomId) -> Result<()> {
        let query = self
            .sql("DELETE FROM sent_join WHERE user_id = $1 AND room_id = $2")
            .bind(user)
            .bind(room);
        self.execute(query).await?;
        Ok(())
    }

    /// The user's joins of the room are to be taken back at `retry_at` (ms). Whether there are any.
    pub async fn put_off_joins(&self, user: &UserId, room: &RoomId, retry_at: i64) -> Result<bool> {
        let query = self
            .sql("UPDATE sent_join SET retry_at = $3 WHERE user_id = $1 AND room_id = $2")
            .bind(user)
            .bind(room)
            .bind(retry_at);
        Ok(self.execute(query).await? > 0)
    }

    /// The user's joins of the room of which nothing came.
    pub async fn sent_joins(&self, user: &UserId, room: &RoomId) -> Result<Vec<SentJoin>> {
        let query = self
            .sql(
                "SELECT user_id, room_id, server, sent_ts, failures, retry_at FROM sent_join \
                 WHERE user_id = $1 AND room_id = $2 ORDER BY server",
            )
            .bind(user)
            .bind(room);
        self.rows(query).await?.iter().map(join_of).collect()
    }

    /// The joins that are to be taken back next, whenever that is.
    pub async fn next_sent_joins(&self, limit: usize) -> Result<Vec<SentJoin>> {
        let query = self
            .sql(
                "SELECT user_id, room_id, server, sent_ts, failures, retry_at FROM sent_join \
                 ORDER BY retry_at LIMIT $1",
            )
            .bind(limit);
        self.rows(query).await?.iter().map(join_of).collect()
    }

    /// Puts a join off to `retry_at` (ms), with so many failures. Whether it still was as it is given here.
    pub async fn put_off_join(
        &self,
        join: &SentJoin,
        failures: u32,
        retry_at: i64,
    ) -> Result<bool> {
        let query = self
            .sql(
                "UPDATE sent_join SET failures = $5, retry_at = $6 \
                 WHERE user_id = $1 AND room_id = $2 AND server = $3 AND retry_at = $4",
            )
            .bind(&join.user_id)
            .bind(&join.room_id)
            .bind(&join.server)
            .bind(join.retry_at)
            .bind(i64::from(failures))
            .bind(retry_at);
        Ok(self.execute(query).await? > 0)
    }

    /// The join is taken back, if it still is as it is given here.
    pub async fn join_is_taken_back(&self, join: &SentJoin) -> Result<()> {
        let query = self
            .sql(
                "DELETE FROM sent_join \
                 WHERE user_id = $1 AND room_id = $2 AND server = $3 AND retry_at = $4",
            )
            .bind(&join.user_id)
            .bind(&join.room_id)
            .bind(&join.server)
            .bind(join.retry_at);
        self.execute(query).await?;
        Ok(())
    }
}

fn join_of(row: &crate::engine::sql::ReadRow) -> Result<SentJoin> {
    Ok(SentJoin {
        user_id: row.get("user_id")?,
        room_id: row.get("room_id")?,
        server: row.get("server")?,
        sent_ts: row.get("sent_ts")?,
        failures: u32::try_from(row.get::<i64>("failures")?).unwrap_or(u32::MAX),
        retry_at: row.get("retry_at")?,
    })
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, server_name, user_id};

    use super::*;
    use crate::testing::each_database;

    #[tokio::test]
    async fn a_join_is_kept_until_it_is_known_what_became_of_it() {
        each_database(async |store: Store| {
            let (user, room) = (user_id!("@x:here"), room_id!("!r:a.example"));
            let (a, b) = (server_name!("a.example"), server_name!("b.example"));
            store.join_is_sent(user, room, a, 50).await.unwrap();
            store.join_is_refused(user, room, a).await.unwrap();
            assert_eq!(store.next_sent_joins(9).await.unwrap(), []);

            // Refused the second time: the first may count.
            store.join_is_sent(user, room, a, 50).await.unwrap();
            store.join_is_sent(user, room, a, 60).await.unwrap();
            store.join_is_refused(user, room, a).await.unwrap();
            store.join_is_sent(user, room, b, 40).await.unwrap();
            let next = store.next_sent_joins(9).await.unwrap();
            let due: Vec<_> = next
                .iter()
                .map(|j| (j.server.as_str(), j.retry_at))
                .collect();
            assert_eq!(due, [("b.example", 40), ("a.example", 60)]);
            assert_eq!(store.next_sent_joins(1).await.unwrap(), next[..1]);
            assert_eq!(store.sent_joins(user, room).await.unwrap().len(), 2);

            // Who has claimed one is the only one to have done so.
            assert!(store.put_off_join(&next[0], 3, 70).await.unwrap());
            assert!(!store.put_off_join(&next[0], 4, 80).await.unwrap());
            store.join_is_taken_back(&next[0]).await.unwrap();
            let claimed = store.sent_joins(user, room).await.unwrap().pop().unwrap();
            assert_eq!((claimed.failures, claimed.retry_at), (3, 70));
            store.join_is_taken_back(&claimed).await.unwrap();
            assert!(store.put_off_joins(user, room, 5).await.unwrap());
            assert_eq!(store.next_sent_joins(9).await.unwrap()[0].retry_at, 5);
            store.joins_are_done(user, room).await.unwrap();
            assert!(!store.put_off_joins(user, room, 5).await.unwrap());
            assert_eq!(store.sent_joins(user, room).await.unwrap(), []);
        })
        .await;
    }
}
