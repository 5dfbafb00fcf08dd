//! What nobody needs goes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rhizome_storage::{Lease, MediaSize, millis};
use tokio_util::sync::CancellationToken;

use super::Media;
use crate::blobs::{Blobs, Listed};
use crate::config::CrashAt;
use crate::error::MediaError;

/// Between one sweep and the next.
const INTERVAL: Duration = Duration::from_hours(6);
/// Of several processes one sweeps.
const LEASE: (&str, Duration) = ("media sweep", Duration::from_mins(10));
/// So much at once.
const PIECE: usize = 500;

/// What a sweep has deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Ids for which no bytes came.
    pub expired: u64,
    /// Other servers' files that nobody has asked for, or for which there is no room.
    pub remote: u64,
    /// Pictures whose source is gone.
    pub thumbnails: u64,
    /// Bytes that nothing referred to: how many blobs.
    pub blobs: u64,
    /// And how many bytes they had.
    pub bytes: u64,
    /// Files in stores that no row knows.
    pub orphans: u64,
    /// Files that were on their way and never came.
    pub unfinished: u64,
}

impl Media {
    /// Sweeps now and then, until `stop`. What goes wrong is logged, and tried again.
    pub async fn sweep_now_and_then(&self, stop: CancellationToken) {
        loop {
            let clock = self.0.store.clock();
            if stop
                .run_until_cancelled(clock.sleep(INTERVAL))
                .await
                .is_none()
            {
                return;
            }
            match stop.run_until_cancelled(self.sweep()).await {
                None => return,
                Some(Ok(Some(swept))) => tracing::debug!(?swept, "files were swept"),
                Some(Ok(None)) => {}
                Some(Err(error)) => tracing::warn!(%error, "files can't be swept"),
            }
        }
    }

    /// Deletes what nobody needs. `None` if another process does, or takes over on the way.
    ///
    /// # Errors
    /// The database or a store fails.
    pub async fn sweep(&self) -> Result<Option<Swept>, MediaError> {
        let (name, length) = LEASE;
        let Some(lease) = Lease::take(&self.0.store, name, Some(length)).await? else {
            return Ok(None);
        };
        let swept = self.sweep_with(&lease).await;
        lease.release().await?;
        swept
    }

    async fn sweep_with(&self, lease: &Lease) -> Result<Option<Swept>, MediaError> {
        let store = &self.0.store;
        let mut swept = Swept {
            expired: store.expire_pending_media().await?,
            remote: self.sweep_remote().await?,
            thumbnails: store.delete_lone_thumbnails().await?,
            ..Swept::default()
        };
        while store.doom_blobs(self.before(), PIECE).await? == PIECE as u64 {}
        self.crash(CrashAt::Doomed);
        loop {
            if !lease.renew().await? {
                return Ok(None);
            }
            let (blobs, bytes) = self.sweep_doomed().await?;
            if blobs == 0 {
                break;
            }
            swept.blobs += blobs;
            swept.bytes += bytes;
        }
        for (name, place) in self.0.places.all() {
            let unfinished = place.tidy(self.before()).await;
            swept.unfinished += unfinished.map_err(|error| MediaError::place(&error))?;
            let mut listed = place.list();
            loop {
                let page = listed.try_next().await;
                let Some(listed) = page.map_err(|error| MediaError::place(&error))? else {
                    break;
                };
                if !lease.renew().await? {
                    return Ok(None);
                }
                swept.orphans += self.sweep_orphans(name, place, &listed).await?;
            }
        }
        Ok(Some(swept))
    }

    /// What is older may go, if nobody needs it (ms).
    fn before(&self) -> i64 {
        let now = self.0.store.clock().now_ms();
        now.saturating_sub(millis(self.0.config.grace))
    }

    /// Other servers' files: those that are too old, then those for which there is no room.
    async fn sweep_remote(&self) -> Result<u64, MediaError> {
        let (store, limits) = (&self.0.store, &self.0.config.remote);
        let mut gone = 0;
        if let Some(age) = limits.cache_age {
            let until = store.clock().now_ms().saturating_sub(millis(age));
            loop {
                let stale = store.stale_remote_media(until, PIECE).await?;
                if stale.is_empty() {
                    break;
                }
                gone += self.delete_rows(&stale).await?;
            }
        }
        let mut size = store.remote_media_size().await?;
        while size > limits.cache_size {
            let mut stale = store.stale_remote_media(i64::MAX, PIECE).await?;
            let before = size;
            stale.retain(|one| {
                let goes = size > limits.cache_size;
                size -= if goes { one.size.min(size) } else { 0 };
                goes
            });
            gone += self.delete_rows(&stale).await?;
            if size == before {
                break;
            }
        }
        Ok(gone)
    }

    async fn delete_rows(&self, rows: &[MediaSize]) -> Result<u64, MediaError> {
        let names = rows.iter();
        let names = names.map(|row| (row.origin.as_str(), row.media_id.as_str()));
        Ok(self
            .0
            .store
            .delete_media(&names.collect::<Vec<_>>())
            .await?)
    }

    /// Deletes some of what is doomed: the bytes, then the rows.
    async fn sweep_doomed(&self) -> Result<(u64, u64), MediaError> {
        let doomed = self.0.store.doomed_blobs("", PIECE).await?;
        for blob in &doomed {
            let place = self.0.places.get(&blob.store)?;
            let deleted = place.delete(&blob.key).await;
            deleted.map_err(|error| MediaError::place(&error))?;
        }
        self.crash(CrashAt::Deleted);
        let keys: Vec<&str> = doomed.iter().map(|blob| blob.key.as_str()).collect();
        self.0.store.forget_blobs(&keys).await?;
        let bytes = doomed.iter().map(|blob| blob.size).sum();
        Ok((doomed.len() as u64, bytes))
    }

    /// Deletes what no row knows, once a row would be there.
    async fn sweep_orphans(
        &self,
        name: &str,
        place: &Arc<dyn Blobs>,
        listed: &[Listed],
    ) -> Result<u64, MediaError> {
        let before = self.before();
        let old: Vec<&str> = listed
            .iter()
            .filter(|one| one.since < before)
            .map(|one| one.key.as_str())
            .collect();
        let mut gone = 0;
        for keys in old.chunks(PIECE) {
            let known = self.0.store.known_blobs(name, keys).await?;
            for key in keys
                .iter()
                .filter(|key| !known.iter().any(|known| known == **key))
            {
                let deleted = place.delete(key).await;
                deleted.map_err(|error| MediaError::place(&error))?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}
