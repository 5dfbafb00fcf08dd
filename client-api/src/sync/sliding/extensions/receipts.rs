//! Receipts (MSC3960).

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::Membership;
use rhizome_storage::{Logged, Receipt, RoomNo};
use ruma::OwnedUserId;

use super::{Context, typing::Rooms};
use crate::{
    MatrixError,
    sync::{
        sliding::{request::extensions::Scope, wants::How},
        write,
    },
    view::json::Json,
};

/// Receipts with their users, by room.
pub type Receipts = Rooms<Vec<(OwnedUserId, Arc<Logged<Receipt>>)>>;

/// The receipts that moved. Of a room that is told as a whole those at the events that are shown, and the user's own: all
/// would be as many as it has members.
pub async fn read(context: &Context<'_>, scope: &Scope) -> Result<Receipts, MatrixError> {
    let loader = context.loader;
    let joined = |pick: &super::Pick<'_>| pick.row.membership == Membership::Join;
    let whole = context
        .rooms(scope)
        .filter(|(pick, _)| joined(pick) && pick.how == How::Whole);
    let whole: Vec<RoomNo> = whole.map(|(pick, _)| pick.row.room).collect();
    let shown = whole
        .iter()
        .filter_map(|room| context.shown.get(room))
        .flatten();
    let shown: Vec<&ruma::EventId> = shown.copied().collect();
    let mut all: HashMap<RoomNo, Vec<Arc<Logged<Receipt>>>> = HashMap::new();
    if !whole.is_empty() {
        let (user, upto) = (loader.viewer.user, loader.upto);
        for receipt in loader.store.receipts_at(&whole, user, &shown, upto).await? {
            all.entry(receipt.room).or_default().push(receipt);
        }
    }
    let mut rooms = Vec::new();
    for (pick, id) in context.rooms(scope).filter(|(pick, _)| joined(pick)) {
        let room = pick.row.room;
        let moved = match pick.how {
            How::Whole => all.remove(&room).unwrap_or_default(),
            How::Since(_) => context
                .window(room)
                .map(|window| window.receipts.clone())
                .unwrap_or_default(),
        };
        let mut receipts = Vec::new();
        for receipt in moved {
            // Private receipts are their owner's alone.
            if receipt.kind != "m.read" && receipt.user != loader.viewer.user {
                continue;
            }
            let user = loader.store.user(receipt.user).await?;
            if !loader.ignored.contains(&user) {
                receipts.push((user, receipt));
            }
        }
        if !receipts.is_empty() {
            rooms.push((id.clone(), receipts));
        }
    }
    Ok(Rooms(rooms))
}

impl Receipts {
    /// Writes it.
    pub fn write(&self, json: &mut Json) {
        self.write_each(json, |json, receipts| write::receipts(json, receipts));
    }
}
