//! What there is of media (<https://spec.matrix.org/v1.19/client-server-api/#content-repository>): files by their
//! names, and where their bytes lie. Plain rows with transactions of their own: nobody waits for them in the log.
//!
//! # Why nothing is lost and nothing is left behind
//!
//! Bytes are stored before the row that names them, under a key that is never given twice; without a row they go by
//! a sweep once they are old enough. A blob that nothing refers to is *doomed* after a while, by one statement
//! that looks at [`Blob`]'s `touched`; whoever refers to it anew raises that in the transaction that refers to
//! it. So either of the two finds what the other did: a doomed blob is never referred to, one that was just referred to
//! isn't doomed. Only what is doomed is deleted: the bytes, then the row.

mod blob;
mod care;
mod pages;
mod pending;
mod preview;
mod resumable;
mod row;
mod store;
mod sweep;
mod thumbnail;
mod usage;

#[cfg(test)]
mod tests;

pub use blob::{Blob, Keep, Seal};
pub use care::MediaQuery;
pub use pages::{MediaOrder, Uploader, UploaderOrder, UploaderQuery};
pub use pending::{Begun, Filled};
pub use resumable::{AppendedPart, FinishedUpload, NewPart, NewUpload, UploadRow};
pub use row::{MediaRow, NewMedia};
pub use sweep::MediaSize;
pub use thumbnail::{StoredThumbnail, ThumbnailKind};
pub use usage::{StoreUsage, UserUsage};
