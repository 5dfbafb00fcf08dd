//! How files are kept.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ruma::OwnedServerName;

use crate::pictures::{Format, Method, Wanted};

/// How files are kept.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// Who we are: the origin of what is uploaded here.
    pub server: OwnedServerName,
    /// Where bytes lie, by name; the first is where new ones go.
    pub stores: Vec<StoreConfig>,
    /// By what new files are encrypted where they lie, and what others are: the first one is for new ones. None: not at
    /// all.
    pub keys: Vec<SealKey>,
    /// The largest file that users may upload.
    pub max_upload_size: u64,
    /// How long an id waits for its bytes.
    pub pending_for: Duration,
    /// How many ids of a user wait at a time.
    pub most_pending: usize,
    /// How much a user may upload: bytes, in so long.
    pub quota: Vec<(u64, Duration)>,
    /// What tells users more of it whom it stops.
    pub quota_info_uri: Option<Arc<str>>,
    /// Whether what says where a picture was taken is taken off.
    pub strip: bool,
    /// Thumbnails that are made as soon as a picture is there.
    pub thumbnails: Vec<Wanted>,
    /// Whether others are made when they are asked for; if not, the next of those is given.
    pub any_thumbnail: bool,
    /// Other servers' files.
    pub remote: RemoteConfig,
    /// A file with hashes (SHA-256, hexadecimal, one a line) of files that nobody may upload or get.
    pub forbidden_hashes: Option<PathBuf>,
    /// What looks at files before they are kept.
    pub scanner: Option<ScannerConfig>,
    /// How long bytes stay that nothing refers to.
    pub grace: Duration,
    /// For tests: where to end the process.
    pub crash_at: Option<CrashAt>,
}

/// How other servers' files are kept.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The largest that is fetched.
    pub max_size: u64,
    /// How many bytes of them are kept.
    pub cache_size: u64,
    /// How long one is kept that nobody asks for; `None`: for as long as there is room.
    pub cache_age: Option<Duration>,
    /// How long a failure is remembered.
    pub retry_after: Duration,
    /// Of these servers, and those below them, none are fetched or given.
    pub blocked_servers: Vec<String>,
}

/// One of the operator's keys.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    /// What rows call it. It must not change while files are sealed by it.
    pub id: String,
    /// The key.
    pub key: [u8; 32],
}

impl SealKey {
    /// A key from 64 hexadecimal digits.
    pub fn of_hex(id: &str, digits: &str) -> Option<Self> {
        let mut key = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        let id = id.to_owned();
        Some(Self { id, key })
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A place for bytes.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// What rows call it. It must not change.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// Where bytes lie.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a folder of this machine.
    Disk(PathBuf),
    /// In a bucket of a store that speaks S3.
    S3(S3Config),
}

/// A bucket of a store that speaks S3.
#[derive(Clone)]
pub struct S3Config {
    /// Where it is: `https://host` or `http://host:port`.
    pub endpoint: String,
    /// Where those reach it to whom files are given, if they may get them there ([`Content::redirect`]).
    ///
    /// [`Content::redirect`]: crate::Content::redirect
    pub public_endpoint: Option<String>,
    /// Its region, which requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with, and a slash; may be empty.
    pub prefix: String,
    /// Who we are there.
    pub access_key: String,
    /// What requests are signed with.
    pub secret_key: String,
    /// Whether the bucket's name is the first part of paths rather than of the host's name.
    pub path_style: bool,
    /// A folder of this machine for files on their way.
    pub spool: PathBuf,
    /// How long it may be silent.
    pub patience: Duration,
    /// What is larger is sent in parts of so many bytes: at least 5 MiB, at most 5 GiB.
    pub part_size: u64,
}

impl S3Config {
    /// So long a store may be silent.
    pub const PATIENCE: Duration = Duration::from_secs(30);
    /// So much is sent again if something goes wrong.
    pub const PART_SIZE: u64 = 256 << 20;
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A program that looks at files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScannerConfig {
    /// Each file is sent by POST to this address: 2xx means yes, 403 and 406 no.
    Http(String),
    /// ClamAV's daemon, at a host and port.
    ClamdTcp(String),
    /// The same, at a socket of this machine.
    ClamdUnix(PathBuf),
}

/// A place in an upload at which the process ends at once, as if its machine had lost power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashAt {
    /// Some of the bytes have come.
    Receiving,
    /// All have come and are durable, under a name that nobody knows.
    Received,
    /// They are under their name, which no row has.
    Stored,
    /// The row is there; nobody has been told.
    Noted,
    /// A sweep has doomed a blob.
    Doomed,
    /// A sweep has deleted bytes and not their row.
    Deleted,
}

impl MediaConfig {
    /// The defaults, with files in this folder.
    pub fn new(server: OwnedServerName, folder: impl Into<PathBuf>) -> Self {
        Self {
            server,
            stores: vec![StoreConfig {
                name: "local".to_owned(),
                place: Place::Disk(folder.into()),
            }],
            keys: Vec::new(),
            max_upload_size: 50 << 20,
            pending_for: Duration::from_hours(24),
            most_pending: 20,
            quota: Vec::new(),
            quota_info_uri: None,
            strip: true,
            thumbnails: specified(),
            any_thumbnail: true,
            remote: RemoteConfig::default(),
            forbidden_hashes: None,
            scanner: None,
            grace: Duration::from_hours(24),
            crash_at: None,
        }
    }
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            max_size: 100 << 20,
            cache_size: 10 << 30,
            cache_age: Some(Duration::from_hours(24 * 90)),
            retry_after: Duration::from_mins(1),
            blocked_servers: Vec::new(),
        }
    }
}

/// The sizes that the specification names.
fn specified() -> Vec<Wanted> {
    let crop = [(32, 32), (96, 96)].map(|size| (size, Method::Crop));
    let scale = [(320, 240), (640, 480), (800, 600)].map(|size| (size, Method::Scale));
    let all = crop.into_iter().chain(scale);
    all.map(|((width, height), method)| Wanted {
        width,
        height,
        method,
        animated: false,
        format: Format::Plain,
    })
    .collect()
}
