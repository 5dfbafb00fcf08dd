//! What other processes are to be told beside the log, in the order of the positions. What it is, the bus needn't know.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Mutex;

use serde::Serialize;
use tokio::sync::Notify;

use crate::engine::lock;

/// How much may wait; beyond it what has waited longest is forgotten. It is said again, or ends by its time.
const MOST_WAITING: usize = 20_000;

/// How long one of the things may be; nobody is told what is longer.
pub(in crate::log) const MOST_BYTES: usize = 7_200;

/// Something that other processes are told: JSON, `{"<kind>": …}`.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    about: String,
    text: String,
}

impl Said {
    /// What it is `about`: of the same the last is enough.
    pub(in crate::log) fn new(kind: &str, about: impl Display, said: &impl Serialize) -> Self {
        // What can't be written nobody can read, and that is all that comes of it.
        let text = serde_json::to_string(said).unwrap_or_else(|_| "null".to_owned());
        Self {
            about: format!("{kind} {about}"),
            text: format!("{{\"{kind}\":{text}}}"),
        }
    }

    /// Whether it can be told.
    pub(in crate::log) fn fits(&self) -> bool {
        self.text.len() <= MOST_BYTES
    }

    pub(in crate::log) fn into_text(self) -> String {
        self.text
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
    about: HashMap<String, i64>,
    asks: bool,
}

/// What is said at a time.
#[derive(Debug)]
pub(in crate::log) struct Parcel {
    pub(in crate::log) said: BTreeMap<i64, Said>,
    /// All that has a position up to there was said.
    pub(in crate::log) upto: i64,
    /// Others are asked to say again what is so.
    pub(in crate::log) asks: bool,
}

impl Outbox {
    /// Takes a position for something that is to be said.
    pub(in crate::log) fn add(
        &self,
        next: impl FnOnce() -> i64,
        said: impl FnOnce() -> Said,
    ) -> i64 {
        let said = said();
        let mut waiting = lock(&self.waiting);
        let position = next();
        if let Some(before) = waiting.about.insert(said.about.clone(), position) {
            waiting.said.remove(&before);
        }
        waiting.said.insert(position, said);
        if waiting.said.len() > MOST_WAITING
            && let Some((_, oldest)) = waiting.said.pop_first()
        {
            waiting.about.remove(&oldest.about);
        }
        drop(waiting);
        self.filled.notify_one();
        position
    }

    /// Others are asked to say again what is so.
    pub(in crate::log) fn ask(&self) {
        lock(&self.waiting).asks = true;
        self.filled.notify_one();
    }

    /// Others are to hear of this process now, whatever there is to say.
    pub(crate) fn speak_up(&self) {
        self.filled.notify_one();
    }

    /// Resolves when there is something to say.
    pub(in crate::log) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes what waits; `head` is the last position that was taken.
    pub(in crate::log) fn take(&self, head: impl FnOnce() -> i64) -> Parcel {
        let mut waiting = lock(&self.waiting);
        waiting.about.clear();
        Parcel {
            said: std::mem::take(&mut waiting.said),
            asks: std::mem::take(&mut waiting.asks),
            upto: head(),
        }
    }
}
