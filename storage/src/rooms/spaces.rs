//! What is looked up of many rooms at once, to tell what a space holds.

use rhizome_protocol::Membership;
use ruma::ServerName;

use crate::engine::sql::Columns as _;
use crate::{EventNo, Result, RoomNo, Store};

impl Store {
    /// The entries of these rooms' current states that name children of spaces, the newest of each: at most `of_one`
    /// of each room and `most` in all, in which each room has the same share. Each comes with its room.
    pub async fn space_children(
        &self,
        rooms: &[RoomNo],
        of_one: usize,
        most: usize,
    ) -> Result<Vec<(RoomNo, EventNo)>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                // Crossed, so that SQLite begins with the rooms and not with all children that there are.
                "SELECT room, event FROM (SELECT c.room, c.event, ROW_NUMBER() OVER (\
                 PARTITION BY c.room ORDER BY c.event DESC) AS place \
                 FROM current_state c CROSS JOIN state_key k \
                 WHERE k.no = c.state_key AND c.room IN NUMBERS($1) AND c.member = 0 \
                 AND k.kind = 'm.space.child') AS x \
                 WHERE place <= $2 ORDER BY place, event LIMIT $3",
            )
            .numbers(rooms.iter().copied())
            .bind(of_one)
            .bind(most);
        let rows = self.rows(query).await?;
        let each = rows
            .iter()
            .map(|row| Ok((row.get("room")?, row.get("event")?)));
        each.collect()
    }

    /// Those of these rooms in which the server has a joined user.
    pub async fn rooms_with_server(
        &self,
        server: &ServerName,
        rooms: &[RoomNo],
    ) -> Result<Vec<RoomNo>> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT room FROM room_server \
                 WHERE room IN NUMBERS($1) AND server = $2 AND joined > 0",
            )
            .numbers(rooms.iter().copied())
            .bind(server);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }

    /// Those of these rooms to which a user of the server is invited.
    pub async fn rooms_inviting(
        &self,
        server: &ServerName,
        rooms: &[RoomNo],
    ) -> Result<Vec<RoomNo>> {
        let Some(server) = self.known_server(server).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT DISTINCT m.room FROM membership m JOIN user_name u ON u.no = m.user_no \
                 WHERE m.room IN NUMBERS($1) AND m.membership = $2 AND u.server = $3",
            )
            .numbers(rooms.iter().copied())
            .bind(Membership::Invite)
            .bind(server);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("room")).collect()
    }
}
