//! Account data, global and of rooms (MSC3959).

use std::{collections::HashMap, sync::Arc};

use rhizome_storage::{AccountData as Data, Logged, RoomNo};

use super::{Context, typing::Rooms};
use crate::{
    MatrixError, account_data,
    sync::{
        sliding::{request::extensions::Scope, wants::How},
        write,
    },
    view::json::Json,
};

/// What is told of account data.
#[derive(Debug, Default)]
pub struct AccountData {
    global: Vec<Arc<Logged<Data>>>,
    rooms: Rooms<Vec<Arc<Logged<Data>>>>,
}

/// What changed; of rooms that are told as a whole, and to who begins, all.
pub async fn read(context: &Context<'_>, scope: &Scope) -> Result<AccountData, MatrixError> {
    let loader = context.loader;
    // Of these the window doesn't say it.
    let asked = context.rooms(scope).filter(|(pick, _)| {
        pick.how == How::Whole || pick.told.is_some_and(|told| told.upto.is_some())
    });
    let asked: Vec<RoomNo> = asked.map(|(pick, _)| pick.row.room).collect();
    let begins = loader.after.is_none();
    let mut of_rooms: HashMap<RoomNo, Vec<Arc<Logged<Data>>>> = HashMap::new();
    let mut global = Vec::new();
    if begins || !asked.is_empty() {
        let (user, upto) = (loader.viewer.user, loader.upto);
        for data in loader
            .store
            .account_data_of(user, &asked, begins, upto)
            .await?
        {
            match data.room {
                Some(room) => of_rooms.entry(room).or_default().push(data),
                None => global.push(data),
            }
        }
    }
    if begins {
        // Read once, by whoever comes first.
        let _ = loader.all_account_data.set(global);
    }
    let global = loader.global_account_data(context.window).await?;
    let mut rooms = Vec::new();
    for (pick, id) in context.rooms(scope) {
        let room = pick.row.room;
        let mut data = match of_rooms.remove(&room) {
            Some(data) => data,
            None if asked.contains(&room) => Vec::new(),
            None => context
                .window(room)
                .map(|window| window.account_data.clone())
                .unwrap_or_default(),
        };
        match pick.how {
            How::Whole => data.retain(|data| account_data::stands(data)),
            How::Since(after) => data.retain(|data| data.pos > after),
        }
        if !data.is_empty() {
            rooms.push((id.clone(), data));
        }
    }
    Ok(AccountData {
        global,
        rooms: Rooms(rooms),
    })
}

impl AccountData {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.global.is_empty() && self.rooms.is_empty()
    }

    /// Writes it.
    pub fn write(&self, json: &mut Json) {
        json.open();
        if !self.global.is_empty() {
            write::account_data_list(json.key("global"), &self.global);
        }
        if !self.rooms.is_empty() {
            json.key("rooms").open();
            for (room, data) in &self.rooms.0 {
                write::account_data_list(json.key(room.as_str()), data);
            }
            json.close();
        }
        json.close();
    }
}
