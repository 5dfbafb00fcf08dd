//! What reaches users: client endpoints, `/sync`, the WebSocket stream, admin registration.
//!
//! [`router()`] is the table of contents. A request passes through `rhizome_edge` (authentication, rate limit, body),
//! is decoded by `ruma` in [`Ruma`], and reaches a handler of about ten lines in the file of its endpoint group.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod account;
mod app;
mod auth;
pub mod config;
mod discovery;
mod edge;
mod history;
mod push;
mod room;
mod router;
mod sync;
mod view;

pub use account::users;
pub use app::App;
pub use config::ClientConfig;
pub use rhizome_edge::{Caller, MatrixError, Ruma};
pub use router::router;
pub use sync::window::Window;
