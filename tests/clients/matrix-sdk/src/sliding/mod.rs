//! Sliding sync as the apps on phones use it, with matrix-sdk-ui: the list of rooms, timelines, encryption
//! and notifications. Each scenario goes on from where the one before it ended.

mod phone;
mod rooms;

use anyhow::Result;

use crate::people::register;
use phone::Phone;

/// Tells the story.
pub async fn tell(alices_server: &str, bobs_server: &str) -> Result<()> {
    register(alices_server, "alice-slides").await?;
    register(bobs_server, "bob-slides").await?;
    let alice = Phone::log_in(alices_server, "alice-slides").await?;
    let bob = Phone::log_in(bobs_server, "bob-slides").await?;
    let garden = rooms::both_talk(&alice, &bob).await?;
    rooms::is_notified(&alice, &bob, &garden).await?;
    rooms::counts_what_is_unread(&alice, &bob, &garden).await?;
    rooms::comes_back(&alice, &bob, &garden).await?;
    rooms::forgets_its_place(&alice, &bob, &garden).await?;
    rooms::has_many_rooms(&alice, alices_server).await?;
    rooms::leaves(&alice, &bob, &garden).await?;
    for phone in [alice, bob] {
        phone.log_out().await?;
    }
    println!(
        "matrix-sdk-ui: the list of rooms, timelines, notifications and counts over sliding sync"
    );
    Ok(())
}
