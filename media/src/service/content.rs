//! A file that is given to somebody.

use std::fs::File;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use rhizome_storage::{Blob, MediaRow, NewMedia};
use tokio::sync::watch;

use super::Media;
use crate::blobs::{Cipher, PIECE, Told, opened, read_file, sealed_part};
use crate::error::MediaError;

/// What has no more bytes than this is small: it is read at once.
pub const SMALL: u64 = 64 << 10;

/// How long an address at a store may be used. Whoever is told it begins at once.
const ADDRESS: Duration = Duration::from_mins(5);

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Which server has given it its id.
    pub origin: String,
    /// Its id there.
    pub media_id: String,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// How many bytes; `None` while they come from another server that doesn't say.
    pub size: Option<u64>,
    /// The same for as long as the bytes are, and no longer; `None` while they come.
    pub etag: Option<String>,
    /// Since when it is here, milliseconds since 1970.
    pub created: i64,
}

/// A file that is given to somebody.
#[derive(Clone)]
pub struct Content {
    /// What is known of it.
    pub info: Info,
    pub(super) source: Source,
    /// A picture that was made of the file, with bytes of its own.
    is_made: bool,
    media: Media,
}

#[derive(Clone)]
pub(super) enum Source {
    Stored(Blob),
    Growing(Growing),
}

/// A file that is being written.
#[derive(Clone)]
pub(super) struct Growing {
    pub(super) file: Arc<File>,
    pub(super) cipher: Option<Arc<Cipher>>,
    pub(super) progress: watch::Receiver<Progress>,
}

/// How far it is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// So many bytes can be read, and more will.
    To(u64),
    /// So many it has.
    All(u64),
    /// It breaks off.
    Failed(MediaError),
}

/// A file's bytes, in pieces of at most 64 KiB where they lie on a disk.
pub struct Pieces(BoxStream<'static, Result<Bytes, MediaError>>);

impl Stream for Pieces {
    type Item = Result<Bytes, MediaError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let info = &self.info;
        f.debug_struct("Content")
            .field("info", info)
            .finish_non_exhaustive()
    }
}

impl Content {
    /// A file that has just come.
    pub(super) fn new(media: &Media, new: &NewMedia<'_>, blob: Blob) -> Self {
        Self {
            info: Info {
                origin: new.origin.to_owned(),
                media_id: new.media_id.to_owned(),
                content_type: new.content_type.map(ToOwned::to_owned),
                name: new.name.map(ToOwned::to_owned),
                size: Some(blob.size),
                etag: Some(etag(&blob)),
                created: media.0.store.clock().now_ms(),
            },
            source: Source::Stored(blob),
            is_made: false,
            media: media.clone(),
        }
    }

    /// A file that comes.
    pub(super) fn growing(media: &Media, info: Info, growing: Growing) -> Self {
        Self {
            info,
            source: Source::Growing(growing),
            is_made: false,
            media: media.clone(),
        }
    }

    /// A file that is here, if it has bytes.
    pub(super) fn of(media: &Media, row: MediaRow) -> Option<Self> {
        let blob = row.blob?;
        Some(Self {
            info: Info {
                origin: row.origin.into(),
                media_id: row.media_id,
                content_type: row.content_type,
                name: row.name,
                size: Some(blob.size),
                etag: Some(etag(&blob)),
                created: row.created,
            },
            source: Source::Stored(blob),
            is_made: false,
            media: media.clone(),
        })
    }

    /// The same file's picture. `source`: the key of the file's own blob.
    pub(super) fn picture(&self, source: &str, content_type: String, blob: Blob) -> Self {
        let mut picture = self.clone();
        picture.info.content_type = Some(content_type);
        picture.info.size = Some(blob.size);
        picture.info.etag = Some(etag(&blob));
        picture.is_made = blob.key != source;
        picture.source = Source::Stored(blob);
        picture
    }

    /// Its bytes: all, or a part of them. What of the part lies beyond its end is left out. Of a file whose size isn't
    /// known all is given.
    ///
    /// # Errors
    /// They aren't there, or can't be read.
    pub async fn read(&self, part: Option<Range<u64>>) -> Result<Pieces, MediaError> {
        let pieces = match &self.source {
            Source::Stored(blob) => {
                let part = part.unwrap_or(0..blob.size);
                let part = part.start.min(blob.size)..part.end.min(blob.size);
                let pieces = self.media.read_blob(blob, part).await;
                if matches!(pieces, Err(MediaError::NotFound)) {
                    self.is_lost(blob).await?;
                }
                pieces?
            }
            Source::Growing(growing) => {
                let all = 0..self.info.size.unwrap_or(u64::MAX);
                let part = part.filter(|_| self.info.size.is_some()).unwrap_or(all);
                growing.clone().read(part)
            }
        };
        let media = self.media.clone();
        let counted = pieces.inspect_ok(move |piece| {
            let moved = &media.0.moved;
            moved.read.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        Ok(Pieces(counted.boxed()))
    }

    /// Whether it has so many bytes that it is worth being had from its store: what is small is here sooner.
    pub fn is_large(&self) -> bool {
        self.info.size.is_some_and(|size| size > SMALL)
    }

    /// An address at which whoever knows it gets the bytes for five minutes, straight from the store where they lie: to be
    /// told to who asked for the file, and to nobody else. `content_type` and `disposition` are what the store says of
    /// them. `None` where the store gives no addresses, or where the bytes are encrypted or still come: then they are
    /// [read](Self::read).
    ///
    /// # Errors
    /// There is no such store any more.
    pub async fn redirect(
        &self,
        content_type: &str,
        disposition: &str,
    ) -> Result<Option<String>, MediaError> {
        self.redirect_for(ADDRESS, content_type, disposition).await
    }

    /// The same for so long.
    ///
    /// # Errors
    /// As [`Content::redirect`].
    pub async fn redirect_for(
        &self,
        valid_for: Duration,
        content_type: &str,
        disposition: &str,
    ) -> Result<Option<String>, MediaError> {
        let Source::Stored(blob) = &self.source else {
            return Ok(None);
        };
        let place = self.media.0.places.get(&blob.store)?;
        if blob.seal.is_some() {
            return Ok(None);
        }
        let told = Told {
            content_type,
            disposition,
        };
        let address = place.address(&blob.key, valid_for, told).await;
        address.map_err(|error| MediaError::place(&error))
    }

    /// Its bytes aren't where they should be. Another server's can be fetched again, a picture made again.
    async fn is_lost(&self, blob: &Blob) -> Result<(), MediaError> {
        let (info, media) = (&self.info, &self.media.0);
        // Where a store isn't mounted nothing is, and yet nothing is lost.
        if let Some(now) = media.store.blob(&blob.key).await? {
            let place = media.places.get(&now.store)?;
            self.media.claim_one(&now.store, &**place).await?;
        }
        if self.is_made {
            media.store.forget_thumbnails(&blob.key).await?;
        } else if info.origin != media.config.server.as_str() {
            let name = (info.origin.as_str(), info.media_id.as_str());
            media.store.delete_media(&[name]).await?;
        }
        Ok(())
    }

    /// Its blob, once it has come.
    pub(super) async fn settled(&self) -> Result<Blob, MediaError> {
        let growing = match &self.source {
            Source::Stored(blob) => return Ok(blob.clone()),
            Source::Growing(growing) => growing,
        };
        let mut progress = growing.progress.clone();
        let ended = progress.wait_for(|progress| !matches!(progress, Progress::To(_)));
        match ended.await.map(|progress| progress.clone()) {
            Ok(Progress::Failed(error)) => Err(error),
            Err(_) => Err(MediaError::Busy),
            Ok(_) => {
                let info = &self.info;
                let row = self
                    .media
                    .0
                    .store
                    .media(&info.origin, &info.media_id)
                    .await?;
                // Its bytes may be quarantined under another name.
                let given = self.media.given(row.ok_or(MediaError::NotFound)?)?;
                match given.source {
                    Source::Stored(blob) => Ok(blob),
                    Source::Growing(_) => Err(MediaError::NotFound),
                }
            }
        }
    }
}

fn etag(blob: &Blob) -> String {
    blob.sha256.get(..32).unwrap_or(&blob.sha256).to_owned()
}

impl Growing {
    /// What is there and what comes, until it is all there or breaks off.
    fn read(self, part: Range<u64>) -> BoxStream<'static, Result<Bytes, MediaError>> {
        let reading = futures_util::stream::try_unfold((self, part), async |(mut of, part)| {
            let Some((until, there)) = of.readable(&part).await? else {
                return Ok(None);
            };
            let until = until.min(part.start + PIECE as u64);
            let mut read = of.read_now(part.start..until, there);
            match read.next().await {
                Some(piece) => Ok(Some((
                    piece.map_err(MediaError::bytes)?,
                    (of, until..part.end),
                ))),
                None => Ok(None),
            }
        });
        reading.boxed()
    }

    /// A part that is there. `there`: how large the file is, or how large it is at least.
    fn read_now(&self, part: Range<u64>, there: u64) -> crate::blobs::Pieces {
        match &self.cipher {
            None => read_file(self.file.clone(), part),
            Some(cipher) => {
                let sealed = read_file(self.file.clone(), sealed_part(&part, there));
                opened(sealed, cipher.clone(), part, there)
            }
        }
    }

    /// Up to where it can be read, and how large it is, or one more than is there while more comes; `None` at the end.
    async fn readable(&mut self, part: &Range<u64>) -> Result<Option<(u64, u64)>, MediaError> {
        let more = self.progress.wait_for(|progress| match progress {
            Progress::To(there) => *there > part.start || part.is_empty(),
            _ => true,
        });
        let Ok(progress) = more.await else {
            return Err(MediaError::bytes("whoever wrote the file is gone"));
        };
        match &*progress {
            Progress::Failed(error) => Err(error.clone()),
            Progress::To(there) => {
                let until = part.end.min(*there);
                Ok(Some((until, *there + 1)).filter(|_| until > part.start))
            }
            Progress::All(there) => {
                let until = part.end.min(*there);
                Ok(Some((until, *there)).filter(|_| until > part.start))
            }
        }
    }
}

impl Media {
    /// A blob's bytes, wherever they lie by now.
    pub(super) async fn read_blob(
        &self,
        blob: &Blob,
        part: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, MediaError>>, MediaError> {
        let place = self.0.places.get(&blob.store)?;
        let raw = match blob.seal {
            None => part.clone(),
            Some(_) => sealed_part(&part, blob.size),
        };
        let read = match place.read(&blob.key, raw.clone()).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // They may have been moved since.
                let now = self.0.store.blob(&blob.key).await?;
                let Some(now) = now.filter(|now| now.store != blob.store) else {
                    tracing::error!(
                        key = blob.key,
                        store = blob.store,
                        "a file's bytes are gone"
                    );
                    return Err(MediaError::NotFound);
                };
                self.0.places.get(&now.store)?.read(&now.key, raw).await
            }
            read => read,
        };
        let mut read = read?;
        if let Some(seal) = &blob.seal {
            let cipher = self.0.keys.cipher(seal).map_err(MediaError::bytes)?;
            read = opened(read, cipher, part, blob.size);
        }
        Ok(read.map_err(|error| MediaError::place(&error)).boxed())
    }
}
