//! Guests (client-server API, "Guest Access").

use crate::engine::sql::Columns as _;
use crate::{Result, RoomNo, Store, UserNo};

impl Store {
    /// Guests who are joined to a room, at most `most`.
    pub async fn guests_in(&self, room: RoomNo, most: usize) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT m.user_no FROM guest g JOIN membership m ON m.user_no = g.user_no \
                 WHERE m.room = $1 AND m.membership = 1 ORDER BY m.user_no LIMIT $2",
            )
            .bind(room)
            .bind(most);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}
