//! Names and their numbers.

use std::sync::Arc;

use rhizome_protocol::StateKey;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};

use crate::{KeyNo, Result, RoomNo, ServerNo, Store, UserNo};

impl Store {
    /// The user's number, given now if they have none.
    pub async fn user_no(&self, _user: &UserId) -> Result<UserNo> {
        unimplemented!()
    }
    /// The users' numbers, in their order, given now where they have none.
    pub async fn user_nos(&self, _users: &[&UserId]) -> Result<Vec<UserNo>> {
        unimplemented!()
    }
    /// The user's number, if they have one.
    pub async fn known_user(&self, _user: &UserId) -> Result<Option<UserNo>> {
        unimplemented!()
    }
    /// The users with these numbers, in their order. A number that was never given is an error.
    pub async fn users(&self, _nos: &[UserNo]) -> Result<Vec<OwnedUserId>> {
        unimplemented!()
    }
    /// The user with this number.
    pub async fn user(&self, _no: UserNo) -> Result<OwnedUserId> {
        unimplemented!()
    }
    /// The number of an entry of states, given now if it has none.
    pub async fn key_no(&self, _kind: &str, _state_key: &str) -> Result<KeyNo> {
        unimplemented!()
    }
    /// The numbers of these, in their order, given now where they have none.
    pub async fn key_nos(&self, _keys: &[(&str, &str)]) -> Result<Vec<KeyNo>> {
        unimplemented!()
    }
    /// The number, if the entry has one: without, no state has it.
    pub async fn known_key(&self, _kind: &str, _state_key: &str) -> Result<Option<KeyNo>> {
        unimplemented!()
    }
    /// The entry with this number.
    pub async fn key(&self, _no: KeyNo) -> Result<Arc<StateKey>> {
        unimplemented!()
    }
    /// The entries with these numbers, in their order.
    pub async fn keys(&self, _nos: &[KeyNo]) -> Result<Vec<Arc<StateKey>>> {
        unimplemented!()
    }
    /// The servers' numbers, in their order, given now where they have none.
    pub async fn server_nos(&self, _servers: &[&ServerName]) -> Result<Vec<ServerNo>> {
        unimplemented!()
    }
    /// The servers with these numbers, in their order.
    pub async fn servers(&self, _nos: &[ServerNo]) -> Result<Vec<OwnedServerName>> {
        unimplemented!()
    }
    /// The room's number, given now if it has none: for rooms that we hear of. A room of our own
    /// gets [`Store::next_room_no`].
    pub async fn room_no(&self, _room: &RoomId) -> Result<RoomNo> {
        unimplemented!()
    }
    /// The room's number, if it has one.
    pub async fn known_room(&self, _room: &RoomId) -> Result<Option<RoomNo>> {
        unimplemented!()
    }
    /// The id of the room with this number.
    pub async fn room_id(&self, _no: RoomNo) -> Result<OwnedRoomId> {
        unimplemented!()
    }
}
