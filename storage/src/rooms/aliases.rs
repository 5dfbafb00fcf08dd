//! Aliases of this server. They are made in a commit ([`crate::Fact::Alias`]).

use ruma::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId};

use crate::engine::db::Columns as _;
use crate::engine::dialect::escaped;
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
            .bind(escaped(alias.as_str()).into_owned());
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(StoredAlias {
            room: RoomNo(row.int(0)?),
            room_id: row.id(1)?,
            creator: UserNo(row.int(2)?),
        }))
    }

    /// The aliases of this server that lead to a room, in order.
    pub async fn aliases_of(&self, room: RoomNo) -> Result<Vec<OwnedRoomAliasId>> {
        let query = self
            .sql("SELECT alias FROM room_alias WHERE room = $1 ORDER BY alias")
            .bind(room.0);
        self.rows(query)
            .await?
            .iter()
            .map(|row| row.id(0))
            .collect()
    }

    /// Removes an alias; `false` if there was none.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<bool> {
        let query = self
            .sql("DELETE FROM room_alias WHERE alias = $1")
            .bind(escaped(alias.as_str()).into_owned());
        Ok(self.execute(query).await? == 1)
    }
}
