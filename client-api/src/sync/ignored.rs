//! Whose messages and invites users don't want to see, remembered so that a warm pass reads nothing for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rhizome_storage::{EntryKind, Pos, Store, UserNo};

use super::window::Window;
use crate::{
    MatrixError,
    view::ignored::{self, Unwanted, is_of},
};

/// Users remembered; beyond it all are forgotten.
const MAX_USERS: usize = 20_000;

type List = Arc<Unwanted>;

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
            Some((as_of, list)) if unchanged(store, user, as_of, after, upto, window) => {
                list.with_blocks(store).await?
            }
            _ => Arc::new(ignored::read(store, user).await?),
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
        return !window.account_data.iter().any(|data| is_of(data));
    }
    let changes = |kind: &EntryKind| matches!(kind, EntryKind::AccountData(data) if data.user == user && is_of(data));
    store
        .log()
        .tail(as_of, upto)
        .is_some_and(|entries| !entries.iter().any(|entry| changes(&entry.kind)))
}
