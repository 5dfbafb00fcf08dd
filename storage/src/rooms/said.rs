//! What somebody has said in a room.

use std::sync::Arc;

use ruma::UserId;

use crate::engine::db::literally;
use crate::engine::sql::Columns as _;
use crate::{EventNo, Pos, Result, RoomNo, Store, StoredEvent};

impl Store {
    /// The oldest live events of a user with `after < pos ≤ upto` that aren't redacted, at most `most`, of the first
    /// `looked_at` events that the room has there; and where to go on, if that isn't all.
    pub async fn said_by(
        &self,
        room: RoomNo,
        sender: &UserId,
        (after, upto): (Pos, Pos),
        (looked_at, most): (usize, usize),
    ) -> Result<(Vec<Arc<StoredEvent>>, Option<Pos>)> {
        let query = self
            .sql(
                "SELECT ord FROM event WHERE room = $1 AND ord IS NOT NULL \
                 AND ord > $2 AND ord <= $3 ORDER BY ord LIMIT 1 OFFSET $4",
            )
            .bind(room)
            .bind(after.0.max(0))
            .bind(upto)
            .bind(looked_at.saturating_sub(1));
        let row = self.row(query).await?;
        let end: Option<Pos> = row.map(|row| row.get("ord")).transpose()?;
        let pattern = pattern(sender);
        // No column says who sent an event; where its text has the sender somewhere, it is looked at.
        let query = self
            .sql(
                "SELECT no FROM event WHERE room = $1 AND ord IS NOT NULL AND ord > $2 AND ord <= $3 \
                 AND redacted_by IS NULL AND json LIKE $4 ESCAPE '!' ORDER BY ord LIMIT $5",
            )
            .bind(room)
            .bind(after.0.max(0))
            .bind(end.unwrap_or(upto))
            .bind(pattern.as_str())
            .bind(most);
        let rows = self.rows(query).await?;
        let nos: Vec<EventNo> = rows
            .iter()
            .map(|row| row.get("no"))
            .collect::<Result<_>>()?;
        let mut events = self.events_by_no(&nos).await?;
        let last = events.last().filter(|_| nos.len() >= most);
        let next = last.and_then(|last| last.pos()).or(end);
        events.retain(|event| event.pdu.sender() == sender);
        Ok((events, next))
    }
}

/// What a text of JSON is like that says of a user that they sent it.
fn pattern(sender: &UserId) -> String {
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
