//! The endpoints that other servers call about rooms.

use axum::Router;

use crate::Federation;

/// What the inbound endpoints share in memory.
#[derive(Debug, Default)]
pub struct Shared {}

/// The routes of this module.
pub fn routes() -> Router<Federation> {
    Router::new()
}
