//! Joined members of many rooms at once.

use super::members::member;
use crate::engine::sql::{Columns as _, rows};
use crate::{Member, Result, RoomNo, Store, UserNo};

impl Store {
    /// The first `limit` joined members of these rooms, each with a number after the one that is given, in the order of the
    /// rooms and of the numbers.
    pub async fn joined_from(
        &self,
        rooms: &[(RoomNo, UserNo)],
        limit: usize,
    ) -> Result<Vec<(RoomNo, Member)>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<_> = (0..)
            .zip(rooms)
            .map(|(place, (room, after))| From {
                place,
                room: *room,
                after: *after,
            })
            .collect();
        let query = self
            .sql(
                "SELECT m.room, m.user_no, m.membership, m.event FROM ROWS($1) AS x \
                 JOIN membership m ON m.room = x.room AND m.membership = 1 AND m.user_no > x.after \
                 ORDER BY x.place, m.user_no LIMIT $2",
            )
            .rows(&asked)
            .bind(limit);
        let rows = self.rows(query).await?;
        let each = rows.iter().map(|row| Ok((row.get("room")?, member(row)?)));
        each.collect()
    }

    /// Those of these users who are joined to the room that each is asked of.
    pub async fn joined_among(&self, asked: &[(RoomNo, UserNo)]) -> Result<Vec<(RoomNo, Member)>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<_> = (asked.iter())
            .map(|(room, user_no)| Place {
                room: *room,
                user_no: *user_no,
            })
            .collect();
        let query = self
            .sql(
                "SELECT m.room, m.user_no, m.membership, m.event FROM ROWS($1) AS x \
                 JOIN membership m ON m.user_no = x.user_no AND m.room = x.room \
                 WHERE m.membership = 1",
            )
            .rows(&asked);
        let rows = self.rows(query).await?;
        let each = rows.iter().map(|row| Ok((row.get("room")?, member(row)?)));
        each.collect()
    }
}

rows! {
    struct Place {
        room: RoomNo,
        user_no: UserNo,
    }
}

rows! {
    struct From {
        place: i64,
        room: RoomNo,
        after: UserNo,
    }
}
