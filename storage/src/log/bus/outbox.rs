//! What other processes are to be told, in the order of the positions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::engine::lock;
use crate::log::presence::SaidPresence;
use crate::{RoomNo, UserNo};

/// How much may wait; beyond it what has waited longest is forgotten. It is said again, or ends by its time.
const MOST_WAITING: usize = 20_000;

/// Something that other processes are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Somebody types for so long from now, or no longer.
    #[serde(rename = "t")]
    Typing {
        #[serde(rename = "r")]
        room: RoomNo,
        #[serde(rename = "u")]
        user: OwnedUserId,
        #[serde(rename = "f")]
        for_ms: Option<u64>,
    },
    /// Whether somebody is there.
    #[serde(rename = "p")]
    Presence(SaidPresence),
}

/// What it is about: of the same the last is enough.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum About {
    Typing(RoomNo, OwnedUserId),
    Presence(UserNo, &'static str),
}

impl Said {
    fn about(&self) -> About {
        match self {
            Self::Typing { room, user, .. } => About::Typing(*room, user.clone()),
            Self::Presence(said) => About::Presence(said.user, said.about()),
        }
    }
}

/// What waits to be said.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    said: BTreeMap<i64, Said>,
    about: HashMap<About, i64>,
    asks: bool,
}

/// What is said at a time.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) said: BTreeMap<i64, Said>,
    /// All that has a position up to there was said.
    pub(super) upto: i64,
    pub(super) asks: bool,
}

impl Outbox {
    /// Takes a position for something that is to be said.
    pub(in crate::log) fn add(
        &self,
        next: impl FnOnce() -> i64,
        said: impl FnOnce() -> Said,
    ) -> i64 {
        let said = said();
        let about = said.about();
        let mut waiting = lock(&self.waiting);
        let position = next();
        waiting.said.insert(position, said);
        if let Some(before) = waiting.about.insert(about, position) {
            waiting.said.remove(&before);
        }
        if waiting.said.len() > MOST_WAITING
            && let Some((_, oldest)) = waiting.said.pop_first()
        {
            waiting.about.remove(&oldest.about());
        }
        drop(waiting);
        self.filled.notify_one();
        position
    }

    /// Others are asked to say again what is so.
    pub(super) fn ask(&self) {
        lock(&self.waiting).asks = true;
        self.filled.notify_one();
    }

    /// Others are to hear of this process now, whatever there is to say.
    pub(crate) fn speak_up(&self) {
        self.filled.notify_one();
    }

    /// Resolves when there is something to say.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes what waits; `head` is the last position that was taken.
    pub(super) fn take(&self, head: impl FnOnce() -> i64) -> Parcel {
        let mut waiting = lock(&self.waiting);
        waiting.about.clear();
        Parcel {
            said: std::mem::take(&mut waiting.said),
            asks: std::mem::take(&mut waiting.asks),
            upto: head(),
        }
    }
}
