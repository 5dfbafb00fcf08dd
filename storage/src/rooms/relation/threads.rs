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

/// Threads that are looked through at once for who doesn't hear everybody.
const PIECE: usize = 500;

impl Store {
    /// The room's threads whose latest event is from before `before`, newest first, at most `limit`.
    pub async fn threads(
        &self,
        room: RoomNo,
        of: ThreadsOf<'_>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<ThreadRow>> {
        match of {
            ThreadsOf::All => {
                let query = self
                    .sql(
                        "SELECT root, latest FROM thread WHERE room = $1 AND latest < $2 \
                         ORDER BY latest DESC LIMIT $3",
                    )
                    .bind(room)
                    .bind(before)
                    .bind(limit);
                let rows = self.rows(query).await?;
                let threads = rows.iter().map(|row| {
                    Ok(ThreadRow {
                        root: row.get("root")?,
                        latest: row.get("latest")?,
                    })
                });
                threads.collect()
            }
            ThreadsOf::Hearing(ignored, upto) => {
                self.threads_heard(room, (ignored, upto), before, limit)
                    .await
            }
        }
    }

    /// For who doesn't hear everybody a thread's latest event is never newer than for all: the threads are walked by
    /// the latter, until what is still to come can't be newer than enough of what was found.
    async fn threads_heard(
        &self,
        room: RoomNo,
        (ignored, upto): (&[UserNo], Pos),
        before: i64,
        limit: usize,
    ) -> Result<Vec<ThreadRow>> {
        let mut found: Vec<ThreadRow> = Vec::new();
        let mut at = i64::MAX;
        loop {
            let query = self
                .sql(
                    "WITH piece AS MATERIALIZED (SELECT t.room, t.root, t.latest FROM thread t \
                     WHERE t.room = $1 AND t.latest < $2 ORDER BY t.latest DESC LIMIT $3) \
                     SELECT p.root, p.latest, (SELECT r.ord FROM relation r \
                     WHERE r.room = p.room AND r.parent = p.root AND r.rel_type = 'm.thread' \
                     AND r.kind <> 'm.room.redaction' AND r.ord <= $4 \
                     AND r.sender NOT IN NUMBERS($5) ORDER BY r.ord DESC LIMIT 1) AS heard FROM piece p",
                )
                .bind(room)
                .bind(at)
                .bind(PIECE)
                .bind(upto)
                .numbers(ignored.iter().copied());
            let rows = self.rows(query).await?;
            for row in &rows {
                at = at.min(row.get("latest")?);
                let heard: Option<i64> = row.get("heard")?;
                if let Some(latest) = heard.filter(|heard| *heard < before) {
                    found.push(ThreadRow {
                        root: row.get("root")?,
                        latest,
                    });
                }
            }
            let sure = found.iter().filter(|thread| thread.latest >= at).count();
            if rows.len() < PIECE || sure >= limit {
                found.sort_unstable_by_key(|thread| std::cmp::Reverse(thread.latest));
                found.truncate(limit);
                return Ok(found);
            }
        }
    }
}
