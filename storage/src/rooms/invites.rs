//! Invites to rooms that this server is not in, and knocks on them.

use std::sync::Arc;

use rhizome_protocol::RoomRules;
use ruma::{OwnedUserId, ServerName};

use crate::engine::db::Columns as _;
use crate::rooms::events::rules;
use crate::{Pos, Result, RoomNo, Store, UserNo};

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
                "SELECT COUNT(*), COUNT(CASE WHEN user_name.server = $2 THEN 1 END) \
                 FROM invite JOIN user_name ON user_name.no = invite.sender \
                 WHERE invite.user_no = $1 AND invite.gone = 0 AND invite.sender <> $1",
            )
            .bind(user.0)
            .bind(server.first().map(|server| server.0));
        let row = self.row(query).await?;
        let count = |index| -> Result<usize> {
            let count = row.as_ref().map(|row| row.int(index)).transpose()?;
            Ok(count
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(0))
        };
        Ok(PendingInvites {
            all: count(0)?,
            of_server: count(1)?,
        })
    }

    /// The invite or knock, unless it is gone.
    pub async fn remote_invite(&self, user: UserNo, room: RoomNo) -> Result<Option<RemoteInvite>> {
        self.invite(user, room, false).await
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
            .bind(user.0)
            .bind(room.0)
            .bind(i64::from(gone));
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(RemoteInvite {
            user,
            room,
            sender: self.user(UserNo(row.int(0)?)).await?,
            rules: rules(Some(&row.raw(1)?))?,
            event: row.text(2)?.into(),
            stripped_state: row.text(3)?.into(),
            pos: Pos(row.int(4)?),
        }))
    }
}
