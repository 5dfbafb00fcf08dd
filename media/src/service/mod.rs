//! What is done with files.

mod blurhash;
pub(crate) mod care;
mod claim;
pub(crate) mod content;
pub(crate) mod figures;
mod film;
mod find;
mod flights;
mod forbidden;
mod kept;
mod moving;
mod places;
pub(crate) mod remote;
pub(crate) mod resumable;
mod room;
mod run;
pub(crate) mod sweep;
mod thumbnail;
pub(crate) mod upload;
mod waiting;

use std::sync::Arc;

use rhizome_storage::{Cache, Store};
use tokio::sync::mpsc;

use crate::blobs::Keys;
use crate::config::{CrashAt, MediaConfig};
use crate::error::MediaError;
use crate::pictures::Pictures;
use crate::scanner::Scanner;
use places::Places;

/// A file's name: the server that gave its id, and the id.
type Name = (String, String);

/// The files of a server. Cheap to clone.
#[derive(Clone)]
pub struct Media(Arc<Inner>);

struct Inner {
    config: MediaConfig,
    store: Store,
    places: Places,
    keys: Keys,
    pictures: Arc<dyn Pictures>,
    waiting: waiting::Waiting,
    fetching: flights::Flights<Name, Result<content::Content, MediaError>>,
    making: flights::Flights<thumbnail::Making, thumbnail::Told>,
    /// What other servers didn't give, and until when they aren't asked again (ms).
    failed: Cache<Name, (i64, MediaError)>,
    /// Blobs of which no pictures can be made.
    no_pictures: Cache<String, MediaError>,
    /// Pictures that couldn't be made just now, and until when that isn't tried again (ms).
    not_now: Cache<thumbnail::Making, (i64, MediaError)>,
    /// Files of which pictures are to be made.
    soon: mpsc::Sender<content::Content>,
    to_make: tokio::sync::Mutex<mpsc::Receiver<content::Content>>,
    forbidden: forbidden::Forbidden,
    scanner: Option<Scanner>,
    films: Option<film::Films>,
    uploading: upload::Uploading,
    accessed: find::Accessed,
    room: room::Room,
    resuming: resumable::Turns,
    moved: figures::Moved,
}

/// How many failures are remembered.
const FAILURES: usize = 10_000;
/// So many files of one server are fetched at a time, those included that wait for their turn.
const OF_ONE_SERVER: usize = 400;
/// Of so many files pictures wait to be made; of more they are made when they are asked for.
const SOON: usize = 256;

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media").finish_non_exhaustive()
    }
}

impl Media {
    /// Opens the stores; folders that aren't there are made.
    ///
    /// # Errors
    /// A store can't be used.
    pub fn open(
        store: Store,
        config: MediaConfig,
        pictures: Arc<dyn Pictures>,
    ) -> Result<Self, MediaError> {
        let (soon, to_make) = mpsc::channel(SOON);
        let scanner = config.scanner.clone().map(Scanner::new).transpose();
        Ok(Self(Arc::new(Inner {
            forbidden: forbidden::Forbidden::open(config.forbidden_hashes.as_deref())?,
            scanner: scanner.map_err(MediaError::bytes)?,
            films: config.still.clone().map(film::Films::new),
            places: Places::open(&config)?,
            keys: Keys::new(config.keys.clone()),
            config,
            store,
            pictures,
            waiting: waiting::Waiting::default(),
            fetching: flights::Flights::new(OF_ONE_SERVER, |(one, _), (other, _)| one == other),
            making: flights::Flights::new(usize::MAX, |(one, _), (other, _)| one == other),
            failed: Cache::new(FAILURES),
            no_pictures: Cache::new(FAILURES),
            not_now: Cache::new(FAILURES),
            soon,
            to_make: tokio::sync::Mutex::new(to_make),
            uploading: upload::Uploading::default(),
            accessed: find::Accessed::default(),
            room: room::Room::default(),
            resuming: resumable::Turns::default(),
            moved: figures::Moved::default(),
        })))
    }

    /// How files are kept.
    pub fn config(&self) -> &MediaConfig {
        &self.0.config
    }

    fn crash(&self, here: CrashAt) {
        if self.0.config.crash_at == Some(here) {
            std::process::abort();
        }
    }
}
