//! Whose a store is. It holds an id that the database knows, so that nothing is deleted where another database's files
//! lie, or where nothing is but an empty place to mount them at.

use futures_util::TryStreamExt as _;
use rhizome_storage::random;

use super::Media;
use crate::blobs::{Blobs, MARKER, Spool};
use crate::error::MediaError;

/// How long an id is.
const LENGTH: u64 = 32;

impl Media {
    /// Makes sure that all stores are this database's: new ones are, from now on.
    ///
    /// # Errors
    /// One is another's, or its files aren't there.
    pub async fn claim(&self) -> Result<(), MediaError> {
        for (name, place) in self.0.places.all() {
            self.claim_one(name, &**place).await?;
        }
        Ok(())
    }

    /// Makes a store this database's, whosever it was.
    ///
    /// # Errors
    /// There is no such store; or it, or the database, fails.
    pub async fn adopt(&self, name: &str) -> Result<(), MediaError> {
        let place = self.0.places.get(name)?;
        // A new one, so that whoever had the store doesn't take it for theirs any more.
        let id = random::hex::<16>()?;
        mark(&**place, &id).await.map_err(MediaError::bytes)?;
        Ok(self.0.store.adopt_media_store(name, &id).await?)
    }

    /// Makes sure that a store is this database's.
    pub(super) async fn claim_one(&self, name: &str, place: &dyn Blobs) -> Result<(), MediaError> {
        let refused = |why: String| {
            Err(MediaError::bytes(format_args!(
                "the store {name:?} {why}. If it is right as it is, `rhizome media adopt {name}` makes it this database's"
            )))
        };
        let failed = |error| MediaError::bytes(format_args!("store {name}: {error}"));
        let store = &self.0.store;
        if let Some(marker) = marker(place).await.map_err(failed)? {
            if store.media_store_id(name).await?.as_ref() == Some(&marker) {
                return Ok(());
            }
            return refused(match store.media_store_of(&marker).await? {
                Some(other) => format!("lies where the store {other:?} does"),
                None => format!("is another database's: so says its {MARKER}"),
            });
        }
        if !store.blobs_in(name, "", 1).await?.is_empty() {
            return refused(format!(
                "has no {MARKER}, though files should lie there: see whether it is mounted"
            ));
        }
        if !is_empty(place).await.map_err(failed)? {
            return refused(format!(
                "has no {MARKER} and isn't empty, so its files may be another's"
            ));
        }
        let id = store.begin_media_store(name, &random::hex::<16>()?).await?;
        mark(place, &id).await.map_err(failed)
    }
}

/// The id that a store holds.
async fn marker(place: &dyn Blobs) -> std::io::Result<Option<String>> {
    let pieces = match place.read(MARKER, 0..LENGTH).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        pieces => pieces?,
    };
    let pieces: Vec<bytes::Bytes> = pieces.try_collect().await?;
    Ok(Some(String::from_utf8_lossy(&pieces.concat()).into_owned()))
}

async fn mark(place: &dyn Blobs, id: &str) -> std::io::Result<()> {
    let mut spool = Spool::begin(place.spool(), None).await?;
    spool.push(bytes::Bytes::from(id.to_owned())).await?;
    place.put(MARKER, spool.finish().await?).await
}

async fn is_empty(place: &dyn Blobs) -> std::io::Result<bool> {
    let mut all = place.list();
    while let Some(some) = all.try_next().await? {
        if some.iter().any(|one| one.key != MARKER) {
            return Ok(false);
        }
    }
    Ok(true)
}
