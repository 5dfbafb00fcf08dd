//! What comes of an upload, and how it is kept.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rhizome_storage::{NewPart, UploadRow, UserNo, millis};

use super::{Append, MOST_PARTS, Progress, ResumeError, turns::Turn};
use crate::blobs::Spool;
use crate::config::CrashAt;
use crate::error::MediaError;
use crate::service::Media;
use crate::service::kept::Refers;
use crate::service::upload::Coming;

/// Why a part ends.
enum End<E> {
    /// It is large enough; more may come.
    Full,
    /// All of it has come.
    Whole,
    /// Somebody else goes on with the upload.
    Stopped,
    /// The body broke off.
    Broken(E),
}

impl Media {
    /// Goes on with an upload; what has come is durable when this returns. With its end it becomes a file.
    ///
    /// One that is complete already stays so, and it is told again how it ended, to who brings nothing more.
    ///
    /// # Errors
    /// [`ResumeError`]; after [`ResumeError::Body`] too, what came before is kept.
    pub async fn append<E>(
        &self,
        owner: UserNo,
        id: &str,
        what: Append,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Progress, ResumeError<E>> {
        let before = self.upload_row(owner, id).await?;
        let length = self.length(&before, what)?;
        let turn = self.0.resuming.take(id).await;
        let turn = turn.ok_or(MediaError::Busy)?;
        let taken = self.0.store.take_upload(owner, id, self.alive(), length);
        let mut row = taken.await?.ok_or(MediaError::NotFound)?;
        let mut body = std::pin::pin!(body);
        if row.received != what.offset {
            return Err(wrong_offset(&row));
        }
        if row.done {
            return match body.next().await {
                None => Ok(self.progress_of(row)),
                Some(Ok(_)) => Err(ResumeError::WrongLength),
                Some(Err(error)) => Err(ResumeError::Body(error)),
            };
        }
        if length.is_some_and(|length| row.announced != Some(length)) {
            return Err(ResumeError::WrongLength);
        }
        self.take(&mut row, &turn, what, body.as_mut()).await?;
        if !what.completes {
            return Ok(self.progress_of(row));
        }
        if row.announced.is_some_and(|length| length != row.received) {
            return Err(ResumeError::WrongLength);
        }
        self.finish(row).await
    }

    /// How long the file is said to be, if that can be.
    fn length<E>(&self, row: &UploadRow, what: Append) -> Result<Option<u64>, ResumeError<E>> {
        let most = self.0.config.max_upload_size;
        let end = what
            .announced
            .map(|announced| what.offset.saturating_add(announced));
        if what.length.or(end).is_some_and(|length| length > most) {
            return Err(MediaError::TooLarge { most }.into());
        }
        if row.done || row.received != what.offset {
            return Ok(None);
        }
        let said = [what.length, end.filter(|_| what.completes)];
        let mut said = said.into_iter().flatten().chain(row.announced);
        let length = said.next();
        let is_beyond = length.is_some_and(|length| end.unwrap_or(what.offset) > length);
        if is_beyond || said.any(|other| Some(other) != length) {
            return Err(ResumeError::WrongLength);
        }
        let least = self.limits().min_append;
        let is_small = |announced| announced > 0 && announced < least && !what.completes;
        if what.announced.is_some_and(is_small) {
            return Err(ResumeError::TooSmall { least });
        }
        Ok(length)
    }

    /// Takes a body, part by part.
    async fn take<E, B>(
        &self,
        row: &mut UploadRow,
        turn: &Turn<'_>,
        what: Append,
        mut body: Pin<&mut B>,
    ) -> Result<(), ResumeError<E>>
    where
        B: Stream<Item = Result<Bytes, E>> + Send,
    {
        let mut coming = self.coming(row.owner);
        loop {
            let mut spool = self.spool().await.map_err(MediaError::bytes)?;
            let end = self
                .take_part(row, &mut spool, &mut coming, (turn, body.as_mut()))
                .await?;
            let least = self.limits().min_append;
            let came = row.received - what.offset + spool.size();
            if matches!(end, End::Whole) && !what.completes && came > 0 && came < least {
                return Err(ResumeError::TooSmall { least });
            }
            if spool.size() > 0 {
                self.keep_part(row, spool, &mut coming).await?;
            }
            match end {
                End::Full => {}
                End::Whole => return Ok(()),
                End::Stopped => return Err(wrong_offset(row)),
                End::Broken(error) => return Err(ResumeError::Body(error)),
            }
        }
    }

    /// Takes as much of a body as becomes one part.
    async fn take_part<E, B>(
        &self,
        row: &UploadRow,
        spool: &mut Spool,
        coming: &mut Coming<'_>,
        (turn, mut body): (&Turn<'_>, Pin<&mut B>),
    ) -> Result<End<E>, ResumeError<E>>
    where
        B: Stream<Item = Result<Bytes, E>> + Send,
    {
        let most = self.0.config.max_upload_size;
        let quota = self.left(Some(row.owner)).await?;
        while spool.size() < self.part() {
            let next = turn.stop.run_until_cancelled(body.next()).await;
            let piece = match next {
                None => return Ok(End::Stopped),
                Some(None) => return Ok(End::Whole),
                Some(Some(Err(error))) => return Ok(End::Broken(error)),
                Some(Some(Ok(piece))) => piece,
            };
            if row.parts >= MOST_PARTS && !piece.is_empty() {
                return Err(ResumeError::TooManyParts);
            }
            let length = piece.len() as u64;
            let end = row.received + spool.size() + length;
            if end > most {
                return Err(MediaError::TooLarge { most }.into());
            }
            if row.announced.is_some_and(|announced| end > announced) {
                // Nobody knows which of it is the file.
                self.drop_upload(row.owner, &row.id).await?;
                return Err(ResumeError::WrongLength);
            }
            if coming.more(length) > quota {
                return Err(self.quota_reached().into());
            }
            spool.push(piece).await.map_err(MediaError::bytes)?;
            self.crash(CrashAt::Receiving);
        }
        Ok(End::Full)
    }

    /// Stores a part, and what refers to it: both are durable when this returns.
    async fn keep_part<E>(
        &self,
        row: &mut UploadRow,
        spool: Spool,
        coming: &mut Coming<'_>,
    ) -> Result<(), ResumeError<E>> {
        let size = spool.size();
        let bytes = spool.finish().await.map_err(MediaError::bytes)?;
        // Others of the user may have come to their end meanwhile, or are about to.
        if self.left(Some(row.owner)).await? < coming.all() {
            return Err(self.quota_reached().into());
        }
        let now = self.0.store.clock().now_ms();
        let part = NewPart {
            upload: row,
            start: row.received,
            size,
            until: now.saturating_add(millis(self.0.config.pending_for)),
        };
        match self.keep(bytes, Refers::Part(part)).await {
            Ok(_) => {}
            Err(MediaError::NotFound) => {
                let now = self.upload_row(row.owner, &row.id).await?;
                return Err(wrong_offset(&now));
            }
            Err(error) => return Err(error.into()),
        }
        coming.became(0);
        row.received += size;
        row.parts += 1;
        row.touched = now;
        Ok(())
    }
}

/// Where an upload is.
pub(super) fn wrong_offset<E>(row: &UploadRow) -> ResumeError<E> {
    ResumeError::WrongOffset {
        expected: row.received,
        complete: row.done,
    }
}
