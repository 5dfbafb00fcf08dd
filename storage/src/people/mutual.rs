//! Rooms in which two people are.

use crate::engine::sql::Columns as _;
use crate::{Result, RoomNo, Store, UserNo};

impl Store {
    /// The rooms to which both are joined, by their number.
    pub async fn mutual_rooms(&self, one: UserNo, other: UserNo) -> Result<Vec<RoomNo>> {
        let query = self
            .sql(
                "SELECT a.room FROM membership a \
                 JOIN membership b ON b.user_no = $2 AND b.room = a.room AND b.membership = 1 \
                 WHERE a.user_no = $1 AND a.membership = 1 ORDER BY a.room",
            )
            .bind(one)
            .bind(other);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }
}
