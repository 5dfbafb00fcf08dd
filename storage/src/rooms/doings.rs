//! How much somebody has done since a moment, for operators to see.

use ruma::UserId;

use super::said::pattern;
use crate::engine::sql::Columns as _;
use crate::{EventNo, Pos, Result, Store, UserNo};

/// So many invites are looked at together.
const PIECE: usize = 500;
/// Of more nobody needs to know how many there are.
const MOST: usize = 100_000;

impl Store {
    /// How many invites a user of this server has sent since then (milliseconds since 1970), in the rooms where they are or
    /// were; at most 100,000.
    pub async fn invites_sent(
        &self,
        (user, user_id): (UserNo, &UserId),
        since_ms: i64,
    ) -> Result<usize> {
        let mut after = self.position_before(since_ms).await?;
        let pattern = pattern(user_id);
        let mut count = 0;
        loop {
            let query = self
                .sql(
                    "SELECT s.pos, s.new_event FROM membership m \
                     JOIN state_change s ON s.room = m.room AND s.pos > $3 AND s.membership = 2 \
                     JOIN event e ON e.no = s.new_event AND e.ts >= $2 \
                     WHERE m.user_no = $1 AND e.json LIKE $4 ESCAPE '!' ORDER BY s.pos LIMIT $5",
                )
                .bind(user)
                .bind(since_ms)
                .bind(after)
                .bind(pattern.as_str())
                .bind(PIECE);
            let rows = self.rows(query).await?;
            let Some(last) = rows.last() else {
                return Ok(count);
            };
            after = last.get("pos")?;
            let nos = rows.iter().map(|row| row.get("new_event"));
            let nos: Vec<EventNo> = nos.collect::<Result<_>>()?;
            let events = self.events_by_no(&nos).await?;
            // Others may name them anywhere in what they send.
            let sent = events.iter().filter(|event| event.pdu.sender() == user_id);
            count += sent.count();
            if rows.len() < PIECE || count >= MOST {
                return Ok(count.min(MOST));
            }
        }
    }

    /// Into how many rooms a user has come since then (milliseconds since 1970), whether they are still there or not.
    pub async fn rooms_joined_since(&self, user: UserNo, since_ms: i64) -> Result<usize> {
        let query = self
            .sql(
                "SELECT COUNT(*) AS n FROM membership m WHERE m.user_no = $1 AND (\
                 EXISTS (SELECT 1 FROM event e WHERE e.no = m.event AND m.membership = 1 AND e.ts >= $2) \
                 OR EXISTS (SELECT 1 FROM state_change s JOIN event e ON e.no = s.new_event \
                 WHERE s.room = m.room AND s.pos > $3 AND s.member = $1 AND s.membership = 1 \
                 AND e.ts >= $2))",
            )
            .bind(user)
            .bind(since_ms)
            .bind(self.position_before(since_ms).await?);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("n"))
    }

    /// A position of the log from before a moment, the latest that is known.
    async fn position_before(&self, at_ms: i64) -> Result<Pos> {
        let query = self
            .sql("SELECT MAX(pos) AS pos FROM log_time WHERE at_ms < $1")
            .bind(at_ms);
        let row = self.row(query).await?;
        let known: Option<Option<Pos>> = row.map(|row| row.get("pos")).transpose()?;
        Ok(known.flatten().unwrap_or_default())
    }
}
