//! Requests to other servers: finding them, connecting, asking, and taking the answer.

pub(crate) mod answer;
mod client;
mod connect;
pub(crate) mod date;
mod dialer;
mod discovery;
mod dns;
mod encode;
mod error;
mod places;
pub(crate) mod probe;
mod race;
pub(crate) mod refusal;
pub(crate) mod web;
mod wellknown;

pub use client::{Limits, Outbound};
pub use dialer::Reach;
pub(crate) use discovery::{Route, Srv, Target, WellKnown};
pub(crate) use encode::{canonical_body, encode_canonical};
pub use error::OutboundError;
pub(crate) use error::cause;
pub use web::{Answer, Messenger, Schemes, WebError};
pub(crate) use web::{Found, Visit, WebBody};
