//! Account data.

use std::sync::Arc;

use crate::{AccountData, Pos, Result, RoomNo, Store, UserNo};

impl Store {
    /// One type of the user's account data, of a room or global.
    pub async fn account_data(
        &self,
        _user: UserNo,
        _room: Option<RoomNo>,
        _kind: &str,
    ) -> Result<Option<Arc<AccountData>>> {
        unimplemented!()
    }
    /// All of the user's account data, of rooms and global, that changed with `after < pos ≤ upto`.
    pub async fn account_data_since(
        &self,
        _user: UserNo,
        _after: Pos,
        _upto: Pos,
    ) -> Result<Vec<Arc<AccountData>>> {
        unimplemented!()
    }
}
