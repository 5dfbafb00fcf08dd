//! The room model as a whole: named stories, and other implementations as oracles.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::cloned_ref_to_slice_refs,
    clippy::needless_pass_by_value,
    clippy::struct_field_names,
    reason = "tests read better so"
)]

mod auth;
mod naive;
mod oracle;
mod random;
mod resolve;
mod room;
mod ruma_event;
mod scenario;
mod signatures;
mod stories;
