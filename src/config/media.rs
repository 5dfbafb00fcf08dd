//! `[media]`: files that users upload.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Problems;
use super::units::Size;

/// Files that users upload.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Where they lie. Default: `media` in `data_dir`.
    pub path: Option<PathBuf>,
    /// The largest upload.
    pub max_upload_size: Size,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            path: None,
            max_upload_size: Size::mib(50),
        }
    }
}

impl Media {
    /// The directory.
    pub fn path(&self, data_dir: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| data_dir.join("media"))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self
            .path
            .as_ref()
            .is_some_and(|path| path.exists() && !path.is_dir())
        {
            problems.add(
                "media.path",
                "this is a file, not a directory",
                "name a directory; it is made when missing",
            );
        }
    }
}
