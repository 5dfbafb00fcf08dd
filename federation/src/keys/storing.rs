//! Keeping what was answered about keys.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rhizome_storage::{KeyResponse, millis};
use ruma::ServerName;

use super::{
    KeyAnswer, KeyRing, KnownKeys,
    former::{self, Age},
};

/// Of servers that never were in a room of ours, so many keep their keys in the database, and so long. They are
/// looked through when about so many answers more were stored.
const STRANGERS: usize = 1_000;
const KEPT_OF_STRANGERS: Duration = Duration::from_hours(7 * 24);
const LOOKED_THROUGH: usize = 500;

/// How often it is tried to store an answer while others store theirs for the same server.
const TRIES: usize = 5;

/// What is known with an answer, and how new that is.
struct Joined {
    known: Arc<KnownKeys>,
    age: Age,
}

impl KeyRing {
    /// What is in the database; `None`: that can't be told.
    pub(super) async fn stored(&self, server: &ServerName) -> Option<Arc<KnownKeys>> {
        match self.inner.store.server_keys(server).await {
            Ok((keys, fetched)) => Some(Arc::new(KnownKeys::stored(&keys, fetched))),
            Err(error) => {
                tracing::warn!(%server, %error, "stored keys can't be read");
                None
            }
        }
    }

    /// [`KeyRing::at_hand`], or what another process has been answered since: for who would ask the server otherwise.
    pub(super) async fn newest(&self, server: &ServerName) -> Arc<KnownKeys> {
        let known = self.at_hand(server).await;
        if !self.inner.store.is_shared() || server == self.inner.server_name {
            return known;
        }
        match self.stored(server).await {
            Some(stored) if stored.fetched > known.fetched => {
                self.remember(server, stored.clone());
                stored
            }
            _ => known,
        }
    }

    /// Stores what a server (or a notary for it) has answered, and joins it with what was known, here or by another process.
    pub(super) async fn admit(&self, server: &ServerName, answer: KeyAnswer) -> Arc<KnownKeys> {
        for _ in 0..TRIES {
            let Some(stored) = self.stored(server).await else {
                // The database is silent; the answer is good nevertheless.
                break;
            };
            let seen = stored.fetched;
            let known = self.at_hand(server).await;
            // What strangers have stored is forgotten there first.
            let before = if known.fetched > seen { known } else { stored };
            let joining = self.joined(&before, &answer);
            if answer.asked.is_none() && joining.known.has_same_keys(&before) {
                self.remember(server, before.clone());
                return before;
            }
            match self.store_answer(server, &answer, &joining, seen).await {
                Ok(true) => {
                    self.remember(server, joining.known.clone());
                    self.look_through_strangers().await;
                    return joining.known;
                }
                // Somebody else was faster: what they have stored may be newer.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%server, %error, "keys can't be stored");
                    break;
                }
            }
        }
        let known = self.joined(&*self.at_hand(server).await, &answer).known;
        self.remember(server, known.clone());
        known
    }

    /// An answer joined with what was known before.
    fn joined(&self, before: &KnownKeys, answer: &KeyAnswer) -> Joined {
        let now = self.inner.store.clock().now_ms();
        // Another process may have asked the server since. A time to come says that a clock was wrong.
        let is_latest = |asked: i64| before.fetched <= asked || before.fetched > now;
        let is_newest = answer.asked.is_some_and(is_latest);
        let age = if is_newest {
            Age::Newest
        } else if before.gainsays(&answer.keys) {
            Age::Former
        } else {
            Age::Unknown
        };
        let known = before.joined_with(&answer.keys, is_newest, now);
        Joined {
            known: Arc::new(known),
            age,
        }
    }

    /// Stores an answer beside those from before, as far as they have keys of their own; `false` if what is stored isn't what
    /// was `seen` any more.
    async fn store_answer(
        &self,
        server: &ServerName,
        answer: &KeyAnswer,
        joined: &Joined,
        seen: i64,
    ) -> Result<bool, rhizome_storage::Error> {
        let store = &self.inner.store;
        let before = store.key_responses(server).await?;
        let fetched = joined.known.fetched;
        let answer = KeyResponse {
            server: server.to_owned(),
            response: answer.json.clone(),
            valid_until: answer.keys.valid_until_ts,
            fetched,
        };
        let mut kept = former::with(before, answer, joined.age);
        // When the server was last asked.
        if let Some(newest) = kept.first_mut() {
            newest.fetched = fetched;
        }
        let Some((newest, former)) = kept.split_first() else {
            return Ok(true);
        };
        let rows = joined.known.rows();
        store.store_server_keys(newest, former, &rows, seen).await
    }

    /// After so many answers those of strangers are looked through.
    async fn look_through_strangers(&self) {
        let stored = self.inner.stored.fetch_add(1, Ordering::Relaxed);
        if stored % LOOKED_THROUGH == LOOKED_THROUGH - 1 {
            self.forget_strangers().await;
        }
    }

    /// Anybody can make us look for the keys of any server.
    pub(crate) async fn forget_strangers(&self) {
        let store = &self.inner.store;
        let since = store
            .clock()
            .now_ms()
            .saturating_sub(millis(KEPT_OF_STRANGERS));
        if let Err(error) = store.forget_strangers_keys(STRANGERS, since).await {
            tracing::warn!(%error, "keys of strangers can't be forgotten");
        }
    }
}
