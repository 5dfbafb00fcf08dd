//! From bytes that have come to rows that refer to them.

use std::io;

use futures_util::StreamExt as _;
use rhizome_storage::{
    AppendedPart, Blob, Filled, FinishedUpload, Keep, NewMedia, NewPart, Store, ThumbnailKind,
    UploadRow, UserNo, random,
};

use super::Media;
use crate::blobs::{Spool, Spooled, sealed_size};
use crate::config::CrashAt;
use crate::error::MediaError;

/// What refers to bytes.
pub(super) enum Refers<'a> {
    /// A new file.
    New(NewMedia<'a>),
    /// A file whose id was given before.
    Begun(NewMedia<'a>, UserNo),
    /// A picture of another: its key, the kind, what it is, how many bytes.
    Thumbnail(&'a str, &'a ThumbnailKind, (&'a str, u64)),
    /// A part of an upload.
    Part(NewPart<'a>),
    /// The file of an upload that came in parts.
    Finished(NewMedia<'a>, &'a UploadRow),
}

impl Refers<'_> {
    /// Writes the row. Gives the blob's key; `None` if it is being deleted.
    async fn write(&self, store: &Store, blob: Keep<'_>) -> Result<Option<String>, MediaError> {
        match self {
            Self::New(new) => Ok(store.add_media(new, blob).await?),
            Self::Thumbnail(source, kind, what) => {
                Ok(store.add_thumbnail(source, kind, *what, blob).await?)
            }
            Self::Begun(new, owner) => match store.fill_media(new, *owner, blob).await? {
                Filled::Done(key) => Ok(Some(key)),
                Filled::Again => Ok(None),
                refused => Err(why(&refused)),
            },
            Self::Part(part) => match store.append_part(part, blob).await? {
                AppendedPart::Done(key) => Ok(Some(key)),
                AppendedPart::Again => Ok(None),
                AppendedPart::Late => Err(MediaError::NotFound),
            },
            Self::Finished(new, upload) => match store.finish_upload(upload, new, blob).await? {
                FinishedUpload::Done(key) => Ok(Some(key)),
                FinishedUpload::Again => Ok(None),
                FinishedUpload::Late => Err(MediaError::NotFound),
                FinishedUpload::Refused(refused) => Err(why(&refused)),
            },
        }
    }
}

/// Why an id takes no bytes.
pub(super) fn why(refused: &Filled) -> MediaError {
    match refused {
        Filled::NotTheirs => MediaError::NotTheirs,
        Filled::Already => MediaError::AlreadyUploaded,
        _ => MediaError::NotFound,
    }
}

impl Media {
    /// An empty file on its way to where new ones go.
    pub(super) async fn spool(&self) -> io::Result<Spool> {
        let (_, place) = self.0.places.newest();
        Spool::begin(place.spool(), self.0.keys.begin()?).await
    }

    /// A key for these bytes that was never given.
    fn new_key(&self, bytes: &Spooled) -> Result<String, MediaError> {
        let random = random::hex::<6>()?;
        let name = match &bytes.seal {
            None => bytes.sha256.clone(),
            Some((seal, _)) => {
                let name = self.0.keys.name(seal, &bytes.sha256);
                name.map_err(MediaError::bytes)?
            }
        };
        Ok(format!("{name}-{random}"))
    }

    /// Whether a blob's bytes can be had: its store and key are configured, and there are as many as there should be.
    async fn is_there(&self, blob: &Blob) -> bool {
        let there = async {
            let place = self.0.places.get(&blob.store)?;
            let size = match &blob.seal {
                None => blob.size,
                Some(seal) => {
                    self.0.keys.cipher(seal).map_err(MediaError::bytes)?;
                    sealed_size(blob.size)
                }
            };
            let mut last = place.read(&blob.key, size.saturating_sub(1)..size).await?;
            last.next().await.transpose().map_err(MediaError::bytes)?;
            Ok::<_, MediaError>(())
        };
        let there = there.await.inspect_err(|error| {
            let (key, store) = (&blob.key, &blob.store);
            tracing::warn!(key, store, %error, "a file's bytes can't be had; they have come anew");
        });
        there.is_ok()
    }

    /// Stores bytes, unless they are there, and what refers to them: both are durable when this returns.
    pub(super) async fn keep(
        &self,
        bytes: Spooled,
        refers: Refers<'_>,
    ) -> Result<Blob, MediaError> {
        let store = &self.0.store;
        self.crash(CrashAt::Received);
        let mut lost = None;
        if let Some(blob) = store.blob_of(&bytes.sha256).await? {
            if !self.is_there(&blob).await {
                lost = Some(blob.key);
            } else if refers.write(store, Keep::Known(&blob.key)).await?.is_some() {
                return Ok(blob);
            }
        }
        let (name, place) = self.0.places.newest();
        let blob = Blob {
            key: self.new_key(&bytes)?,
            sha256: bytes.sha256.clone(),
            size: bytes.size,
            store: name.to_owned(),
            seal: bytes.seal.as_ref().map(|(seal, _)| seal.clone()),
        };
        let put = place.put(&blob.key, bytes).await;
        put.map_err(|error| MediaError::place(&error))?;
        self.crash(CrashAt::Stored);
        let keep = match &lost {
            Some(lost) => Keep::Instead(lost, &blob),
            None => Keep::New(&blob),
        };
        let kept = refers.write(store, keep).await;
        // After an error of the database nobody knows whether the row is there: a sweep will.
        let ours = match &kept {
            Ok(Some(key)) => *key == blob.key,
            Ok(None) => false,
            Err(error) => matches!(error, MediaError::Store(_)),
        };
        if !ours && let Err(error) = place.delete(&blob.key).await {
            tracing::warn!(%error, "bytes that nobody needs can't be deleted; a sweep will try");
        }
        self.crash(CrashAt::Noted);
        match kept? {
            Some(key) if key == blob.key => Ok(blob),
            Some(key) => store.blob(&key).await?.ok_or(MediaError::Busy),
            None => Err(MediaError::Busy),
        }
    }
}
