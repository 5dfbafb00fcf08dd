//! What was noted of servers is written down now and then, what has changed of it: nobody waits for that.

use std::time::Duration;

use crate::Federation;

const EVERY: Duration = Duration::from_mins(1);

/// Writes until it is dropped.
pub(crate) async fn run(fed: &Federation) {
    loop {
        fed.store().clock().sleep(EVERY).await;
        write(fed).await;
    }
}

/// Writes what isn't written down yet. What the database doesn't take is kept for the next time.
pub(crate) async fn write(fed: &Federation) {
    let unwritten = fed.origins().unwritten();
    if unwritten.is_empty() {
        return;
    }
    if let Err(error) = fed.store().add_inbound(&unwritten).await {
        tracing::warn!(%error, "what other servers have sent can't be written down; it is tried again");
        fed.origins().keep_unwritten(unwritten);
    }
}
