//! What users have not read of rooms, as it is written down now and then. What is in a row is for whoever counts
//! to say; a row is as of a position, tells nobody anything, and may be older than another process's.

use crate::engine::sql::{Columns as _, rows};
use crate::{Lease, Pos, Result, RoomNo, Store, UserNo};

rows! {
    /// What a user has not read of a room.
    #[derive(PartialEq, Eq)]
    pub struct UnreadRow {
        /// The room.
        room: RoomNo,
        /// The user.
        user_no: UserNo,
        /// As of which position.
        upto: Pos,
        /// Since when the user was in the room.
        since: Pos,
        /// Where the last change of what they want to be notified of stands.
        rules: Pos,
        /// The counts.
        tally: String,
    }
}

rows! {
    pub(crate) struct Pair {
        room: RoomNo,
        user_no: UserNo,
    }
}

impl Pair {
    pub(crate) fn all(pairs: &[(RoomNo, UserNo)]) -> Vec<Self> {
        let pair = |(room, user_no): &(RoomNo, UserNo)| Self {
            room: *room,
            user_no: *user_no,
        };
        pairs.iter().map(pair).collect()
    }
}

impl Store {
    /// The rows of these users in these rooms, in no particular order.
    pub async fn unread_rows(&self, of: &[(RoomNo, UserNo)]) -> Result<Vec<UnreadRow>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT u.room, u.user_no, u.upto, u.since, u.rules, u.tally FROM ROWS($1) AS x \
                 JOIN unread u ON u.room = x.room AND u.user_no = x.user_no",
            )
            .rows(&Pair::all(of));
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(UnreadRow {
                    room: row.get("room")?,
                    user_no: row.get("user_no")?,
                    upto: row.get("upto")?,
                    since: row.get("since")?,
                    rules: row.get("rules")?,
                    tally: row.get("tally")?,
                })
            })
            .collect()
    }

    /// Writes rows down, one for each user and room; `false` if the lease is another's by now.
    pub async fn write_unread(&self, lease: &Lease, rows: &[UnreadRow]) -> Result<bool> {
        if rows.is_empty() {
            return Ok(true);
        }
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(false);
        }
        let query = tx
            .sql(
                "INSERT INTO unread (room, user_no, upto, since, rules, tally) \
                 SELECT room, user_no, upto, since, rules, tally FROM ROWS($1) AS x WHERE true \
                 ON CONFLICT (room, user_no) DO UPDATE SET upto = excluded.upto, \
                 since = excluded.since, rules = excluded.rules, tally = excluded.tally",
            )
            .rows(rows);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(true)
    }
}
