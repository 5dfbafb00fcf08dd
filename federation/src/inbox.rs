//! The durable inbox: received events that couldn't be decided yet.

use crate::Federation;

/// Works through the inbox until it is dropped.
pub async fn run(_fed: &Federation) -> Result<(), rhizome_storage::Error> {
    std::future::pending().await
}
