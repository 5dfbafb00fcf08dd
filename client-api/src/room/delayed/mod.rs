//! Events that are sent later
//! ([MSC4140](https://github.com/matrix-org/matrix-spec-proposals/pull/4140)), once they are scheduled
//! (`room/schedule.rs`): told of, managed, sent.
//!
//! What manages one needs no access token: its id is enough, which its user may give to somebody who watches over them, as
//! those who carry calls do.

mod act;
mod deliver;
mod read;
mod run;

pub use act::{act, act_by_body};
pub use read::{get, list};
pub use run::run;
