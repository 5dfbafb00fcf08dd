//! Addresses and telephone numbers of users (client-server API, "Adding Account Administrative Contact Information").
//!
//! `ask` has a code sent to an address, `submit` takes it, by the client or by the page that the mail's link leads to; what
//! was validated so is good for registering, for a new password (`auth/reset.rs`), or to be added to an account (`list`).
//! `bind` publishes at an identity server what was validated there.

pub(crate) mod ask;
pub(crate) mod bind;
mod code;
pub(crate) mod list;
mod next;
mod send;
pub(crate) mod submit;
