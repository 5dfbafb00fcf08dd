//! How much room other servers' files take, and what goes when it is too much.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rhizome_storage::{MediaSize, millis};
use tokio::sync::Notify;

use super::Media;
use crate::error::MediaError;

/// So much at once.
const PIECE: usize = 500;
/// What went for want of room, or is made again when it is asked for, goes altogether after this.
pub(super) const BRIEFLY: Duration = Duration::from_mins(5);

/// How much room other servers' files take, as far as this process knows: each sweep puts it right.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: AtomicU64,
    crowded: Notify,
    freed: Notify,
}

impl Room {
    /// They are counted anew: what comes from now on may be counted twice, and a sweep too early does no harm. Gives what
    /// was counted so far.
    fn anew(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Media {
    /// A file of another server's has come. If there are too many by a tenth, a sweep is wanted.
    pub(super) fn has_come(&self, bytes: u64) {
        let before = self.0.room.bytes.fetch_add(bytes, Ordering::Relaxed);
        let limit = self.0.config.remote.cache_size;
        if before.saturating_add(bytes) > limit.saturating_add(limit / 10) {
            self.0.room.crowded.notify_one();
        }
    }

    /// Comes when there are too many.
    pub(super) async fn crowded(&self) {
        self.0.room.crowded.notified().await;
    }

    /// Learns how much room they take.
    pub(super) async fn measure(&self) -> Result<(), MediaError> {
        let known = self.0.room.anew();
        let size = self.0.store.remote_media_size().await;
        self.has_come(*size.as_ref().unwrap_or(&known));
        size.map(drop).map_err(MediaError::from)
    }

    /// Other servers' files: those go that are too old, then those for which there is no room.
    pub(super) async fn sweep_remote(&self) -> Result<u64, MediaError> {
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
        self.0.room.anew();
        let mut size = store.remote_media_size().await?;
        while size > limits.cache_size {
            let mut stale = store.stale_remote_media(i64::MAX, PIECE).await?;
            if stale.is_empty() {
                break;
            }
            stale.retain(|one| {
                let goes = size > limits.cache_size;
                size -= if goes { one.size.min(size) } else { 0 };
                goes
            });
            gone += self.delete_rows(&stale).await?;
        }
        self.has_come(size);
        Ok(gone)
    }

    async fn delete_rows(&self, rows: &[MediaSize]) -> Result<u64, MediaError> {
        let names = rows.iter();
        let names = names.map(|row| (row.origin.as_str(), row.media_id.as_str()));
        self.discard(&names.collect::<Vec<_>>()).await
    }

    /// Deletes files that can be had again, by server and id; gives their number. Their bytes needn't wait for the whole
    /// grace period.
    ///
    /// # Errors
    /// The database fails.
    pub async fn discard(&self, names: &[(&str, &str)]) -> Result<u64, MediaError> {
        let store = &self.0.store;
        store.hurry_media(self.briefly(), names).await?;
        let gone = store.delete_media(names).await?;
        self.free();
        Ok(gone)
    }

    /// Pictures whose source is gone.
    pub(super) async fn sweep_pictures(&self) -> Result<u64, MediaError> {
        let (mut gone, mut after) = (0, String::new());
        loop {
            let sources = self.0.store.lone_sources(&after, PIECE).await?;
            let Some(last) = sources.last() else {
                return Ok(gone);
            };
            after.clone_from(last);
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            let blobs = self.0.store.delete_lone_thumbnails(&sources).await?;
            gone += blobs.len() as u64;
            let blobs: Vec<&str> = blobs.iter().map(String::as_str).collect();
            self.hurry(&blobs).await?;
        }
    }

    /// These bytes needn't wait for the whole grace period: they can be had again.
    async fn hurry(&self, blobs: &[&str]) -> Result<(), MediaError> {
        if blobs.is_empty() {
            return Ok(());
        }
        self.0.store.hurry_blobs(self.briefly(), blobs).await?;
        self.free();
        Ok(())
    }

    /// When what may go in a moment was last touched (ms).
    pub(super) fn briefly(&self) -> i64 {
        let grace = self.0.config.grace;
        let now = self.0.store.clock().now_ms();
        now.saturating_sub(millis(grace.saturating_sub(BRIEFLY)))
    }

    /// Some bytes aren't needed any more: a sweep is to come in a moment.
    pub(super) fn free(&self) {
        self.0.room.freed.notify_one();
    }

    /// Comes when some bytes aren't needed any more.
    pub(super) async fn freed(&self) {
        self.0.room.freed.notified().await;
    }
}
