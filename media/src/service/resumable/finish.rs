//! From the parts of an upload to a file.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, TryStreamExt as _, stream};
use rhizome_storage::{Blob, UploadRow};

use super::append::wrong_offset;
use super::{Progress, ResumeError};
use crate::error::{MediaError, UploadError};
use crate::service::kept::Refers;
use crate::service::upload::NewFile;
use crate::service::{Media, content::Content};

/// So many parts are known at a time.
const PIECE: usize = 100;

/// The bytes of an upload's parts, in order.
struct Parts {
    media: Media,
    id: String,
    /// How many have been read, of how many.
    at: u64,
    until: u64,
    waiting: VecDeque<(u64, Blob)>,
    reading: Option<BoxStream<'static, Result<Bytes, MediaError>>>,
}

impl Parts {
    fn of(media: &Media, row: &UploadRow) -> Self {
        Self {
            media: media.clone(),
            id: row.id.clone(),
            at: 0,
            until: row.received,
            waiting: VecDeque::new(),
            reading: None,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, MediaError> {
        loop {
            if let Some(reading) = &mut self.reading {
                if let Some(piece) = reading.try_next().await? {
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                self.reading = None;
            }
            if self.at >= self.until {
                return Ok(None);
            }
            if self.waiting.is_empty() {
                let store = &self.media.0.store;
                let some = store.upload_parts(&self.id, self.at, PIECE).await?;
                self.waiting = some.into();
            }
            match self.waiting.pop_front() {
                Some((start, blob)) if start == self.at => {
                    let all = 0..blob.size;
                    self.reading = Some(self.media.read_blob(&blob, all).await?);
                }
                _ => return Err(gone()),
            }
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, MediaError>> + Send {
        stream::try_unfold(self, async |mut parts| {
            let piece = parts.next().await?;
            Ok(piece.map(|piece| (piece, parts)))
        })
    }
}

impl Media {
    /// Makes a file of an upload of which all has come.
    pub(super) async fn finish<E>(&self, row: UploadRow) -> Result<Progress, ResumeError<E>> {
        let joined = self.join(&row).await;
        let now = self.upload_row(row.owner, &row.id).await?;
        match joined {
            _ if now.done => Ok(self.progress_of(now)),
            _ if now.received != row.received => Err(wrong_offset(&now)),
            Ok(()) => Err(MediaError::Busy.into()),
            Err(error) if is_final(&error) => {
                self.drop_upload(row.owner, &row.id).await?;
                Err(ResumeError::Refused(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn join(&self, row: &UploadRow) -> Result<(), MediaError> {
        let owner = Some(row.owner);
        let file = NewFile {
            content_type: row.content_type.as_deref(),
            name: row.name.as_deref(),
            announced: Some(row.received),
        };
        let parts = Parts::of(self, row).stream();
        let received = self.receive(owner, (file.announced, row.received), parts);
        let (bytes, coming) = received.await.map_err(|error| match error {
            // It may be there another time; that the upload isn't is said otherwise.
            UploadError::Body(MediaError::NotFound) => gone(),
            UploadError::Body(error) | UploadError::Media(error) => error,
        })?;
        let new = self.said(owner, &row.media_id, file, bytes.size);
        self.0.store.hurry_parts(&row.id, self.briefly()).await?;
        let blob = self.keep(bytes, Refers::Finished(new.clone(), row)).await?;
        drop(coming);
        self.free();
        if row.fills {
            self.0.waiting.wake(&row.media_id);
        }
        self.make_soon(Content::new(self, &new, blob));
        Ok(())
    }
}

fn gone() -> MediaError {
    MediaError::bytes("a part of an upload is gone")
}

/// Whether it won't be otherwise another time.
fn is_final(error: &MediaError) -> bool {
    matches!(
        error,
        MediaError::NotFound
            | MediaError::AlreadyUploaded
            | MediaError::NotTheirs
            | MediaError::TooLarge { .. }
            | MediaError::Forbidden
            | MediaError::BrokenPicture
    )
}
