//! `[media]`: files that users upload, and those of other servers that are kept for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::Problems;
use super::media_store::MediaStore;
use super::units::{Date, Size, Span};

/// Files that users upload, and those of other servers that are kept for them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Where they lie. Default: `media` in `data_dir`.
    pub path: Option<PathBuf>,
    /// Further places by name; the one at `path` is called `local`.
    pub stores: Vec<MediaStore>,
    /// The name of the place where new files go.
    pub store: String,
    /// A file with keys by which files are encrypted where they lie.
    pub key_file: Option<PathBuf>,
    /// The largest upload.
    pub max_upload_size: Size,
    /// How much a user may upload, in how long.
    pub quota: Vec<Quota>,
    /// An address that tells users more of it.
    pub quota_info_uri: Option<String>,
    /// How long an upload that was announced may take to come.
    pub pending_uploads_expire_after: Span,
    /// How many of those a user may have at a time.
    pub max_pending_uploads: usize,
    /// Whether what says where and when a picture was taken is taken off.
    pub strip_metadata: bool,
    /// Whether thumbnails are made in other sizes than the specification's.
    pub any_thumbnail_size: bool,
    /// Whether pictures are decoded in the server's own process.
    pub decode_in_process: bool,
    /// The largest file that is fetched from another server.
    pub max_remote_size: Size,
    /// How much is kept of other servers' files.
    pub remote_cache_size: Size,
    /// How long they are kept when nobody asks for them.
    pub remote_cache_age: Span,
    /// Servers whose files nobody here gets.
    pub blocked_servers: Vec<String>,
    /// A file with the SHA-256 of files that nobody may upload or get.
    pub forbidden_hashes: Option<PathBuf>,
    /// What looks at files before they are kept.
    pub scanner: Option<Scanner>,
    /// How long bytes stay that nothing refers to any more.
    pub delete_after: Span,
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

/// What looks at files before they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scanner {
    /// An address that each file is sent to by POST.
    Http(String),
    /// ClamAV's daemon: its socket, or a host and a port.
    Clamd(String),
}

/// How much a user may upload, in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How much.
    pub size: Size,
    /// In how long.
    pub per: Span,
}

/// Files that have come and aren't known yet must not go.
const SOONEST: Duration = Duration::from_hours(1);

/// The name of the place at [`Media::path`].
pub const LOCAL: &str = "local";

impl Default for Media {
    fn default() -> Self {
        Self {
            path: None,
            stores: Vec::new(),
            store: LOCAL.to_owned(),
            key_file: None,
            max_upload_size: Size::mib(50),
            quota: Vec::new(),
            quota_info_uri: None,
            pending_uploads_expire_after: Span::secs(86_400),
            max_pending_uploads: 20,
            strip_metadata: true,
            any_thumbnail_size: true,
            decode_in_process: false,
            max_remote_size: Size::mib(100),
            remote_cache_size: Size::mib(10 << 10),
            remote_cache_age: Span::secs(90 * 86_400),
            blocked_servers: Vec::new(),
            forbidden_hashes: None,
            scanner: None,
            delete_after: Span::secs(86_400),
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

    /// All places, of which `None` is the one at `path`; the one where new files go comes first.
    pub fn places(&self) -> Vec<Option<&MediaStore>> {
        let mut places = vec![None];
        places.extend(self.stores.iter().map(Some));
        let first = places.iter().position(|place| {
            let name = place.map_or(LOCAL, |store| store.name.as_str());
            name == self.store
        });
        if let Some(first) = first {
            places.swap(0, first);
        }
        places
    }

    pub(super) fn read_secrets(&mut self, problems: &mut Problems) {
        for (number, store) in self.stores.iter_mut().enumerate() {
            store.read_secrets(&format!("media.stores.{number}"), problems);
        }
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
        let path = self.path.as_ref();
        if path.is_some_and(|path| path.exists() && !path.is_dir()) {
            problems.add(
                "media.path",
                "this is a file, not a directory",
                "name a directory; it is made when missing",
            );
        }
        if let Some(Scanner::Http(address)) = &self.scanner
            && !(address.starts_with("http://") || address.starts_with("https://"))
        {
            problems.add(
                "media.scanner",
                format!("`{address}` is no address"),
                "write one that begins with http:// or https://",
            );
        }
        self.check_names(problems);
        if self.delete_after.0 < SOONEST {
            problems.add(
                "media.delete_after",
                "this is too short: what is just being uploaded would go",
                "write \"1h\" or more",
            );
        }
        if self.quota.iter().any(|quota| quota.per.0.is_zero()) {
            problems.add(
                "media.quota",
                "the span of time is empty",
                "write how much in how long, such as { size = \"1 GiB\", per = \"1d\" }",
            );
        }
    }

    fn check_names(&self, problems: &mut Problems) {
        let mut names = vec![LOCAL];
        for (number, store) in self.stores.iter().enumerate() {
            store.check(&format!("media.stores.{number}"), problems);
            if store.name.is_empty() || names.contains(&store.name.as_str()) {
                problems.add(
                    "media.stores",
                    format!("the name `{}` can't be used, or is used twice", store.name),
                    "give each store a name of its own; `local` is the one at media.path",
                );
            }
            names.push(&store.name);
        }
        if !names.contains(&self.store.as_str()) {
            problems.add(
                "media.store",
                format!("there is no store `{}`", self.store),
                "name one of media.stores, or `local`",
            );
        }
    }
}
