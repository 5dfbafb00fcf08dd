//! Changes of subscriptions to threads, as the list of them and sliding sync tell them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rhizome_storage::{Logged, Pos, Store, ThreadSubscription};
use ruma::{EventId, OwnedRoomId};

use crate::{MatrixError, view::json::Json};

/// The most changes in one answer, and as many as there are if nobody says how many are wanted.
pub const MOST: usize = 100;

type Change = Arc<Logged<ThreadSubscription>>;

/// Changes of a user's subscriptions, each the last of its thread.
#[derive(Debug, Default)]
pub struct ThreadChanges {
    /// By room, newest first.
    rooms: BTreeMap<OwnedRoomId, Vec<Change>>,
    /// Changes up to here were left out.
    pub earlier: Option<Pos>,
}

impl ThreadChanges {
    /// The newest `limit` of a user's changes with `after < position ≤ upto`.
    pub async fn read(
        store: &Store,
        user: rhizome_storage::UserNo,
        (after, upto): (Pos, Pos),
        limit: usize,
    ) -> Result<Self, MatrixError> {
        let changes = store.thread_subscriptions(user, after, upto, limit + 1);
        Self::of(store, &changes.await?, limit).await
    }

    /// The first `limit` of these, which come newest first.
    pub async fn of(store: &Store, changes: &[Change], limit: usize) -> Result<Self, MatrixError> {
        let mut told = Self::default();
        for change in changes.iter().take(limit) {
            let room_id = store.room_id(change.room).await?;
            let rooms = told.rooms.entry(room_id).or_default();
            rooms.push(change.clone());
        }
        told.earlier = changes.get(limit).map(|next| next.pos);
        Ok(told)
    }

    /// The newest `limit` of these, which come in the order of the log and may be several of a thread.
    pub async fn newest(
        store: &Store,
        changes: &[Change],
        limit: usize,
    ) -> Result<Self, MatrixError> {
        let mut seen = BTreeSet::new();
        let mut last: Vec<Change> = changes.iter().rev().cloned().collect();
        last.retain(|change| seen.insert((change.room, change.thread.clone())));
        Self::of(store, &last, limit).await
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Writes them as members of an object, `earlier` with this key.
    pub fn write(&self, json: &mut Json, earlier: &str) {
        for (key, subscribed) in [("subscribed", true), ("unsubscribed", false)] {
            let mut rooms = (self.rooms.iter())
                .map(|(room_id, all)| {
                    let these = all.iter().filter(|one| one.subscribed == subscribed);
                    (room_id, these.peekable())
                })
                .filter_map(|(room_id, mut these)| {
                    these.peek().is_some().then_some((room_id, these))
                })
                .peekable();
            if rooms.peek().is_none() {
                continue;
            }
            json.key(key).open();
            for (room_id, changes) in rooms {
                json.key(room_id.as_str()).open();
                for change in changes {
                    let thread: &EventId = &change.thread;
                    json.key(thread.as_str()).open();
                    if subscribed {
                        json.key("automatic").boolean(change.automatic);
                    }
                    json.key("bump_stamp").number(change.pos.0).close();
                }
                json.close();
            }
            json.close();
        }
        if let Some(pos) = self.earlier {
            json.key(earlier).string(&token(pos));
        }
    }
}

/// What stands for everything up to a position.
fn token(pos: Pos) -> String {
    format!("b{pos}")
}

/// The position up to which a token of ours goes.
pub fn position(token: &str) -> Option<Pos> {
    let digits = token.strip_prefix('b')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Pos)).flatten()
}
