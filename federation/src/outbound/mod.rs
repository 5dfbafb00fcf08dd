//! Requests to other servers: finding them, connecting, asking, and taking the answer.

pub(crate) mod answer;
pub mod client;
mod connect;
mod discovery;
mod dns;
pub(crate) mod refusal;
mod wellknown;
