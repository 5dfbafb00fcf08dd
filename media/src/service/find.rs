//! Files that are here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rhizome_storage::MediaRow;
use ruma::ServerName;
use tokio::time::{Instant, sleep_until};

use super::{Media, Name, content::Content};
use crate::error::MediaError;

/// Between two looks whether another process has taken the bytes of an id: at first, and at last.
const LOOKS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];
/// When a file was last asked for is told to the database when that is so long ago (ms).
const ROUGHLY: i64 = 3_600_000;
/// So many are remembered until they are told.
const ACCESSES: usize = 10_000;

/// When files were last asked for, where the database doesn't know it yet.
#[derive(Debug, Default)]
pub(super) struct Accessed(Mutex<HashMap<Name, i64>>);

impl Accessed {
    fn note(&self, row: &MediaRow, now: i64) {
        if now.saturating_sub(row.accessed) < ROUGHLY {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < ACCESSES {
            all.insert((row.origin.to_string(), row.media_id.clone()), now);
        }
    }

    fn take(&self) -> HashMap<Name, i64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Media {
    /// A file of ours, or one of another server's that is kept here. One whose id was given and that has no bytes is waited
    /// for, at most so long.
    ///
    /// # Errors
    /// [`MediaError::NotFound`]; [`MediaError::NotYet`] if it has no bytes by then.
    pub async fn find(
        &self,
        origin: &ServerName,
        media_id: &str,
        wait: Duration,
    ) -> Result<Content, MediaError> {
        if let Some(found) = self.here(origin, media_id).await? {
            return found;
        }
        let until = Instant::now() + wait;
        let mut waiter = self.0.waiting.enter(media_id);
        let [mut pause, longest] = LOOKS;
        loop {
            if let Some(found) = self.here(origin, media_id).await? {
                return found;
            }
            if Instant::now() >= until {
                return Err(MediaError::NotYet);
            }
            let look = if self.0.store.is_shared() {
                until.min(Instant::now() + pause)
            } else {
                until
            };
            tokio::select! {
                () = waiter.woken() => {}
                () = sleep_until(look) => pause = (pause * 2).min(longest),
            }
        }
    }

    /// A file that is here; `None` if its bytes may come.
    async fn here(
        &self,
        origin: &ServerName,
        media_id: &str,
    ) -> Result<Option<Result<Content, MediaError>>, MediaError> {
        let row = self.0.store.media(origin.as_str(), media_id).await?;
        let now = self.0.store.clock().now_ms();
        let Some(row) = row else {
            return Ok(Some(Err(MediaError::NotFound)));
        };
        if row.pending.is_some_and(|until| until > now) {
            return Ok(None);
        }
        Ok(Some(self.given(row)))
    }

    /// What is given of a row.
    pub(super) fn given(&self, row: MediaRow) -> Result<Content, MediaError> {
        if row.quarantined || (row.remote && self.is_blocked(row.origin.as_str())) {
            return Err(MediaError::NotFound);
        }
        let hash = row.blob.as_ref().map(|blob| &blob.sha256);
        if hash.is_some_and(|hash| self.0.forbidden.holds(hash)) {
            return Err(MediaError::NotFound);
        }
        self.0.accessed.note(&row, self.0.store.clock().now_ms());
        Content::of(self, row).ok_or(MediaError::NotFound)
    }

    /// Tells the database when files were last asked for.
    pub(super) async fn tell_accesses(&self) -> Result<(), MediaError> {
        let all = self.0.accessed.take();
        let all = all
            .iter()
            .map(|((origin, id), at)| (origin.as_str(), id.as_str(), *at));
        Ok(self.0.store.media_accessed(all).await?)
    }
}
