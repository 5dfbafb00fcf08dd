//! What somebody has said in a room.

use std::sync::Arc;

use ruma::UserId;

use crate::engine::db::literally;
use crate::engine::sql::Columns as _;
use crate::{EventNo, Pos, Result, RoomNo, Store, StoredEvent};

impl Store {
    /// The newest live events of a user with `after < pos ≤ upto` that aren't redacted, newest first, at most `most`, of the
    /// last `looked_at` events that the room has there; and up to where to go on, if that isn't all.
    pub async fn said_by(
        &self,
        room: RoomNo,
        sender: &UserId,
        (after, upto): (Pos, Pos),
        (looked_at, most): (usize, usize),
    ) -> Result<(Vec<Arc<StoredEvent>>, Option<Pos>)> {
        let after = after.0.max(0);
        let query = self
            .sql(
                "SELECT ord FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND ord > $2 AND ord <= $3 ORDER BY ord DESC LIMIT 1 OFFSET $4",
            )
            .bind(room)
            .bind(after)
            .bind(upto)
            .bind(looked_at.saturating_sub(1));
        let row = self.row(query).await?;
        let begin: Option<i64> = row.map(|row| row.get("ord")).transpose()?;
        let pattern = pattern(sender);
        // No column says who sent an event; where its text has the sender somewhere, it is looked at.
        let query = self
            .sql(
                "SELECT no, ord FROM event WHERE room = $1 AND ord IS NOT NULL AND ord > $2 AND ord <= $3 \
                 AND redacted_by IS NULL AND json LIKE $4 ESCAPE '!' ORDER BY ord DESC LIMIT $5",
            )
            .bind(room)
            .bind(begin.map_or(after, |begin| begin - 1))
            .bind(upto)
            .bind(pattern.as_str())
            .bind(most);
        let rows = self.rows(query).await?;
        let nos: Vec<EventNo> = rows
            .iter()
            .map(|row| row.get("no"))
            .collect::<Result<_>>()?;
        let last = rows.last().filter(|_| rows.len() >= most);
        let last: Option<i64> = last.map(|row| row.get("ord")).transpose()?;
        let next = last.or(begin).map(|at| Pos(at - 1));
        let mut events = self.events_by_no(&nos).await?;
        events.retain(|event| event.pdu.sender() == sender);
        Ok((events, next))
    }
}

/// What a text of JSON is like that says of a user that they sent it.
pub(super) fn pattern(sender: &UserId) -> String {
    let text = serde_json::json!(sender).to_string();
    format!("%\"sender\":{}%", literally(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_in_a_name_are_none() {
        let user = <&UserId>::try_from("@a_b:here").unwrap();
        assert_eq!(pattern(user), "%\"sender\":\"@a!_b:here\"%");
    }
}
