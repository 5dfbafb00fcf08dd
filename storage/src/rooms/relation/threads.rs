//! A room's threads, by their latest activity.

use ruma::OwnedEventId;

use crate::engine::sql::Columns as _;
use crate::{Pos, Result, RoomNo, Store, UserNo};

/// Whose list of a room's threads.
#[derive(Debug, Clone, Copy)]
pub enum ThreadsOf<'a> {
    /// Of somebody who hears everybody, to this day.
    All,
    /// Of somebody who doesn't hear these users, and nothing after a position: for them a thread's latest event may be
    /// another, which has to be looked up for each thread.
    Hearing(&'a [UserNo], Pos),
}

/// A thread of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadRow {
    /// The event that it hangs off.
    pub root: OwnedEventId,
    /// The order of its latest event.
    pub latest: i64,
}

impl Store {
    /// The room's threads whose latest event is from before `before`, newest first, at most `limit`.
    pub async fn threads(
        &self,
        room: RoomNo,
        of: ThreadsOf<'_>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<ThreadRow>> {
        let query = match of {
            ThreadsOf::All => self
                .sql(
                    "SELECT root, latest FROM thread WHERE room = $1 AND latest < $2 \
                     ORDER BY latest DESC LIMIT $3",
                )
                .bind(room)
                .bind(before)
                .bind(limit),
            ThreadsOf::Hearing(ignored, upto) => self
                .sql(
                    "WITH heard AS MATERIALIZED (SELECT t.root, (SELECT r.ord FROM relation r \
                     WHERE r.room = t.room AND r.parent = t.root AND r.rel_type = 'm.thread' \
                     AND r.kind <> 'm.room.redaction' AND r.ord <= $4 AND r.sender NOT IN NUMBERS($5) ORDER BY r.ord DESC LIMIT 1) AS latest \
                     FROM thread t WHERE t.room = $1) \
                     SELECT root, latest FROM heard WHERE latest < $2 ORDER BY latest DESC LIMIT $3",
                )
                .bind(room)
                .bind(before)
                .bind(limit)
                .bind(upto)
                .numbers(ignored.iter().copied()),
        };
        let rows = self.rows(query).await?;
        let threads = rows.iter().map(|row| {
            Ok(ThreadRow {
                root: row.get("root")?,
                latest: row.get("latest")?,
            })
        });
        threads.collect()
    }
}
