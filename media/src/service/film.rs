//! Pictures of films: of a still, which a program of the operator's takes once, and which is kept beside the pictures that
//! are made of it.

use std::time::Duration;

use rhizome_storage::{Blob, Cache, ThumbnailKind, millis};
use tokio_util::io::StreamReader;

use super::content::Content;
use super::flights::{Flights, Tell};
use super::kept::Refers;
use super::{FAILURES, Media};
use crate::blobs::{Spooled, Writing};
use crate::error::MediaError;
use crate::pictures::{Format, Method, Wanted};
use crate::stills::{Film, StillConfig, Stills};

/// It is waited as long for a still as it is taken: that has its own bounds.
const PATIENCE: Duration = Duration::from_mins(10);

/// So many films wait for their stills at a time, or have theirs taken.
const MOST: usize = 20;
/// How long a film may take to be copied for the program.
const COPYING: Duration = Duration::from_mins(2);

/// As what a still is kept.
const KEPT: ThumbnailKind = ThumbnailKind {
    width: 0,
    height: 0,
    method: "still",
    animated: false,
    format: "plain",
};

/// What is made of a still to see whether it is a picture.
const TRIED: Wanted = Wanted {
    width: 32,
    height: 32,
    method: Method::Crop,
    animated: false,
    format: Format::Plain,
};

/// Where films have stills.
pub(super) struct Films {
    stills: Stills,
    /// By the films' keys.
    taking: Flights<String, Result<Content, MediaError>>,
    /// Films of which none could be taken, and until when that isn't tried again (ms).
    refused: Cache<String, (i64, MediaError)>,
}

impl Films {
    pub(super) fn new(config: StillConfig) -> Self {
        Self {
            stills: Stills::new(config),
            taking: Flights::new(MOST, |_, _| true),
            refused: Cache::new(FAILURES),
        }
    }
}

/// What pictures of a file are made of.
pub(super) struct Seen {
    pub(super) content: Content,
    pub(super) blob: Blob,
}

impl Media {
    /// Whether a file is said to be a film, and films have stills.
    pub(super) fn is_film(&self, of: &Content) -> bool {
        let said = of.info.content_type.as_deref().unwrap_or_default();
        let kind = said.split_once('/').map(|(kind, _)| kind.trim());
        let is_film = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("video"));
        is_film && self.0.films.is_some()
    }

    /// What pictures of a file are made of: the file, or of a film a still.
    pub(super) async fn seen(&self, of: &Content, source: &Blob) -> Result<Seen, MediaError> {
        let (content, blob) = if self.is_film(of) {
            let still = self.still(of, source).await?;
            let blob = still.settled().await?;
            (still, blob)
        } else {
            (of.clone(), source.clone())
        };
        Ok(Seen { content, blob })
    }

    /// A film's still: the one that is kept, or a new one, for all who ask meanwhile in whatever size. If none can be
    /// taken, that is remembered.
    pub(super) async fn still(&self, of: &Content, source: &Blob) -> Result<Content, MediaError> {
        if let Some(still) = self.kept_still(of, source).await? {
            return Ok(still);
        }
        let films = self.0.films.as_ref().ok_or(MediaError::NoThumbnail)?;
        if let Some((until, error)) = films.refused.get(&source.key)
            && self.0.store.clock().now_ms() < until
        {
            return Err(error);
        }
        let key = source.key.clone();
        let (media, of, source) = (self.clone(), of.clone(), source.clone());
        let work = move |tell: Tell<_>| async move {
            let taken = media.take_still(&of, &source).await;
            tell.tell(taken.map_err(|error| media.remember_no_still(&source, error)));
        };
        let taken = films.taking.join(key, PATIENCE, work).await;
        taken.unwrap_or(Err(MediaError::Busy))
    }

    async fn kept_still(&self, of: &Content, source: &Blob) -> Result<Option<Content>, MediaError> {
        let found = self.0.store.thumbnail(&source.key, &KEPT).await?;
        Ok(found.map(|found| of.picture(&source.key, found.content_type, found.blob)))
    }

    /// What the film or the program couldn't do is so for a while.
    fn remember_no_still(&self, source: &Blob, error: MediaError) -> MediaError {
        let lasts = matches!(error, MediaError::NoThumbnail | MediaError::PictureTooLarge);
        if let (Some(films), true) = (&self.0.films, lasts) {
            let again_after = millis(films.stills.config.again_after);
            let until = self.0.store.clock().now_ms().saturating_add(again_after);
            films
                .refused
                .insert(source.key.clone(), (until, error.clone()));
        }
        error
    }

    /// Has a still taken and keeps it, once it is known to be a picture.
    async fn take_still(&self, of: &Content, source: &Blob) -> Result<Content, MediaError> {
        let films = self.0.films.as_ref().ok_or(MediaError::NoThumbnail)?;
        // Another process may have taken it meanwhile, or one that was under way when this was asked for.
        if let Some(still) = self.kept_still(of, source).await? {
            return Ok(still);
        }
        let turn = films.stills.turn().await?;
        let mut spool = self.spool().await.map_err(MediaError::bytes)?;
        let (_, place) = self.0.places.newest();
        let copying = async { Film::copy(of.read(None).await?, place.spool()).await };
        let film = tokio::time::timeout(COPYING, copying).await;
        let film = film.map_err(|_| MediaError::Busy)??;
        let most = self.0.pictures.most_bytes();
        films
            .stills
            .take(&film, &mut Writing::new(&mut spool), most)
            .await?;
        drop((film, turn));
        let still = spool.finish().await.map_err(MediaError::bytes)?;
        let beginning = still.beginning(8).await.map_err(MediaError::bytes)?;
        let Some(content_type) = type_of(&beginning) else {
            tracing::debug!("what was to be a still of a film is neither PNG nor JPEG");
            return Err(MediaError::NoThumbnail);
        };
        self.try_still(&still).await?;
        // Programs write down what they made it of.
        let still = self.stripped(still).await.map_err(|error| match error {
            MediaError::BrokenPicture => MediaError::NoThumbnail,
            error => error,
        })?;
        let what = (content_type, still.size);
        let refers = Refers::Thumbnail(&source.key, &KEPT, what);
        let blob = self.keep(still, refers).await?;
        Ok(of.picture(&source.key, content_type.to_owned(), blob))
    }

    async fn try_still(&self, still: &Spooled) -> Result<(), MediaError> {
        let reading = Box::pin(StreamReader::new(still.pieces()));
        let tried = self.0.pictures.thumbnails(reading, &[TRIED]).await;
        tried.inspect_err(|error| tracing::debug!(%error, "a still of a film is of no use"))?;
        Ok(())
    }
}

fn type_of(beginning: &[u8]) -> Option<&'static str> {
    if beginning.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if beginning.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else {
        None
    }
}
