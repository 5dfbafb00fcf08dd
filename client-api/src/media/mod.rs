//! Files: uploads, downloads, thumbnails
//! (<https://spec.matrix.org/v1.19/client-server-api/#content-repository>).
//!
//! `rhizome_media` keeps them; here is what is on the wire. `upload` takes files, `resumable` those that come little by
//! little; `download` and `thumbnail` give them,
//! each for users and, as it was once, for everybody; `find` says which file it is, `answer` how it is told: headers,
//! parts, what the client has already. What of that is logic alone has a file of its own: `range`, `condition`, `kind`,
//! `disposition`, `names`.

mod answer;
mod condition;
mod disposition;
pub mod download;
mod find;
mod incoming;
mod kind;
pub(crate) mod names;
pub mod preview;
mod range;
mod remote;
pub mod resumable;
pub mod settings;
pub mod thumbnail;
pub mod upload;

pub use preview::LinkPreviews;
pub use remote::{Files, RemoteFiles};
