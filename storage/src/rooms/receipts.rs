//! Read receipts: the newest per (room, user, kind, thread), at the position where it moved last.

use std::sync::Arc;

use sqlx::any::AnyRow;

use crate::engine::db::{Columns as _, json_numbers};
use crate::{Pos, Receipt, Result, RoomNo, Store, UserNo};

impl Store {
    /// The room's receipts that moved with `after < pos ≤ upto`, ascending by position.
    pub async fn receipts_in(
        &self,
        room: RoomNo,
        after: Pos,
        upto: Pos,
    ) -> Result<Vec<Arc<Receipt>>> {
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE room = $1 AND pos > $2 AND pos <= $3 ORDER BY pos",
            )
            .bind(room.0)
            .bind(after.0)
            .bind(upto.0);
        self.rows(query).await?.iter().map(receipt).collect()
    }

    /// All receipts in these rooms up to a position, room by room.
    pub async fn receipts_in_rooms(
        &self,
        rooms: &[RoomNo],
        upto: Pos,
    ) -> Result<Vec<Arc<Receipt>>> {
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE room IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1)) AND pos <= $2 \
                 ORDER BY room, pos",
            )
            .bind(json_numbers(rooms.iter().map(|room| room.0)))
            .bind(upto.0);
        self.rows(query).await?.iter().map(receipt).collect()
    }

    /// A user's receipts in a room.
    pub async fn receipts_of(&self, room: RoomNo, user: UserNo) -> Result<Vec<Arc<Receipt>>> {
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE room = $1 AND user_no = $2 ORDER BY pos",
            )
            .bind(room.0)
            .bind(user.0);
        self.rows(query).await?.iter().map(receipt).collect()
    }

    pub(crate) async fn receipts_at(&self, positions: String) -> Result<Vec<Arc<Receipt>>> {
        let query = self
            .sql(
                "SELECT pos, room, user_no, kind, thread, event_id, ts FROM receipt \
                 WHERE pos IN (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
            )
            .bind(positions);
        self.rows(query).await?.iter().map(receipt).collect()
    }
}

fn receipt(row: &AnyRow) -> Result<Arc<Receipt>> {
    Ok(Arc::new(Receipt {
        pos: Pos(row.int(0)?),
        room: RoomNo(row.int(1)?),
        user: UserNo(row.int(2)?),
        kind: row.text(3)?,
        thread: Some(row.text(4)?).filter(|thread| !thread.is_empty()),
        event_id: row.id(5)?,
        ts: row.int(6)?,
    }))
}
