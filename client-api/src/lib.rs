//! What reaches users: client endpoints, `/sync`, the WebSocket stream, admin registration.
//!
//! [`router()`] is the table of contents. A request passes through `edge::endpoint` (body, size
//! limit, authentication, rate limit), is decoded by `ruma` in [`Ruma`], and reaches a
//! handler of about ten lines in the file of its endpoint group.
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
pub use edge::{
    error::MatrixError,
    extract::{Caller, Ruma},
};
pub use router::router;
pub use sync::window::Window;
