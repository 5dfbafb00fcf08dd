//! Uploads that go on where they broke off (docs/uploads.md).
//!
//! What comes is stored in *parts*, each a blob that a row of the upload refers to, by the same way as any other: bytes
//! first, then the row. So a part is known to sweeps, lies in any store, sealed if files are, and moves with them. Of an
//! upload of which all has come the parts are read as if they came in one piece, and end as any file does.
//!
//! In a process one request at a time goes on with an upload ([`turns`]): another one bids it store what it has, and waits
//! for that. Of several processes the last one that was asked goes on: what others bring is refused by the row.

mod append;
mod finish;
mod turns;

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::Stream;
use rhizome_storage::{Begun, Filled, NewUpload, UploadRow, UserNo, millis, random};

pub(super) use self::turns::Turns;
use super::Media;
use super::kept::why;
use super::upload::{ID_LENGTH, LETTERS, NewFile, kept_name, kept_type};
use crate::error::MediaError;

/// An upload's id has so many letters: 32 of 52 can't be guessed.
const LENGTH: usize = 32;
/// Of so many parts is an upload at most.
const MOST_PARTS: u64 = 10_000;
/// A part has at least so many bytes, but for the last one and those that broke off.
const LEAST: u64 = 64 << 10;
/// What comes at once is stored in parts of so many bytes: no more is lost if the process ends.
const PART: u64 = 16 << 20;
/// So many uploads that nobody went on with go at once.
const PIECE: usize = 100;

/// An upload that begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resumable<'a> {
    /// What is said of the file, with the length of all of it if that is known.
    pub file: NewFile<'a>,
    /// The id of [`Media::create`] that it fills, if it does.
    pub fills: Option<&'a str>,
    /// Whether the client wants to be told how it looks from far away.
    pub blurhash: bool,
}

/// What comes now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Append {
    /// At which byte of the file it begins.
    pub offset: u64,
    /// Whether it is the end of the file.
    pub completes: bool,
    /// How many bytes the file has, if it was said.
    pub length: Option<u64>,
    /// How many bytes are said to come now.
    pub announced: Option<u64>,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// By which its user goes on with it.
    pub id: String,
    /// How many bytes have come and are durable.
    pub offset: u64,
    /// How many there are to be, if that is known.
    pub length: Option<u64>,
    /// The file is there.
    pub complete: bool,
    /// Its id.
    pub media_id: String,
    /// That was given before.
    pub fills: bool,
    /// Whether the client wants to be told how it looks from far away.
    pub blurhash: bool,
    /// Until when it waits for more, milliseconds since 1970.
    pub expires_at: i64,
}

/// What an upload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many bytes has it at most.
    pub max_size: u64,
    /// So many bytes come at once at least, but for the end.
    pub min_append: u64,
}

/// Why an upload doesn't go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError<E = Infallible> {
    /// The bytes broke off: the error is the body's own. Those that came are kept.
    #[error("the upload broke off")]
    Body(E),
    /// They weren't taken.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// All has come, and the file isn't taken: the upload is over.
    #[error(transparent)]
    Refused(MediaError),
    /// It isn't where they begin.
    #[error("The upload goes on at byte {expected}")]
    WrongOffset {
        /// Where it is.
        expected: u64,
        /// The file is there.
        complete: bool,
    },
    /// What was said of the file's length doesn't agree, or there are more bytes.
    #[error("The upload hasn't the length that was said")]
    WrongLength,
    /// They are so few that it would have too many parts.
    #[error("What comes at once has at least {least} bytes, but for the end")]
    TooSmall {
        /// How many there must be.
        least: u64,
    },
    /// It has too many parts.
    #[error("The upload has broken off too often")]
    TooManyParts,
}

impl<E> From<rhizome_storage::Error> for ResumeError<E> {
    fn from(error: rhizome_storage::Error) -> Self {
        Self::Media(error.into())
    }
}

impl Media {
    /// What uploads may be that go on later. Their parts are so large that even the largest file has few enough.
    pub fn limits(&self) -> Limits {
        let max_size = self.0.config.max_upload_size;
        Limits {
            max_size,
            min_append: LEAST.max(max_size.div_ceil(MOST_PARTS / 2)),
        }
    }

    /// In parts of how many bytes what comes at once is stored.
    fn part(&self) -> u64 {
        PART.max(self.limits().min_append * 2)
    }

    /// Begins an upload that goes on later. `body`: its first bytes, which may be none; if they break off, so does all.
    ///
    /// # Errors
    /// As of [`Media::create`], [`Media::fill`] and [`Media::append`].
    pub async fn begin<E>(
        &self,
        owner: UserNo,
        new: Resumable<'_>,
        announced: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Progress, ResumeError<E>> {
        let id = self.begin_row(owner, new).await?;
        let first = Append {
            announced,
            ..Append::default()
        };
        let begun = self.append(owner, &id, first, body).await;
        if begun.is_err() {
            // Nobody has been told of it.
            self.drop_upload(owner, &id).await?;
        }
        begun
    }

    async fn begin_row(&self, owner: UserNo, new: Resumable<'_>) -> Result<String, MediaError> {
        let (store, config) = (&self.0.store, &self.0.config);
        let most = config.max_upload_size;
        if new.file.announced.is_some_and(|announced| announced > most) {
            return Err(MediaError::TooLarge { most });
        }
        if new.file.announced.unwrap_or(0) > self.left(Some(owner)).await? {
            return Err(self.quota_reached());
        }
        let origin = config.server.as_str();
        if let Some(media_id) = new.fills {
            match store.may_fill(origin, media_id, owner).await? {
                Filled::Done(_) => {}
                refused => return Err(why(&refused)),
            }
        }
        let (id, given) = (
            random::letters(LETTERS, LENGTH)?,
            random::letters(LETTERS, ID_LENGTH)?,
        );
        let row = NewUpload {
            id: &id,
            owner,
            origin,
            media_id: new.fills.unwrap_or(&given),
            fills: new.fills.is_some(),
            content_type: kept_type(new.file.content_type),
            name: kept_name(new.file.name),
            blurhash: new.blurhash,
            announced: new.file.announced,
        };
        let now = store.clock().now_ms();
        let begun = store.begin_upload(&row, self.alive(), config.most_pending);
        match begun.await? {
            Begun::Done => Ok(id),
            Begun::TooMany(until) => Err(MediaError::TooManyPending {
                retry_after_ms: u64::try_from(until - now).unwrap_or(0),
            }),
        }
    }

    /// How far an upload is. Whoever goes on with it stores what they have, and stops.
    ///
    /// # Errors
    /// [`MediaError::NotFound`]
    pub async fn progress(&self, owner: UserNo, id: &str) -> Result<Progress, MediaError> {
        let now = self.upload_row(owner, id).await?;
        let Some(_turn) = self.0.resuming.take(id).await else {
            // It is being made a file, which takes its time.
            return Ok(self.progress_of(now));
        };
        let taken = self.0.store.take_upload(owner, id, self.alive(), None);
        let row = taken.await?.ok_or(MediaError::NotFound)?;
        Ok(self.progress_of(row))
    }

    /// Ends an upload without a file.
    ///
    /// # Errors
    /// [`MediaError::NotFound`], also of one that is complete.
    pub async fn cancel(&self, owner: UserNo, id: &str) -> Result<(), MediaError> {
        self.upload_row(owner, id).await?;
        let _turn = self.0.resuming.take(id).await;
        let is_gone = self.drop_upload(owner, id).await?;
        is_gone.then_some(()).ok_or(MediaError::NotFound)
    }

    /// Uploads that nobody has gone on with for too long.
    pub(super) async fn expire_uploads(&self) -> Result<u64, MediaError> {
        let (until, mut gone) = (self.alive(), 0);
        loop {
            match self.0.store.expire_uploads(until, PIECE).await? {
                0 => return Ok(gone),
                some => gone += some as u64,
            }
        }
    }

    /// How many bytes a user's uploads have that go on later.
    pub(super) async fn bytes_under_way(&self, owner: UserNo) -> Result<u64, MediaError> {
        Ok(self.0.store.bytes_under_way(owner, self.alive()).await?)
    }

    /// Uploads of which nothing has come since then (ms) are over.
    fn alive(&self) -> i64 {
        let now = self.0.store.clock().now_ms();
        now.saturating_sub(millis(self.0.config.pending_for))
    }

    async fn upload_row(&self, owner: UserNo, id: &str) -> Result<UploadRow, MediaError> {
        let row = self.0.store.media_upload(owner, id, self.alive()).await?;
        row.ok_or(MediaError::NotFound)
    }

    async fn drop_upload(&self, owner: UserNo, id: &str) -> Result<bool, MediaError> {
        let hurried = self.0.store.hurry_parts(id, self.briefly()).await?;
        let is_gone = self.0.store.delete_upload(owner, id).await?;
        if hurried > 0 {
            self.free();
        }
        Ok(is_gone)
    }

    fn progress_of(&self, row: UploadRow) -> Progress {
        Progress {
            expires_at: row
                .touched
                .saturating_add(millis(self.0.config.pending_for)),
            id: row.id,
            offset: row.received,
            length: row.announced,
            complete: row.done,
            media_id: row.media_id,
            fills: row.fills,
            blurhash: row.blurhash,
        }
    }
}
