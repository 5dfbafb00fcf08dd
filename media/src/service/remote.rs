//! Other servers' files.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rhizome_storage::{Blob, NewMedia, millis};
use ruma::ServerName;
use tokio::sync::watch;

use super::content::{Content, Growing, Info, Progress};
use super::flights::{Missed, Tell};
use super::kept::Refers;
use super::upload::{kept_name, kept_type};
use super::{Media, Name};
use crate::blobs::{Spool, Spooled};
use crate::error::{FetchError, MediaError};

/// What won't be otherwise soon is remembered so many times as long as what may be.
const LASTS: i64 = 60;

/// What another server gives of a file.
pub struct Fetched {
    /// What it says that it is.
    pub content_type: Option<String>,
    /// What it calls it.
    pub name: Option<String>,
    /// How many bytes it says that come.
    pub length: Option<u64>,
    /// The bytes.
    pub body: BoxStream<'static, Result<Bytes, FetchError>>,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").finish_non_exhaustive()
    }
}

impl Media {
    /// Another server's file: the one that is kept here, or else what `fetch` brings, which is kept. It is called once for
    /// all who ask meanwhile, and goes on though they leave. The bytes can be read while they come, unless they have to be
    /// looked at first. `patience`: how long it is waited for its beginning.
    ///
    /// # Errors
    /// [`MediaError::Remote`] with what `fetch` says, also for a while after it has; [`MediaError::NotFound`] of a server
    /// that is blocked; [`MediaError::NotYet`] if it hasn't begun to come in time.
    pub async fn remote<F>(
        &self,
        origin: &ServerName,
        media_id: &str,
        patience: Duration,
        fetch: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Content, MediaError>
    where
        F: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        if self.is_blocked(origin.as_str()) {
            return Err(MediaError::NotFound);
        }
        let name = (origin.to_string(), media_id.to_owned());
        if let Some(kept) = self.kept_of(&name).await? {
            return kept;
        }
        if let Some((until, error)) = self.0.failed.get(&name)
            && self.0.store.clock().now_ms() < until
        {
            return Err(error);
        }
        let (media, key) = (self.clone(), name.clone());
        let work = move |tell| async move {
            if let Err(error) = media.fetch(&name, fetch, &tell).await {
                tell.tell(Err(media.remember(&name, error)));
            }
        };
        let fetching = self.0.fetching.join(key, patience, work);
        fetching.await.unwrap_or_else(|missed| {
            Err(match missed {
                Missed::Busy => MediaError::Busy,
                Missed::Late => MediaError::NotYet,
            })
        })
    }

    /// Whether files of this server are neither fetched nor given.
    pub(super) fn is_blocked(&self, origin: &str) -> bool {
        let host = origin.split(':').next().unwrap_or(origin);
        let blocked = &self.0.config.remote.blocked_servers;
        blocked.iter().any(|blocked| {
            let above = host.strip_suffix(blocked.as_str());
            host == blocked || origin == blocked || above.is_some_and(|rest| rest.ends_with('.'))
        })
    }

    /// The file, if it is kept or quarantined.
    async fn kept_of(
        &self,
        (origin, media_id): &Name,
    ) -> Result<Option<Result<Content, MediaError>>, MediaError> {
        let row = self.0.store.media(origin, media_id).await?;
        Ok(row.map(|row| self.given(row)))
    }

    /// Why it wasn't given is known for a while: longer what isn't allowed here, and not what only takes time.
    fn remember(&self, name: &Name, error: MediaError) -> MediaError {
        let times = match &error {
            MediaError::Forbidden | MediaError::Remote(FetchError::TooLarge) => LASTS,
            MediaError::Remote(FetchError::NotFound | FetchError::Failed(_)) => 1,
            _ => 0,
        };
        let error = as_absent(error);
        if times > 0 {
            let now = self.0.store.clock().now_ms();
            let time = millis(self.0.config.remote.retry_after).saturating_mul(times);
            let until = now.saturating_add(time);
            self.0.failed.insert(name.clone(), (until, error.clone()));
        }
        error
    }

    async fn fetch<F>(
        &self,
        name: &Name,
        fetch: impl FnOnce() -> F + Send + 'static,
        tell: &Tell<Result<Content, MediaError>>,
    ) -> Result<(), MediaError>
    where
        F: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        // Somebody else may have come to the end of it since it was looked for.
        if let Some(kept) = self.kept_of(name).await? {
            tell.tell(kept);
            return Ok(());
        }
        let fetched = fetch().await?;
        tell.begins();
        let most = self.0.config.remote.max_size;
        if fetched.length.is_some_and(|length| length > most) {
            return Err(FetchError::TooLarge.into());
        }
        let spool = self.spool().await.map_err(MediaError::bytes)?;
        let (progress, seen) = watch::channel(Progress::To(0));
        let growing = Growing {
            file: spool.so_far().0.clone(),
            cipher: spool.cipher(),
            progress: seen,
        };
        let info = info(name, &fetched, self.0.store.clock().now_ms());
        let content = Content::growing(self, info.clone(), growing);
        // What has to be looked at first isn't given to anybody before: its hash is known at the end.
        let is_held_back = self.0.scanner.is_some() || !self.0.forbidden.is_empty();
        if !is_held_back {
            tell.tell(Ok(content));
        }
        let stored = async {
            let bytes = receive(fetched, spool, most, &progress).await?;
            self.check(&bytes).await?;
            let size = bytes.size;
            self.keep_remote(&info, bytes).await?;
            Ok(size)
        };
        match stored.await {
            Ok(size) => {
                progress.send_replace(Progress::All(size));
                if is_held_back {
                    // Its bytes may be quarantined under another name.
                    tell.tell(self.kept_of(name).await?.ok_or(MediaError::NotFound)?);
                }
                Ok(())
            }
            Err(error) if is_held_back => Err(error),
            Err(error) => {
                progress.send_replace(Progress::Failed(self.remember(name, error)));
                Ok(())
            }
        }
    }

    async fn keep_remote(&self, info: &Info, bytes: Spooled) -> Result<Blob, MediaError> {
        let new = NewMedia {
            origin: &info.origin,
            media_id: &info.media_id,
            remote: true,
            owner: None,
            content_type: info.content_type.as_deref(),
            name: info.name.as_deref(),
            size: bytes.size,
        };
        let moved = &self.0.moved;
        moved.fetched.fetch_add(bytes.size, Ordering::Relaxed);
        self.has_come(bytes.size);
        self.keep(bytes, Refers::New(new)).await
    }
}

/// Another server's file that isn't allowed here is none.
fn as_absent(error: MediaError) -> MediaError {
    match error {
        MediaError::Forbidden => FetchError::NotFound.into(),
        error => error,
    }
}

/// Writes what comes, and says how much of it can be read.
async fn receive(
    mut fetched: Fetched,
    mut spool: Spool,
    most: u64,
    progress: &watch::Sender<Progress>,
) -> Result<Spooled, MediaError> {
    let mut told = 0;
    while let Some(piece) = fetched.body.next().await {
        let piece = piece?;
        if spool.size() + piece.len() as u64 > most {
            return Err(FetchError::TooLarge.into());
        }
        spool.push(piece).await.map_err(MediaError::bytes)?;
        let (_, written) = spool.so_far();
        if written > told {
            told = written;
            progress.send_replace(Progress::To(written));
        }
    }
    if fetched.length.is_some_and(|length| length != spool.size()) {
        let why = "it gave another number of bytes than it had said".to_owned();
        return Err(FetchError::Failed(why).into());
    }
    spool.finish().await.map_err(MediaError::bytes)
}

fn info((origin, media_id): &Name, fetched: &Fetched, now: i64) -> Info {
    Info {
        origin: origin.clone(),
        media_id: media_id.clone(),
        content_type: kept_type(fetched.content_type.as_deref()).map(ToOwned::to_owned),
        name: kept_name(fetched.name.as_deref()).map(ToOwned::to_owned),
        size: fetched.length,
        etag: None,
        created: now,
    }
}
