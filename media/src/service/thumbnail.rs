//! Pictures in other sizes: made once, and kept.

use futures_util::TryStreamExt as _;
use rhizome_storage::{Blob, Keep, ThumbnailKind};
use tokio_util::io::StreamReader;

use super::Media;
use super::content::Content;
use super::kept::Refers;
use crate::error::MediaError;
use crate::pictures::{Format, Made, Wanted};

/// So many pictures are made of a file for who asks; then the next of the configured sizes is given.
const MOST: usize = 20;

/// What is made: of which blob, and which picture.
pub(super) type Making = (String, Wanted);

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
        if let Some(error) = self.0.no_pictures.get(&source.key) {
            return Err(error);
        }
        if !self.is_configured(wanted) && self.0.store.thumbnail_count(&source.key).await? >= MOST {
            wanted = self.nearest(wanted);
        }
        let (media, of) = (self.clone(), of.clone());
        let making = self
            .0
            .making
            .join((source.key.clone(), wanted), move |tell| async move {
                let made = media.make(&of, &source, &[wanted]).await;
                let made = made.and_then(|mut made| made.pop().ok_or(MediaError::NoThumbnail));
                tell.tell(made);
            });
        making.await.unwrap_or(Err(MediaError::Busy))
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
        Ok(found.map(|found| of.picture(found.content_type, found.blob)))
    }

    /// Makes pictures and keeps them; one that is made a second time takes the first one's place. If none can be made,
    /// that is remembered.
    async fn make(
        &self,
        of: &Content,
        source: &Blob,
        wanted: &[Wanted],
    ) -> Result<Vec<Content>, MediaError> {
        if source.size > self.0.pictures.most_bytes() {
            return Err(MediaError::PictureTooLarge);
        }
        let pieces = of.read(None).await?.map_err(std::io::Error::other);
        let reading = Box::pin(StreamReader::new(pieces));
        let made = self.0.pictures.thumbnails(reading, wanted).await;
        let made = made.map_err(MediaError::from).inspect_err(|error| {
            if matches!(error, MediaError::NoThumbnail | MediaError::PictureTooLarge) {
                self.0.no_pictures.insert(source.key.clone(), error.clone());
            }
        });
        let mut kept = Vec::new();
        for (made, wanted) in made?.into_iter().zip(wanted) {
            kept.push(self.keep_picture(of, source, *wanted, made).await?);
        }
        Ok(kept)
    }

    async fn keep_picture(
        &self,
        of: &Content,
        source: &Blob,
        wanted: Wanted,
        made: Made,
    ) -> Result<Content, MediaError> {
        let kind = kind(wanted);
        let Some(bytes) = made.bytes else {
            let size = (made.content_type.as_str(), source.size);
            let refers =
                self.0
                    .store
                    .add_thumbnail(&source.key, &kind, size, Keep::Known(&source.key));
            // If it has just been deleted, that is what was asked for all the same.
            refers.await?;
            return Ok(of.picture(made.content_type, source.clone()));
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
        Ok(of.picture(made.content_type, blob))
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
