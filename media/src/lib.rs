//! Files: their bytes, their names, their pictures in other sizes
//! (<https://spec.matrix.org/v1.19/client-server-api/#content-repository>).
//!
//! [`Media`] is all that others know. It has nothing of HTTP; what is on the wire is for those who serve it.
//!
//! ```text
//! upload(NewFile { owner, content_type, name, announced }, body)      → Uploaded { media_id, size }
//! create(owner)                                                       → Created { media_id, expires_at }
//! fill(owner, media_id, NewFile, body)                                → Uploaded
//! find(origin, media_id, wait)                                        → Content      ours, or kept of others
//! remote(origin, media_id, patience, fetch)                           → Content      fetched if it isn't kept
//! thumbnail(&content, Wanted)                                         → Content
//! content.info                                                        → Info { content_type, name, size, etag, … }
//! content.read(range)                                                 → Pieces, a stream of Bytes
//! content.redirect(valid_for, content_type, disposition)              → an address at its store, where there is one
//! ```
//!
//! * A body is any stream of `Result<Bytes, E>`; its own error comes back as [`UploadError::Body`]. Nobody is told of
//!   an upload before it is durable.
//! * Of a transfer no more is in memory than a few pieces of 64 KiB, however large the file; of what comes from a
//!   bucket up to a megabyte, as connections have it.
//! * [`Media::find`] waits for bytes of an id that was given ([`Media::create`]) as long as it is told to.
//! * [`Media::remote`] first looks whether the file is kept, then calls `fetch`, once for all who ask meanwhile: they
//!   read the bytes while they come. Its size may be unknown then ([`Info::size`]). If the fetch breaks off, so does what
//!   they read, and nothing is kept.
//! * [`Media::begin`], [`Media::append`], [`Media::progress`] and [`Media::cancel`] are of uploads that go on where they
//!   broke off: what has come is kept in parts, which become a file like any other.
//! * [`Pictures`] is what makes pictures: [`Decoders`](rhizome_decoder::Decoders).
//! * [`Media::thumbnail`] makes a picture or finds one that was made; one at a time of each. Films are shown by a program
//!   of the operator's ([`StillConfig`]), if there is one.
//! * [`MediaError`] is a [`Refusal`](rhizome_protocol::Refusal): the edge makes a Matrix error of it.
//!
//! * [`Media::claim`] makes sure that the stores are this database's, before anything is kept there.
//! * [`Media::run`] and [`Media::sweep_now_and_then`] go on beside; [`Media::list`], [`Media::delete`],
//!   [`Media::quarantine`] and their like are for operators.
//!
//! Where the bytes lie is private ([`StoreConfig`] names the places). Why nothing is lost or left behind whenever the
//! process ends is told in `storage/src/media/mod.rs`: bytes first, then the row; blobs are doomed before they go.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod blobs;
mod config;
mod decoders;
mod error;
mod http;
mod pictures;
mod scanner;
mod service;
mod stills;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use blobs::{Lies, STORE_ID, StoredFiles, blob_path};
pub use config::{
    CrashAt, MediaConfig, Place, RemoteConfig, S3Config, ScannerConfig, SealKey, StoreConfig,
};
pub use error::{FetchError, MediaError, UploadError};
pub use pictures::{Format, Made, Method, NoPictures, PictureError, Pictures, Reading, Wanted};
pub use service::Media;
pub use service::care::OfRoom;
pub use service::content::{Content, Info, Pieces, SMALL};
pub use service::figures::MediaFigures;
pub use service::remote::Fetched;
pub use service::resumable::{Append, Limits, Progress, Resumable, ResumeError};
pub use service::sweep::Swept;
pub use service::upload::{Created, NewFile, Uploaded};
pub use stills::StillConfig;
