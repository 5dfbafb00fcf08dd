//! A preview's picture: fetched into our files, so that readers don't tell its site who they are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header;
use rhizome_decoder::picture::Format;
use rhizome_media::{Media, MediaError, NewFile, UploadError};
use rhizome_storage::millis;
use tokio_util::io::StreamReader;

use super::Previews;
use crate::{
    media::is_shown_inline,
    outbound::{Found, web},
};

/// So long it is there after the preview that names it has expired: clients keep those.
const LONGER: Duration = Duration::from_hours(24 * 7);

/// A picture that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) uri: String,
    pub(super) content_type: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) size: u64,
}

impl Previews {
    /// Keeps a picture that was found, if it is one.
    pub(super) async fn keep_picture(&self, found: Found) -> Option<Picture> {
        // A client that hangs up meanwhile must leave no file that nothing knows of.
        let previews = self.clone();
        let kept = tokio::spawn(async move { previews.try_keep(found).await });
        match kept.await {
            Ok(Ok(picture)) => picture,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a picture of a page isn't kept");
                None
            }
            Err(error) => {
                tracing::error!(%error, "a picture of a page isn't kept");
                None
            }
        }
    }

    async fn try_keep(&self, found: Found) -> Result<Option<Picture>, MediaError> {
        let said = web::text(&found.headers, header::CONTENT_TYPE).unwrap_or_default();
        let Ok(body) = found.body.at_most(self.0.config.picture_size) else {
            return Ok(None);
        };
        if !is_shown_inline(said) {
            return Ok(None);
        }
        let file = NewFile {
            content_type: Some(said),
            name: None,
            announced: body.announced(),
        };
        let (media, store) = (self.0.fed.media(), self.0.fed.store());
        let came = Arc::new(AtomicU64::new(0));
        let counted = came.clone();
        let pieces = body.into_stream().inspect_ok(move |piece| {
            counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        // It is known before it is there, so that none stays that nothing knows of, whatever ends this.
        let media_id = Media::new_id()?;
        let keep = self.0.config.keep.saturating_add(LONGER);
        let until = self.now().saturating_add(millis(keep));
        store.put_preview_picture(&media_id, until).await?;
        let uploaded = media.upload_as(media_id.clone(), None, file, pieces).await;
        if let Err(error) = uploaded {
            // After an error of the database nobody knows whether it is there.
            if !matches!(error, UploadError::Media(MediaError::Store(_))) {
                store.forget_preview_pictures(&[media_id]).await?;
            }
            return match error {
                UploadError::Media(error) => Err(error),
                UploadError::Body(error) => {
                    tracing::debug!(%error, "a picture of a page broke off");
                    Ok(None)
                }
            };
        }
        let picture = self.look_at(&media_id).await?.map(|mut picture| {
            picture.size = came.load(Ordering::Relaxed);
            picture
        });
        if picture.is_none() {
            let origin = self.0.fed.server_name().as_str();
            media.discard(&[(origin, &media_id)]).await?;
            store.forget_preview_pictures(&[media_id]).await?;
        }
        if let Some(picture) = &picture
            && let Err(error) = self.has_come(picture.size).await
        {
            tracing::warn!(error = %error.message, "no room is made for pictures of pages");
        }
        Ok(picture)
    }

    /// What a file is, if it is a picture.
    async fn look_at(&self, media_id: &str) -> Result<Option<Picture>, MediaError> {
        let origin = self.0.fed.server_name();
        let media = self.0.fed.media();
        let file = media.find(origin, media_id, Duration::ZERO).await?;
        let pieces = file
            .read(None)
            .await?
            .map(|piece| piece.map_err(std::io::Error::other));
        let probed = self.0.decoders.probe(StreamReader::new(pieces)).await;
        let probe = match probed {
            Ok(probe) => probe,
            Err(error) => {
                tracing::debug!(%error, "what is said to be a picture of a page isn't one");
                return Ok(None);
            }
        };
        Ok(Some(Picture {
            uri: format!("mxc://{origin}/{media_id}"),
            content_type: match probe.format {
                Format::Png => "image/png",
                Format::Jpeg => "image/jpeg",
                Format::Gif => "image/gif",
                Format::Webp => "image/webp",
            },
            width: probe.width,
            height: probe.height,
            size: 0,
        }))
    }
}
