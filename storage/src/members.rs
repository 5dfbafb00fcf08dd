//! Who is where.

use std::sync::Arc;

use rhizome_protocol::Membership;
use ruma::{OwnedServerName, ServerName};

use crate::{EventNo, Pos, Result, RoomNo, Store, UserNo};

/// A user's membership in a room, seen from the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipRow {
    /// The room.
    pub room: RoomNo,
    /// What it is.
    pub membership: Membership,
    /// The member event; `None` for an invite to a room that we aren't in.
    pub event: Option<EventNo>,
    /// When the member event became current.
    pub pos: Pos,
    /// When it became this membership: a change of profile doesn't move it.
    pub since: Pos,
    /// Whether the user has forgotten the room.
    pub forgotten: bool,
}

/// A member, seen from the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserNo,
    /// What.
    pub membership: Membership,
    /// The member event.
    pub event: Option<EventNo>,
}

/// How many members a room has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberCounts {
    /// Joined.
    pub joined: i64,
    /// Invited.
    pub invited: i64,
}

impl Store {
    /// The user's memberships in all rooms, cached while they don't change.
    pub async fn memberships_of(&self, _user: UserNo) -> Result<Arc<[MembershipRow]>> {
        unimplemented!()
    }
    /// The user's membership in one room.
    pub async fn membership(&self, _user: UserNo, _room: RoomNo) -> Result<Option<MembershipRow>> {
        unimplemented!()
    }
    /// The room's members with this membership, or all, by user number.
    pub async fn members(
        &self,
        _room: RoomNo,
        _membership: Option<Membership>,
    ) -> Result<Vec<Member>> {
        unimplemented!()
    }
    /// How many members the room has now.
    pub async fn member_counts(&self, _room: RoomNo) -> Result<MemberCounts> {
        unimplemented!()
    }
    /// The first `count` joined or invited members besides `except`, by user number; if there are none,
    /// those who left or are banned.
    pub async fn heroes(&self, _room: RoomNo, _except: UserNo, _count: usize) -> Result<Vec<Member>> {
        unimplemented!()
    }
    /// The servers with joined members.
    pub async fn joined_servers(&self, _room: RoomNo) -> Result<Arc<[OwnedServerName]>> {
        unimplemented!()
    }
    /// The rooms in which the server has a joined member.
    pub async fn rooms_of_server(&self, _server: &ServerName) -> Result<Vec<RoomNo>> {
        unimplemented!()
    }
    /// The users who share a room (both joined) with `user`.
    pub async fn users_sharing_rooms(&self, _user: UserNo) -> Result<Vec<UserNo>> {
        unimplemented!()
    }
}
