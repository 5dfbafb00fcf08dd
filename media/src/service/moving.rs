//! Bytes that move from one store to another.

use futures_util::TryStreamExt as _;
use rhizome_storage::{Blob, Lease};

use super::{Media, sweep::LEASE};
use crate::blobs::{Spool, sealed_size};
use crate::error::MediaError;

/// So many at once.
const PIECE: usize = 100;

impl Media {
    /// Moves all bytes from one store to another, blob by blob: each is in one of them at any time, so it may end
    /// anywhere and be begun again. `told` hears how many blobs and bytes have been moved by now. Gives how many were.
    ///
    /// # Errors
    /// There is no such store; or another process sweeps or moves files; or a store fails, or has lost or damaged
    /// something: what was moved before stays moved.
    pub async fn move_all(
        &self,
        from: &str,
        to: &str,
        told: impl FnMut(u64, u64) + Send,
    ) -> Result<u64, MediaError> {
        self.0.places.get(to)?;
        if from == to {
            return Ok(0);
        }
        for name in [from, to] {
            self.claim_one(name, &**self.0.places.get(name)?).await?;
        }
        // A sweep would take what has just come to the new store for what is left in it.
        let Some(lease) = Lease::take(&self.0.store, LEASE.0, Some(LEASE.1)).await? else {
            return Err(MediaError::Busy);
        };
        let moved = self.move_with(&lease, from, to, told).await;
        lease.release().await?;
        moved
    }

    async fn move_with(
        &self,
        lease: &Lease,
        from: &str,
        to: &str,
        mut told: impl FnMut(u64, u64) + Send,
    ) -> Result<u64, MediaError> {
        let (mut moved, mut bytes) = (0, 0);
        let mut after = String::new();
        loop {
            let blobs = self.0.store.blobs_in(from, &after, PIECE).await?;
            let Some(last) = blobs.last() else {
                return Ok(moved);
            };
            after.clone_from(&last.key);
            for blob in &blobs {
                if !lease.renew().await? {
                    return Err(MediaError::Busy);
                }
                self.move_one(lease, blob, to).await?;
                moved += 1;
                bytes += blob.size;
            }
            told(moved, bytes);
        }
    }

    async fn move_one(&self, lease: &Lease, blob: &Blob, to: &str) -> Result<(), MediaError> {
        let (from, place) = (self.0.places.get(&blob.store)?, self.0.places.get(to)?);
        let failed = |error: std::io::Error| {
            let said = std::io::Error::new(error.kind(), format!("{}: {error}", blob.key));
            MediaError::place(&said)
        };
        if self.0.places.are_one(&blob.store, to) {
            return Err(MediaError::bytes(format_args!(
                "the stores {:?} and {to:?} are the same",
                blob.store
            )));
        }
        // Sealed ones go as they are: whoever has the keys will see whether they are whole.
        let size = match blob.seal {
            None => blob.size,
            Some(_) => sealed_size(blob.size),
        };
        let read = from.read(&blob.key, 0..size).await;
        let mut pieces = read.map_err(failed)?;
        let mut spool = Spool::begin(place.spool(), None).await.map_err(failed)?;
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            spool.push(piece).await.map_err(failed)?;
        }
        let copy = spool.finish().await.map_err(failed)?;
        if copy.size != size || (blob.seal.is_none() && copy.sha256 != blob.sha256) {
            return Err(MediaError::bytes(format_args!("{} is damaged", blob.key)));
        }
        place.put(&blob.key, copy).await.map_err(failed)?;
        // Copying takes its time: a sweep that has begun meanwhile takes the copy for what is left of it.
        if !lease.renew().await? {
            return Err(MediaError::Busy);
        }
        let store = &self.0.store;
        if store.move_blob(&blob.key, &blob.store, to).await? {
            return from.delete(&blob.key).await.map_err(failed);
        }
        // It was deleted meanwhile, or somebody else has moved it.
        let now = store.blob(&blob.key).await?;
        if now.is_none_or(|now| now.store != to) {
            place.delete(&blob.key).await.map_err(failed)?;
        }
        Ok(())
    }
}
