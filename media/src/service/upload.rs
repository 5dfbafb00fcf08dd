//! Files that users upload.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rhizome_storage::{Begun, Filled, NewMedia, UserNo, millis, random};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::StreamReader;

use super::kept::{Refers, why};
use super::{Media, content::Content};
use crate::blobs::{Spooled, Writing};
use crate::config::CrashAt;
use crate::error::{MediaError, UploadError};
use crate::pictures::PictureError;

/// Of these are ids made.
pub(super) const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// So many of them.
pub(super) const ID_LENGTH: usize = 24;
/// So many bytes of what a client calls a file are kept.
const NAME: usize = 1_024;
/// So many has a content type at most.
const CONTENT_TYPE: usize = 255;

/// What is said of a file that comes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewFile<'a> {
    /// What it is said to be.
    pub content_type: Option<&'a str>,
    /// What it is called.
    pub name: Option<&'a str>,
    /// How many bytes are said to come.
    pub announced: Option<u64>,
}

/// A file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Its id on this server.
    pub media_id: String,
    /// How many bytes were stored.
    pub size: u64,
}

/// An id that was given before there are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The id on this server.
    pub media_id: String,
    /// Until when bytes may come, milliseconds since 1970.
    pub expires_at: i64,
}

/// By these files of pictures say where and when they were taken, and by what.
const TELLING: [&[u8]; 4] = [b"Exif\0\0", b"eXIf", b"EXIF", b"http://ns.adobe.com/xap"];

/// How many bytes of each user come, or have come and aren't in the database yet.
#[derive(Debug, Default)]
pub(super) struct Uploading(Mutex<HashMap<UserNo, u64>>);

/// What comes of one upload.
pub(super) struct Coming<'a> {
    among: &'a Uploading,
    owner: UserNo,
    bytes: u64,
}

impl Coming<'_> {
    /// What comes of the user altogether.
    pub(super) fn all(&self) -> u64 {
        let all = self.among.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&self.owner).copied().unwrap_or_default()
    }

    /// It has become so many.
    pub(super) fn became(&mut self, bytes: u64) {
        let mut all = self.among.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = all.entry(self.owner).or_default();
        *of_user = of_user.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
    }

    /// More has come; gives what comes of the user altogether.
    pub(super) fn more(&mut self, bytes: u64) -> u64 {
        self.bytes += bytes;
        let mut all = self.among.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = all.entry(self.owner).or_default();
        *of_user += bytes;
        *of_user
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut all = self.among.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = all.get_mut(&self.owner) {
            *of_user = of_user.saturating_sub(self.bytes);
            if *of_user == 0 {
                all.remove(&self.owner);
            }
        }
    }
}

impl Media {
    /// Takes a file and gives it an id; both are durable when this returns. `owner`: whose upload; none of what the server
    /// itself fetches, such as the pictures of previews.
    ///
    /// # Errors
    /// [`UploadError::Body`] with the body's own error; else why it isn't taken.
    pub async fn upload<E>(
        &self,
        owner: Option<UserNo>,
        file: NewFile<'_>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Uploaded, UploadError<E>> {
        self.upload_as(Self::new_id()?, owner, file, body).await
    }

    /// An id that no file has.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new_id() -> Result<String, MediaError> {
        Ok(random::letters(LETTERS, ID_LENGTH)?)
    }

    /// Takes a file under a [new id](Self::new_id), of which something may be known before.
    ///
    /// # Errors
    /// Those of [`Self::upload`].
    pub async fn upload_as<E>(
        &self,
        media_id: String,
        owner: Option<UserNo>,
        file: NewFile<'_>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Uploaded, UploadError<E>> {
        let (bytes, coming) = self.receive(owner, (file.announced, 0), body).await?;
        let (size, new) = (bytes.size, self.said(owner, &media_id, file, bytes.size));
        let blob = self.keep(bytes, Refers::New(new.clone())).await?;
        drop(coming);
        self.make_soon(Content::new(self, &new, blob));
        Ok(Uploaded { media_id, size })
    }

    /// Gives a user an id for a file whose bytes are to come
    /// (<https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create>).
    ///
    /// # Errors
    /// [`MediaError::TooManyPending`].
    pub async fn create(&self, owner: UserNo) -> Result<Created, MediaError> {
        let config = &self.0.config;
        let now = self.0.store.clock().now_ms();
        let media_id = Self::new_id()?;
        let expires_at = now.saturating_add(millis(config.pending_for));
        let begun = self.0.store.begin_media(
            (&config.server, &media_id),
            owner,
            expires_at,
            config.most_pending,
        );
        match begun.await? {
            Begun::Done => Ok(Created {
                media_id,
                expires_at,
            }),
            Begun::TooMany(until) => Err(MediaError::TooManyPending {
                retry_after_ms: u64::try_from(until - now).unwrap_or(0),
            }),
        }
    }

    /// Takes the bytes of an id of [`Media::create`], and wakes who waits for them.
    ///
    /// # Errors
    /// As of [`Media::upload`]; [`MediaError::AlreadyUploaded`], [`MediaError::NotTheirs`], or [`MediaError::NotFound`] if
    /// there is no such id, or it has expired; none of the bytes are read then.
    pub async fn fill<E>(
        &self,
        owner: UserNo,
        media_id: &str,
        file: NewFile<'_>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Uploaded, UploadError<E>> {
        let origin = self.0.config.server.as_str();
        match self.0.store.may_fill(origin, media_id, owner).await? {
            Filled::Done(_) => {}
            refused => return Err(why(&refused).into()),
        }
        let (bytes, coming) = self.receive(Some(owner), (file.announced, 0), body).await?;
        let (size, new) = (
            bytes.size,
            self.said(Some(owner), media_id, file, bytes.size),
        );
        let blob = self.keep(bytes, Refers::Begun(new.clone(), owner)).await?;
        drop(coming);
        self.0.waiting.wake(media_id);
        self.make_soon(Content::new(self, &new, blob));
        let media_id = media_id.to_owned();
        Ok(Uploaded { media_id, size })
    }

    pub(super) fn said<'a>(
        &'a self,
        owner: Option<UserNo>,
        media_id: &'a str,
        file: NewFile<'a>,
        size: u64,
    ) -> NewMedia<'a> {
        NewMedia {
            origin: self.0.config.server.as_str(),
            media_id,
            remote: false,
            owner,
            content_type: kept_type(file.content_type),
            name: kept_name(file.name),
            size,
        }
    }

    /// What comes of a user's upload, nothing yet.
    pub(super) fn coming(&self, owner: UserNo) -> Coming<'_> {
        Coming {
            among: &self.0.uploading,
            owner,
            bytes: 0,
        }
    }

    /// All bytes of an upload, on the disk, without a name that anybody knows; and what counts them until the row does.
    /// `counted`: how many of them are counted already.
    pub(super) async fn receive<E>(
        &self,
        owner: Option<UserNo>,
        (announced, counted): (Option<u64>, u64),
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(Spooled, Option<Coming<'_>>), UploadError<E>> {
        let most = self.0.config.max_upload_size;
        let announced = announced.unwrap_or(0);
        if announced > most {
            return Err(MediaError::TooLarge { most }.into());
        }
        let quota = self.left(owner).await?.saturating_add(counted);
        if announced > quota {
            return Err(self.quota_reached().into());
        }
        // What is counted already isn't counted a second time while it is copied.
        let mut coming = owner
            .filter(|_| counted == 0)
            .map(|owner| self.coming(owner));
        let mut spool = self.spool().await.map_err(MediaError::bytes)?;
        let mut body = std::pin::pin!(body);
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(UploadError::Body)?;
            let length = piece.len() as u64;
            if spool.size() + length > most {
                return Err(MediaError::TooLarge { most }.into());
            }
            if coming
                .as_mut()
                .is_some_and(|coming| coming.more(length) > quota)
            {
                return Err(self.quota_reached().into());
            }
            spool.push(piece).await.map_err(MediaError::bytes)?;
            self.crash(CrashAt::Receiving);
        }
        let spooled = spool.finish().await.map_err(MediaError::bytes)?;
        let moved = &self.0.moved;
        moved.uploaded.fetch_add(spooled.size, Ordering::Relaxed);
        self.check(&spooled).await?;
        // What nobody has uploaded is public as it is.
        let spooled = match owner {
            Some(_) => self.stripped(spooled).await?,
            None => spooled,
        };
        if self.0.forbidden.holds(&spooled.sha256) {
            return Err(MediaError::Forbidden.into());
        }
        // Others of the user may have come to their end meanwhile, or are about to.
        let all = match &mut coming {
            Some(coming) => {
                coming.became(spooled.size);
                coming.all()
            }
            None => spooled.size,
        };
        if self.left(owner).await?.saturating_add(counted) < all {
            return Err(self.quota_reached().into());
        }
        Ok((spooled, coming))
    }

    pub(super) fn quota_reached(&self) -> MediaError {
        let info_uri = self.0.config.quota_info_uri.clone();
        MediaError::QuotaReached { info_uri }
    }

    /// How many bytes a user may upload now. Those of uploads that go on later count as if they were files.
    pub(super) async fn left(&self, owner: Option<UserNo>) -> Result<u64, MediaError> {
        let quota = &self.0.config.quota;
        let (Some(owner), false) = (owner, quota.is_empty()) else {
            return Ok(u64::MAX);
        };
        let now = self.0.store.clock().now_ms();
        let since = quota
            .iter()
            .map(|(_, time)| now.saturating_sub(millis(*time)));
        let since: Vec<i64> = since.collect();
        let used = self.0.store.uploaded_since(owner, &since).await?;
        let under_way = self.bytes_under_way(owner).await?;
        let left = quota.iter().zip(used);
        let left = left.map(|((most, _), used)| most.saturating_sub(used + under_way));
        Ok(left.min().unwrap_or(u64::MAX))
    }

    /// The file without what says where it was taken, if that is wanted and it is a picture.
    pub(super) async fn stripped(&self, file: Spooled) -> Result<Spooled, MediaError> {
        let pictures = &self.0.pictures;
        // Where there are none nothing reads them. Else even the largest are stripped: that is done piece by piece.
        if !self.0.config.strip || pictures.most_bytes() == 0 {
            return Ok(file);
        }
        let beginning = file.beginning(12).await.map_err(MediaError::bytes)?;
        if !can_tell_where(&beginning) {
            return Ok(file);
        }
        let mut into = self.spool().await.map_err(MediaError::bytes)?;
        let reading = Box::pin(StreamReader::new(file.pieces()));
        let stripped = {
            let mut writing = Writing::new(&mut into);
            let stripped = pictures.strip(reading, &mut writing).await;
            writing.flush().await.map_err(MediaError::bytes)?;
            stripped
        };
        match stripped {
            Ok(()) => Ok(into.finish().await.map_err(MediaError::bytes)?),
            Err(PictureError::Busy) => Err(MediaError::Busy),
            Err(error @ PictureError::Failed(_)) => {
                tracing::warn!(%error, "a picture isn't taken: nobody knows what it tells");
                Err(MediaError::Busy)
            }
            Err(error @ (PictureError::NotAPicture | PictureError::TooLarge)) => {
                if tells(&file).await? {
                    tracing::debug!(%error, "a broken picture isn't taken: it may tell where");
                    return Err(MediaError::BrokenPicture);
                }
                tracing::debug!(%error, "a picture is kept as it came");
                Ok(file)
            }
        }
    }
}

/// Whether a file holds anything by which pictures say where they were taken: others read what is broken, too.
async fn tells(file: &Spooled) -> Result<bool, MediaError> {
    let longest = TELLING.iter().map(|mark| mark.len()).max().unwrap_or(0);
    let (mut pieces, mut window) = (file.pieces(), Vec::new());
    while let Some(piece) = pieces.next().await {
        window.extend_from_slice(&piece.map_err(MediaError::bytes)?);
        let mut at = window.iter().enumerate();
        let begins = |byte: u8| TELLING.iter().any(|mark| mark.first() == Some(&byte));
        let found = at.any(|(at, byte)| {
            begins(*byte) && TELLING.iter().any(|mark| window[at..].starts_with(mark))
        });
        if found {
            return Ok(true);
        }
        // It may stand between two pieces.
        window.drain(..window.len().saturating_sub(longest));
    }
    Ok(false)
}

/// Whether a file begins as the kinds of pictures do that say where they were taken: JPEG, PNG, WebP.
fn can_tell_where(beginning: &[u8]) -> bool {
    beginning.starts_with(b"\xff\xd8\xff")
        || beginning.starts_with(b"\x89PNG\r\n\x1a\n")
        || (beginning.starts_with(b"RIFF") && beginning.get(8..12) == Some(b"WEBP"))
}

/// What of a content type is kept.
pub(super) fn kept_type(said: Option<&str>) -> Option<&str> {
    said.filter(|said| !said.is_empty() && said.len() <= CONTENT_TYPE)
}

/// What of a name is kept.
pub(super) fn kept_name(said: Option<&str>) -> Option<&str> {
    let said = said.filter(|said| !said.is_empty())?;
    said.get(..said.floor_char_boundary(NAME))
}
