//! Pictures in other sizes: made once, and kept.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use rhizome_storage::{Blob, Keep, ThumbnailKind, millis};
use tokio_util::io::StreamReader;

use super::Media;
use super::content::Content;
use super::film::Seen;
use super::kept::Refers;
use crate::error::MediaError;
use crate::pictures::{Format, Made, PictureError, Wanted};

/// So many pictures are made of a file for who asks; then the next of the configured sizes is given.
const MOST: usize = 20;

/// What is made: of which blob, and which picture.
pub(super) type Making = (String, Wanted);
/// What becomes of it: a picture; `None` if there are too many of that file already.
pub(super) type Told = Result<Option<Content>, MediaError>;

/// A picture that couldn't be made isn't tried again for so long, where that isn't the file's fault.
const NOT_NOW: Duration = Duration::from_mins(1);
/// It is waited as long for a picture as it is made: that has its own bound.
const PATIENCE: Duration = Duration::from_mins(10);

impl Media {
    /// A picture of a file: the one that was made, or a new one, which is kept. It is as large as was asked for or larger,
    /// never larger than the file's own; who shows it makes it fit.
    ///
    /// # Errors
    /// [`MediaError::NoThumbnail`] if it is no picture; [`MediaError::PictureTooLarge`].
    pub async fn thumbnail(&self, of: &Content, wanted: Wanted) -> Result<Content, MediaError> {
        let source = of.settled().await?;
        let mut wanted = wanted;
        if !self.0.config.any_thumbnail {
            wanted = self.nearest(wanted);
        }
        if let Some(made) = self.made(of, &source.key, wanted).await? {
            return Ok(made);
        }
        if let Some(error) = self.0.no_pictures.get(&source.key)
            && !self.is_film(of)
        {
            return Err(error);
        }
        // Of a film first of all its still is taken: who waits for one holds no place among the pictures.
        if self.is_film(of) {
            self.still(of, &source).await?;
        }
        if let Some(made) = self.make_one(of, &source, wanted, MOST).await? {
            return Ok(made);
        }
        let wanted = self.nearest(wanted);
        if let Some(made) = self.made(of, &source.key, wanted).await? {
            return Ok(made);
        }
        let made = self.make_one(of, &source, wanted, usize::MAX).await?;
        made.ok_or(MediaError::NoThumbnail)
    }

    /// Makes a picture, once for all who ask meanwhile; `None` if it isn't of a configured size and there are `most`.
    async fn make_one(&self, of: &Content, source: &Blob, wanted: Wanted, most: usize) -> Told {
        let making = (source.key.clone(), wanted);
        if let Some((until, error)) = self.0.not_now.get(&making)
            && self.0.store.clock().now_ms() < until
        {
            return Err(error);
        }
        let most = if self.is_configured(wanted) {
            usize::MAX
        } else {
            most
        };
        let (media, of, source) = (self.clone(), of.clone(), source.clone());
        let work = move |tell: super::flights::Tell<Told>| async move {
            let made = async {
                // Whoever came before may have been done between the look and this.
                if let Some(made) = media.made(&of, &source.key, wanted).await? {
                    return Ok(Some(made));
                }
                if most < usize::MAX && media.count(&source.key, wanted).await? >= most {
                    return Ok(None);
                }
                let mut made = media.make(&of, &source, &[wanted]).await?;
                made.pop().map(Some).ok_or(MediaError::NoThumbnail)
            };
            tell.tell(made.await);
        };
        let made = self.0.making.join(making, PATIENCE, work).await;
        made.unwrap_or(Err(MediaError::Busy))
    }

    /// How many pictures of a file there are or are being made, beside this one.
    async fn count(&self, source: &str, wanted: Wanted) -> Result<usize, MediaError> {
        let under_way = self.0.making.alike(&(source.to_owned(), wanted));
        let there = self.0.store.thumbnail_count(source).await?;
        Ok(there + under_way.saturating_sub(1))
    }

    /// Makes the configured pictures of a file when there is time.
    pub(super) fn make_soon(&self, of: Content) {
        let said = of.info.content_type.as_deref().unwrap_or_default();
        let is_picture = said.starts_with("image/");
        if is_picture && !self.0.config.thumbnails.is_empty() {
            // If there are too many, they are made when they are asked for.
            let _ = self.0.soon.try_send(of);
        }
    }

    /// Makes the configured pictures of a file, those that aren't there, from one reading of it.
    pub(super) async fn make_all(&self, of: &Content) -> Result<(), MediaError> {
        let source = of.settled().await?;
        let mut missing = Vec::new();
        for wanted in &self.0.config.thumbnails {
            if self.made(of, &source.key, *wanted).await?.is_none() {
                missing.push(*wanted);
            }
        }
        if !missing.is_empty() {
            self.make(of, &source, &missing).await?;
        }
        Ok(())
    }

    fn is_configured(&self, wanted: Wanted) -> bool {
        let configured = &self.0.config.thumbnails;
        configured.iter().any(|one| {
            let size = (one.width, one.height, one.method);
            size == (wanted.width, wanted.height, wanted.method)
        })
    }

    /// The smallest configured size that is as large as what is wanted, or the largest.
    fn nearest(&self, wanted: Wanted) -> Wanted {
        let same = self.0.config.thumbnails.iter();
        let same = same.filter(|one| one.method == wanted.method);
        let fits = |one: &&Wanted| one.width >= wanted.width && one.height >= wanted.height;
        let area = |one: &&Wanted| u64::from(one.width) * u64::from(one.height);
        let smallest = same.clone().filter(fits).min_by_key(area);
        let found = smallest.or_else(|| same.max_by_key(area));
        found.map_or(wanted, |one| Wanted {
            width: one.width,
            height: one.height,
            ..wanted
        })
    }

    /// The picture, if it was made.
    async fn made(
        &self,
        of: &Content,
        source: &str,
        wanted: Wanted,
    ) -> Result<Option<Content>, MediaError> {
        let found = self.0.store.thumbnail(source, &kind(wanted)).await?;
        Ok(found.map(|found| of.picture(source, found.content_type, found.blob)))
    }

    /// Makes pictures and keeps them; one that is made a second time takes the first one's place. If none can be made,
    /// that is remembered.
    async fn make(
        &self,
        of: &Content,
        source: &Blob,
        wanted: &[Wanted],
    ) -> Result<Vec<Content>, MediaError> {
        let seen = self.seen(of, source).await?;
        if seen.blob.size > self.0.pictures.most_bytes() {
            return Err(MediaError::PictureTooLarge);
        }
        let pieces = seen.content.read(None).await?;
        let pieces = pieces.map_err(std::io::Error::other);
        let reading = Box::pin(StreamReader::new(pieces));
        let made = self.0.pictures.thumbnails(reading, wanted).await;
        let made = made.map_err(|error| self.remember_why(source, wanted, error))?;
        let mut kept = Vec::new();
        for (made, wanted) in made.into_iter().zip(wanted) {
            let made = self.keep_picture((of, source), &seen, *wanted, made);
            kept.push(made.await?);
        }
        Ok(kept)
    }

    /// What is the file's fault is so for good; what isn't is so in this size for a while.
    fn remember_why(&self, source: &Blob, wanted: &[Wanted], why: PictureError) -> MediaError {
        let (is_its_fault, is_busy) = match &why {
            PictureError::NotAPicture | PictureError::TooLarge => (true, false),
            PictureError::Failed(_) => (false, false),
            PictureError::Busy => (false, true),
        };
        let error = MediaError::from(why);
        if is_its_fault {
            self.0.no_pictures.insert(source.key.clone(), error.clone());
        } else if let ([wanted], false) = (wanted, is_busy) {
            let until = self
                .0
                .store
                .clock()
                .now_ms()
                .saturating_add(millis(NOT_NOW));
            let making = (source.key.clone(), *wanted);
            self.0.not_now.insert(making, (until, error.clone()));
        }
        error
    }

    async fn keep_picture(
        &self,
        (of, source): (&Content, &Blob),
        seen: &Seen,
        wanted: Wanted,
        made: Made,
    ) -> Result<Content, MediaError> {
        let kind = kind(wanted);
        let Some(bytes) = made.bytes else {
            let own = &seen.blob;
            let size = (made.content_type.as_str(), own.size);
            let refers = Keep::Known(&own.key);
            let refers = self.0.store.add_thumbnail(&source.key, &kind, size, refers);
            // If it has just been deleted, that is what was asked for all the same.
            refers.await?;
            return Ok(of.picture(&source.key, made.content_type, own.clone()));
        };
        let spooled = async {
            let mut spool = self.spool().await?;
            spool.push(bytes).await?;
            spool.finish().await
        };
        let spooled = spooled.await.map_err(MediaError::bytes)?;
        let what = (made.content_type.as_str(), spooled.size);
        let refers = Refers::Thumbnail(&source.key, &kind, what);
        let blob = self.keep(spooled, refers).await?;
        Ok(of.picture(&source.key, made.content_type, blob))
    }
}

fn kind(wanted: Wanted) -> ThumbnailKind {
    ThumbnailKind {
        width: wanted.width,
        height: wanted.height,
        method: wanted.method.name(),
        animated: wanted.animated,
        format: match wanted.format {
            Format::Plain => "plain",
            Format::Webp => "webp",
        },
    }
}
