//! Invites to rooms that this server is not in.

use std::sync::Arc;

use rhizome_protocol::RoomRules;
use ruma::OwnedUserId;

use crate::{Pos, Result, RoomNo, Store, UserNo};

/// An invite from outside.
#[derive(Debug, Clone)]
pub struct RemoteInvite {
    /// Who is invited.
    pub user: UserNo,
    /// To which room.
    pub room: RoomNo,
    /// Who invites.
    pub sender: OwnedUserId,
    /// The room's version.
    pub rules: &'static RoomRules,
    /// The invite event's JSON.
    pub event: Arc<str>,
    /// The stripped state: the text of a JSON array.
    pub stripped_state: Arc<str>,
    /// When it came or went.
    pub pos: Pos,
}

impl Store {
    /// The invite, unless it is gone.
    pub async fn remote_invite(&self, _user: UserNo, _room: RoomNo) -> Result<Option<RemoteInvite>> {
        unimplemented!()
    }
}
