//! Whose messages a user doesn't want to see (client-server API, "Ignoring users"), remembered so
//! that a warm pass reads nothing for it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use rhizome_storage::{AccountData, EntryKind, Logged, Pos, Store, UserNo};
use ruma::OwnedUserId;

use super::window::Window;
use crate::MatrixError;

/// The account data that holds the list.
const KIND: &str = "m.ignored_user_list";

/// Users remembered; beyond it all are forgotten.
const MAX_USERS: usize = 20_000;

type List = Arc<HashSet<OwnedUserId>>;

/// The lists by user, each with the position as of which it is true.
#[derive(Default, Debug)]
pub struct Ignored(Mutex<HashMap<UserNo, (Pos, List)>>);

impl Ignored {
    /// The user's list at `upto`. `window` is what happened after `after`.
    pub async fn of(
        &self,
        store: &Store,
        user: UserNo,
        after: Option<Pos>,
        upto: Pos,
        window: &Window,
    ) -> Result<List, MatrixError> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&user)
            .cloned();
        let list = match known {
            Some((as_of, list)) if unchanged(store, user, as_of, after, upto, window) => list,
            _ => Arc::new(parse(
                store.account_data(user, None, KIND).await?.as_deref(),
            )),
        };
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= MAX_USERS {
            lists.clear();
        }
        lists.insert(user, (upto, list.clone()));
        Ok(list)
    }
}

/// Whether the list that was true at `as_of` is true at `upto`.
fn unchanged(
    store: &Store,
    user: UserNo,
    as_of: Pos,
    after: Option<Pos>,
    upto: Pos,
    window: &Window,
) -> bool {
    if as_of >= upto {
        // A list from later may hold less than the reader's moment; only a moment's difference.
        return true;
    }
    if after.is_some_and(|after| after <= as_of) {
        return !window.account_data.iter().any(|data| data.kind == KIND);
    }
    let changes = |kind: &EntryKind| matches!(kind, EntryKind::AccountData(data) if data.user == user && data.room.is_none() && data.kind == KIND);
    store
        .log()
        .tail(as_of, upto)
        .is_some_and(|entries| !entries.iter().any(|entry| changes(&entry.kind)))
}

fn parse(data: Option<&Logged<AccountData>>) -> HashSet<OwnedUserId> {
    let content: Option<serde_json::Value> =
        data.and_then(|data| serde_json::from_str(&data.content).ok());
    let users = content
        .as_ref()
        .and_then(|content| content.get("ignored_users")?.as_object());
    users
        .map(|users| {
            users
                .keys()
                .filter_map(|user| user.as_str().try_into().ok())
                .collect()
        })
        .unwrap_or_default()
}

/// A user's list, read from the database.
pub async fn read(store: &Store, user: UserNo) -> Result<HashSet<OwnedUserId>, MatrixError> {
    Ok(parse(
        store.account_data(user, None, KIND).await?.as_deref(),
    ))
}
