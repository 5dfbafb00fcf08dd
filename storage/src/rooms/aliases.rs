//! Aliases of this server. They are made in a commit ([`crate::Fact::Alias`]).

use ruma::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId};

use crate::engine::sql::Columns as _;
use crate::{Result, RoomNo, Store, UserNo};

/// Where an alias leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlias {
    /// The room.
    pub room: RoomNo,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Who made the alias.
    pub creator: UserNo,
}

impl Store {
    /// Where an alias of this server leads.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<StoredAlias>> {
        let query = self
            .sql(
                "SELECT a.room, r.room_id, a.creator FROM room_alias a \
                 JOIN room r ON r.no = a.room WHERE a.alias = $1",
            )
            .bind(alias);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(StoredAlias {
            room: row.get("room")?,
            room_id: row.get("room_id")?,
            creator: row.get("creator")?,
        }))
    }

    /// The aliases of this server that lead to a room, in order.
    pub async fn aliases_of(&self, room: RoomNo) -> Result<Vec<OwnedRoomAliasId>> {
        let query = self
            .sql("SELECT alias FROM room_alias WHERE room = $1 ORDER BY alias")
            .bind(room);
        self.rows(query)
            .await?
            .iter()
            .map(|row| row.get("alias"))
            .collect()
    }

    /// The aliases of this server that lead to some rooms.
    pub async fn aliases_of_rooms(
        &self,
        rooms: &[RoomNo],
    ) -> Result<Vec<(RoomNo, OwnedRoomAliasId)>> {
        let query = self
            .sql("SELECT room, alias FROM room_alias WHERE room IN NUMBERS($1) ORDER BY alias")
            .numbers(rooms.iter().copied());
        let rows = self.rows(query).await?;
        let rows = rows.iter();
        rows.map(|row| Ok((row.get("room")?, row.get("alias")?)))
            .collect()
    }
}
