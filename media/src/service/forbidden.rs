//! Files that aren't taken: by a list of hashes, and by a scanner.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::Media;
use crate::blobs::Spooled;
use crate::error::MediaError;
use crate::scanner::Verdict;

/// Hashes of files that nobody may upload or get.
#[derive(Debug, Default)]
pub(super) struct Forbidden {
    path: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    hashes: Arc<HashSet<[u8; 32]>>,
    /// When the file was last changed.
    as_of: Option<SystemTime>,
}

impl Forbidden {
    /// Reads the list.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, MediaError> {
        let list = Self {
            path: path.map(ToOwned::to_owned),
            known: Mutex::default(),
        };
        list.read_again()?;
        Ok(list)
    }

    /// Reads the list again if it has changed. One that can't be read leaves the old one in place.
    pub(super) fn read_again(&self) -> Result<(), MediaError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let failed = |error| MediaError::bytes(format_args!("{}: {error}", path.display()));
        let as_of = std::fs::metadata(path).and_then(|file| file.modified());
        let as_of = Some(as_of.map_err(failed)?);
        if self.lock().as_of == as_of {
            return Ok(());
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let mut hashes = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            match line.split_whitespace().next() {
                None => {}
                Some(word) if word.starts_with('#') => {}
                Some(word) => {
                    let hash = hash(word).ok_or_else(|| {
                        let line = number + 1;
                        MediaError::bytes(format_args!("{}:{line} has no SHA-256", path.display()))
                    });
                    hashes.insert(hash?);
                }
            }
        }
        let hashes = Arc::new(hashes);
        *self.lock() = Known { hashes, as_of };
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().hashes.is_empty()
    }

    pub(super) fn holds(&self, sha256: &str) -> bool {
        let known = self.lock().hashes.clone();
        !known.is_empty() && hash(sha256).is_some_and(|hash| known.contains(&hash))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of hexadecimal digits.
fn hash(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

impl Media {
    /// Whether a file may be kept: it isn't on the list, and the scanner has nothing against it.
    pub(super) async fn check(&self, file: &Spooled) -> Result<(), MediaError> {
        if self.0.forbidden.holds(&file.sha256) {
            return Err(MediaError::Forbidden);
        }
        let Some(scanner) = &self.0.scanner else {
            return Ok(());
        };
        match scanner.scan(file.pieces(), file.size).await {
            Ok(Verdict::Clean) => Ok(()),
            Ok(Verdict::Refused) => Err(MediaError::Forbidden),
            Err(error) => {
                tracing::error!(%error, "the scanner of files can't be asked, so none are taken");
                Err(MediaError::Busy)
            }
        }
    }

    /// Reads the list of what isn't taken again, if it has changed.
    pub(super) fn read_forbidden_again(&self) {
        if let Err(error) = self.0.forbidden.read_again() {
            tracing::error!(%error, "the list of forbidden files stays as it was");
        }
    }
}
