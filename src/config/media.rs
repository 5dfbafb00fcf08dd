//! `[media]`: files that users upload.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Problems;
use super::units::{Date, Size};

/// Files that users upload.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Where they lie. Default: `media` in `data_dir`.
    pub path: Option<PathBuf>,
    /// The largest upload.
    pub max_upload_size: Size,
    /// What the old endpoints give to who doesn't say who they are.
    pub unauthenticated_downloads: UnauthenticatedDownloads,
    /// What came before this day they still give.
    pub frozen_since: Option<Date>,
}

/// What the old endpoints for downloads give, which don't ask for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnauthenticatedDownloads {
    /// What came before `frozen_since`; without that nothing.
    Frozen,
    /// Everything.
    Open,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            path: None,
            max_upload_size: Size::mib(50),
            unauthenticated_downloads: UnauthenticatedDownloads::Frozen,
            frozen_since: None,
        }
    }
}

impl Media {
    /// The directory.
    pub fn path(&self, data_dir: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| data_dir.join("media"))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let open = self.unauthenticated_downloads == UnauthenticatedDownloads::Open;
        if open && self.frozen_since.is_some() {
            problems.add(
                "media.frozen_since",
                "nothing is frozen: `unauthenticated_downloads` is \"open\"",
                "remove this line, or set unauthenticated_downloads = \"frozen\"",
            );
        }
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
