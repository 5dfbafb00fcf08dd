//! Queries across servers: profile, directory, version; both directions.

use crate::Federation;
use axum::Router;

/// `/_matrix/federation/v1/query/…` and `/version`.
pub fn routes() -> Router<Federation> {
    Router::new()
}
