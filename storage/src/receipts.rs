//! Read receipts.

use std::sync::Arc;

use crate::{Pos, Receipt, Result, RoomNo, Store, UserNo};

impl Store {
    /// The room's receipts that moved with `after < pos ≤ upto`, ascending by position.
    pub async fn receipts_in(&self, _room: RoomNo, _after: Pos, _upto: Pos) -> Result<Vec<Arc<Receipt>>> {
        unimplemented!()
    }
    /// A user's receipts in a room.
    pub async fn receipts_of(&self, _room: RoomNo, _user: UserNo) -> Result<Vec<Arc<Receipt>>> {
        unimplemented!()
    }
}
