//! Who is typing (MSC3961).

use ruma::{OwnedRoomId, OwnedUserId};

use super::Context;
use crate::{
    sync::{
        pieces,
        sliding::{request::extensions::Scope, wants::How},
    },
    view::json::Json,
};
use rhizome_protocol::Membership;

/// Who is typing, by room.
pub type Typing = Rooms<Vec<OwnedUserId>>;

/// Something of each of some rooms.
#[derive(Debug)]
pub struct Rooms<T>(pub Vec<(OwnedRoomId, T)>);

impl<T> Default for Rooms<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Rooms<T> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes `{"rooms": {…}}`.
    pub fn write_each(&self, json: &mut Json, each: impl Fn(&mut Json, &T)) {
        json.open().key("rooms").open();
        for (room, of) in &self.0 {
            each(json.key(room.as_str()), of);
        }
        json.close().close();
    }
}

/// Who types, where that has changed.
pub fn read(context: &Context<'_>, scope: &Scope) -> Typing {
    let loader = context.loader;
    let mut rooms = Vec::new();
    for (pick, id) in context.rooms(scope) {
        if pick.row.membership != Membership::Join {
            continue;
        }
        let (changed, mut users) = loader.store.ephemeral().typing(pick.row.room);
        users.retain(|user| !loader.ignored.contains(user));
        let is_news = match (pick.how, pick.told.and_then(|told| told.upto)) {
            (How::Whole, _) => !users.is_empty(),
            (How::Since(_), None) => changed.exceeds(&loader.heard),
            // What was told of it then, nobody knows.
            (How::Since(_), Some(_)) => !changed.is_empty(),
        };
        if is_news {
            rooms.push((id.clone(), users));
        }
    }
    Rooms(rooms)
}

impl Typing {
    /// Writes it.
    pub fn write(&self, json: &mut Json) {
        self.write_each(json, |json, users| pieces::typing(json, users));
    }
}
