//! Invites to rooms that this server is not in, and knocks on them.

use std::sync::Arc;

use rhizome_protocol::RoomRules;
use ruma::{OwnedUserId, ServerName};

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Error, Pos, Result, RoomNo, Store, UserNo};

/// An invite from outside, or a knock on a room outside.
#[derive(Debug, Clone)]
pub struct RemoteInvite {
    /// Who is invited, or knocks.
    pub user: UserNo,
    /// To which room.
    pub room: RoomNo,
    /// Who invites; of a knock, the user.
    pub sender: OwnedUserId,
    /// The room's version.
    pub rules: &'static RoomRules,
    /// The invite's or knock's JSON; of one that is gone, what ended it.
    pub event: Arc<str>,
    /// The stripped state: the text of a JSON array; empty of one that is gone.
    pub stripped_state: Arc<str>,
    /// When it came.
    pub pos: Pos,
}

/// How many invites from outside wait for a user's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingInvites {
    /// Of all servers.
    pub all: usize,
    /// Of the one that was asked about.
    pub of_server: usize,
}

impl Store {
    /// How many invites wait for a user's answer, all and those by users of `server`. Knocks don't count.
    pub async fn pending_invites(
        &self,
        user: UserNo,
        server: &ServerName,
    ) -> Result<PendingInvites> {
        let server = self.server_nos(&[server]).await?;
        // `gone = 0` stands there as it does in the index.
        let query = self
            .sql(
                "SELECT COUNT(*) AS pending, \
                 COUNT(CASE WHEN user_name.server = $2 THEN 1 END) AS of_server \
                 FROM invite JOIN user_name ON user_name.no = invite.sender \
                 WHERE invite.user_no = $1 AND invite.gone = 0 AND invite.sender <> $1",
            )
            .bind(user)
            .bind(server.first().copied());
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("a count has no row"))?;
        Ok(PendingInvites {
            all: row.get("pending")?,
            of_server: row.get("of_server")?,
        })
    }

    /// The invite or knock, unless it is gone.
    pub async fn remote_invite(&self, user: UserNo, room: RoomNo) -> Result<Option<RemoteInvite>> {
        self.invite(user, room, false).await
    }

    /// All of a user's invites and knocks that aren't gone.
    pub async fn remote_invites(&self, user: UserNo) -> Result<Vec<RemoteInvite>> {
        let query = self
            .sql(
                "SELECT room, sender, version, event, stripped_state, pos FROM invite \
                 WHERE user_no = $1 AND gone = 0",
            )
            .bind(user);
        let mut invites = Vec::new();
        for row in self.rows(query).await? {
            invites.push(self.read_invite(user, row.get("room")?, &row).await?);
        }
        Ok(invites)
    }

    /// An invite that is gone, with the event that ended it: the user rejected it, or it was taken back.
    pub async fn ended_remote_invite(
        &self,
        user: UserNo,
        room: RoomNo,
    ) -> Result<Option<RemoteInvite>> {
        self.invite(user, room, true).await
    }

    async fn invite(&self, user: UserNo, room: RoomNo, gone: bool) -> Result<Option<RemoteInvite>> {
        let query = self
            .sql(
                "SELECT sender, version, event, stripped_state, pos FROM invite \
                 WHERE user_no = $1 AND room = $2 AND gone = $3",
            )
            .bind(user)
            .bind(room)
            .bind(gone);
        match self.row(query).await? {
            Some(row) => Ok(Some(self.read_invite(user, room, &row).await?)),
            None => Ok(None),
        }
    }

    async fn read_invite(&self, user: UserNo, room: RoomNo, row: &ReadRow) -> Result<RemoteInvite> {
        Ok(RemoteInvite {
            user,
            room,
            sender: self.user(row.get("sender")?).await?,
            rules: row.get("version")?,
            event: row.get("event")?,
            stripped_state: row.get("stripped_state")?,
            pos: row.get("pos")?,
        })
    }
}
