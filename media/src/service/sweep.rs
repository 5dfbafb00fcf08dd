//! What nobody needs goes.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rhizome_storage::{Blob, Lease, millis, random};
use tokio_util::sync::CancellationToken;

use super::{Media, room::BRIEFLY};
use crate::blobs::{Blobs, Listed, is_key, sealed_size};
use crate::config::CrashAt;
use crate::error::MediaError;

/// Between one sweep and the next.
const INTERVAL: Duration = Duration::from_hours(6);
/// Before the first one: at least, and at most 255 seconds more, so that processes that start together don't sweep so.
const FIRST: Duration = Duration::from_mins(2);
/// Between two for which there is a reason.
const PAUSE: Duration = Duration::from_secs(10);
/// Of several processes one sweeps, or moves files.
pub(super) const LEASE: (&str, Duration) = ("media sweep", Duration::from_mins(10));
/// So much at once.
const PIECE: usize = 500;
/// So much of what a sweep can't do is logged.
const LOGGED: u64 = 10;

/// What a sweep has deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Ids for which no bytes came.
    pub expired: u64,
    /// Uploads that nobody went on with.
    pub uploads: u64,
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
    /// What couldn't be swept, stores and bytes; the log says why.
    pub failed: u64,
}

/// Which stores are swept.
type Ours<'a> = HashSet<&'a str>;

impl Swept {
    /// Something can't be swept. The rest can; the log isn't filled with all of it.
    fn fail(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.failed += 1;
        if self.failed <= LOGGED {
            tracing::warn!("{what} can't be swept: {error}");
        }
    }
}

impl Media {
    /// Sweeps now and then, until `stop`. What goes wrong is logged, and tried again.
    pub async fn sweep_now_and_then(&self, stop: CancellationToken) {
        let sweeping = async {
            let clock = self.0.store.clock();
            let jitter = random::bytes::<1>().map_or(0, |[byte]| i64::from(byte));
            let mut due = clock.now_ms() + millis(FIRST) + jitter * 1_000;
            if let Err(error) = self.measure().await {
                tracing::warn!(%error, "nobody knows how much room other servers' files take");
            }
            // What is to be swept before that; and when the last of what isn't needed any more may go.
            let (mut soon, mut last): (Option<i64>, i64) = (None, 0);
            loop {
                clock.sleep(PAUSE).await;
                let next = soon.map_or(due, |soon| due.min(soon));
                let left = u64::try_from(next - clock.now_ms()).unwrap_or(0);
                tokio::select! {
                    () = clock.sleep(Duration::from_millis(left)) => {}
                    () = self.crowded() => {}
                    () = self.freed() => {
                        last = clock.now_ms() + millis(BRIEFLY) + 1_000;
                        soon = Some(soon.map_or(last, |soon| soon.min(last)));
                        continue;
                    }
                }
                let begun = clock.now_ms();
                let whole = begun >= due;
                soon = soon.filter(|soon| *soon > begun);
                soon = soon.or((last > begun).then_some(last));
                let swept = self.sweep_some(whole).await;
                if whole {
                    due = clock.now_ms() + millis(INTERVAL);
                }
                match swept {
                    Ok(Some(swept)) => tracing::debug!(?swept, "files were swept"),
                    Ok(None) => soon = Some(clock.now_ms() + millis(LEASE.1)),
                    Err(error) => {
                        soon = Some(clock.now_ms() + millis(LEASE.1));
                        tracing::warn!(%error, "files can't be swept");
                    }
                }
            }
        };
        stop.run_until_cancelled(sweeping).await;
    }

    /// Deletes what nobody needs. `None` if another process does, or takes over on the way. What goes wrong with
    /// a store or a blob is logged, and the rest goes on.
    ///
    /// # Errors
    /// The database fails.
    pub async fn sweep(&self) -> Result<Option<Swept>, MediaError> {
        self.sweep_some(true).await
    }

    /// Without looking through the stores, if not the whole.
    async fn sweep_some(&self, whole: bool) -> Result<Option<Swept>, MediaError> {
        let (name, length) = LEASE;
        let Some(lease) = Lease::take(&self.0.store, name, Some(length)).await? else {
            return Ok(None);
        };
        let swept = self.sweep_with(&lease, whole).await;
        lease.release().await?;
        swept
    }

    async fn sweep_with(&self, lease: &Lease, whole: bool) -> Result<Option<Swept>, MediaError> {
        let store = &self.0.store;
        let mut swept = Swept {
            expired: store.expire_pending_media().await?,
            uploads: self.expire_uploads().await?,
            remote: self.sweep_remote().await?,
            thumbnails: self.sweep_pictures().await?,
            ..Swept::default()
        };
        self.doom().await?;
        self.crash(CrashAt::Doomed);
        let mut ours = Ours::new();
        for (name, place) in self.0.places.all() {
            match self.claim_one(name, &**place).await {
                Ok(()) => _ = ours.insert(name.as_str()),
                Err(error) => swept.fail("a store", &error),
            }
        }
        if !self.sweep_doomed(lease, &ours, &mut swept).await? {
            return Ok(None);
        }
        for (name, place) in self.0.places.all() {
            let goes_on = !whole
                || !ours.contains(name.as_str())
                || self.sweep_store(lease, name, &**place, &mut swept).await?;
            if !goes_on {
                return Ok(None);
            }
        }
        if swept.failed > LOGGED {
            tracing::warn!("{} more can't be swept", swept.failed - LOGGED);
        }
        Ok(Some(swept))
    }

    /// What is older may go, if nobody needs it (ms).
    fn before(&self) -> i64 {
        let now = self.0.store.clock().now_ms();
        now.saturating_sub(millis(self.0.config.grace))
    }

    /// Dooms what nothing refers to.
    async fn doom(&self) -> Result<(), MediaError> {
        let (before, mut after) = (self.before(), String::new());
        loop {
            let keys = self.0.store.unneeded_blobs(before, &after, PIECE).await?;
            let Some(last) = keys.last() else {
                return Ok(());
            };
            after.clone_from(last);
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            self.0.store.doom_blobs(before, &keys).await?;
        }
    }

    /// Deletes what is doomed: the bytes, then the rows. `false` if another process has taken over.
    async fn sweep_doomed(
        &self,
        lease: &Lease,
        ours: &Ours<'_>,
        swept: &mut Swept,
    ) -> Result<bool, MediaError> {
        let mut after = String::new();
        loop {
            if !lease.renew().await? {
                return Ok(false);
            }
            let doomed = self.0.store.doomed_blobs(&after, PIECE).await?;
            let Some(last) = doomed.last() else {
                return Ok(true);
            };
            after.clone_from(&last.key);
            let mut gone = Vec::new();
            for blob in &doomed {
                if let Err(error) = self.delete_bytes(blob, ours).await {
                    swept.fail(&blob.key, &error);
                    continue;
                }
                gone.push(blob.key.as_str());
                swept.bytes += blob.size;
            }
            self.crash(CrashAt::Deleted);
            self.0.store.forget_blobs(&gone).await?;
            swept.blobs += gone.len() as u64;
        }
    }

    async fn delete_bytes(&self, blob: &Blob, ours: &Ours<'_>) -> Result<(), MediaError> {
        let place = self.0.places.get(&blob.store)?;
        if !ours.contains(blob.store.as_str()) {
            return Err(MediaError::bytes("its store can't be used"));
        }
        let deleted = place.delete(&blob.key).await;
        deleted.map_err(|error| MediaError::place(&error))
    }

    /// Looks through a store for what no row knows. `false` if another process has taken over.
    async fn sweep_store(
        &self,
        lease: &Lease,
        name: &str,
        place: &dyn Blobs,
        swept: &mut Swept,
    ) -> Result<bool, MediaError> {
        match place.tidy(self.before()).await {
            Ok(unfinished) => swept.unfinished += unfinished,
            Err(error) => swept.fail(name, &error),
        }
        let mut listed = place.list();
        while let Some(listed) = listed.next().await {
            if !lease.renew().await? {
                return Ok(false);
            }
            match listed {
                Ok(listed) => self.sweep_orphans(name, place, &listed, swept).await?,
                Err(error) => swept.fail(name, &error),
            }
        }
        Ok(true)
    }

    /// Deletes what no row knows, once a row would be there. What isn't called as our blobs are stays.
    async fn sweep_orphans(
        &self,
        name: &str,
        place: &dyn Blobs,
        listed: &[Listed],
        swept: &mut Swept,
    ) -> Result<(), MediaError> {
        let before = self.before();
        let old: Vec<&str> = listed
            .iter()
            .filter(|one| one.since < before && is_key(&one.key))
            .map(|one| one.key.as_str())
            .collect();
        for keys in old.chunks(PIECE) {
            let known = self.0.store.known_blobs(keys).await?;
            for key in keys {
                let row = known.iter().find(|known| known.key == **key);
                if let Some(row) = row
                    && (row.store == name || !self.is_whole(row).await)
                {
                    continue;
                }
                match place.delete(key).await {
                    Ok(()) => swept.orphans += 1,
                    Err(error) => swept.fail(key, &error),
                }
            }
        }
        Ok(())
    }

    /// Whether a blob's bytes are where its row says, up to the last one.
    async fn is_whole(&self, blob: &Blob) -> bool {
        let Ok(place) = self.0.places.get(&blob.store) else {
            return false;
        };
        let size = match blob.seal {
            None => blob.size,
            Some(_) => sealed_size(blob.size),
        };
        match place.read(&blob.key, size.saturating_sub(1)..size).await {
            Ok(last) => last.try_collect::<Vec<_>>().await.is_ok(),
            Err(_) => false,
        }
    }
}
