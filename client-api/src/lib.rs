//! What reaches users: client endpoints, `/sync`, the WebSocket stream, admin registration.
//!
//! [`router::router`] is the table of contents. A request passes through [`endpoint`] (body, size
//! limit, authentication, rate limit), is decoded by `ruma` in [`extract::Ruma`], and reaches a
//! handler of about ten lines in the file of its endpoint group.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod app;
pub mod config;
pub mod endpoint;
pub mod error;
pub mod extract;
mod finish;
pub mod limits;
pub mod router;

// Accounts.
pub mod account;
pub mod admin_register;
pub mod auth;
pub mod body;
pub mod content;
pub mod devices;
pub mod discovery;
pub mod login;
pub mod password;
pub mod profile;
pub mod push_rules;
pub mod random;
pub mod register;
mod registering;
pub mod session;
pub mod uia;
pub mod users;

// Rooms: writing.
pub mod aliases;
pub mod create;
pub mod directory;
pub mod membership;
pub mod redact;
pub mod send;
pub mod state;

// Rooms: reading.
pub mod account_data;
mod account_data_delete;
mod asked;
pub mod client_event;
pub mod context;
pub mod event;
pub mod filter;
pub mod filters;
pub mod history_point;
pub mod json;
pub mod members;
pub mod messages;
pub mod pager;
pub mod receipts;
mod redactions;
pub mod seen;
mod sight;
pub mod sync;
pub mod typing;
pub mod ws;

pub use app::App;
pub use config::ClientConfig;
pub use error::MatrixError;
pub use extract::{Caller, Ruma};
pub use router::router;
