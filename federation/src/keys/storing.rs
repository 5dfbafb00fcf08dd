//! Keeping what was answered about keys.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rhizome_storage::{KeyResponse, millis};
use ruma::ServerName;

use super::{KeyAnswer, KeyRing, KnownKeys, former};

/// Of servers that never were in a room of ours, so many keep their keys in the database, and so long. They are
/// looked through when about so many answers more were stored.
const STRANGERS: usize = 1_000;
const KEPT_OF_STRANGERS: Duration = Duration::from_hours(7 * 24);
const LOOKED_THROUGH: usize = 500;

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

    /// Stores what a server (or a notary for it) has answered, and joins it with what we knew.
    pub(super) async fn admit(&self, server: &ServerName, answer: KeyAnswer) -> Arc<KnownKeys> {
        let now = self.inner.store.clock().now_ms();
        let before = self.at_hand(server).await;
        let known = Arc::new(before.joined_with(&answer.keys, now));
        if *known == *before {
            return before;
        }
        let response = KeyResponse {
            server: server.to_owned(),
            response: answer.json,
            valid_until: answer.keys.valid_until_ts,
            fetched: now,
        };
        if let Err(error) = self.store_answer(response, answer.direct, &known).await {
            tracing::warn!(%server, %error, "keys can't be stored");
        }
        self.remember(server, known.clone());
        if self.inner.stored.fetch_add(1, Ordering::Relaxed) % LOOKED_THROUGH == LOOKED_THROUGH - 1
        {
            self.forget_strangers().await;
        }
        known
    }

    /// Stores an answer beside those from before, as far as they have keys of their own.
    async fn store_answer(
        &self,
        answer: KeyResponse,
        direct: bool,
        known: &KnownKeys,
    ) -> Result<(), rhizome_storage::Error> {
        let store = &self.inner.store;
        let before = store.key_responses(&answer.server).await?;
        let fetched = answer.fetched;
        let mut kept = former::with(before, answer, direct);
        // When the server was last asked.
        if let Some(newest) = kept.first_mut() {
            newest.fetched = fetched;
        }
        match kept.split_first() {
            Some((newest, former)) => store.store_server_keys(newest, former, &known.rows()).await,
            None => Ok(()),
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
