//! Encryption between people of two servers. Each scenario goes on from where the one before it ended.

mod keys;
mod rooms;
mod verification;

use anyhow::Result;

use crate::people::{Device, register};

/// Alice is on one server, Bob and Carol are on the other.
struct People {
    alices_server: String,
    alice: Device,
    bob: Device,
    carol: Device,
}

/// Tells the story.
pub async fn tell(alices_server: &str, bobs_server: &str) -> Result<()> {
    register(alices_server, "alice").await?;
    register(bobs_server, "bob").await?;
    register(bobs_server, "carol").await?;
    let people = People {
        alices_server: alices_server.to_owned(),
        alice: Device::log_in(alices_server, "alice").await?,
        bob: Device::log_in(bobs_server, "bob").await?,
        carol: Device::log_in(bobs_server, "carol").await?,
    };
    keys::cross_signing(&people).await?;
    let (garden, said) = rooms::both_talk(&people).await?;
    let recovery_key = keys::secret_storage_and_backup(&people).await?;
    let session = rooms::joins_later(&people, &garden, &said).await?;
    verification::users_verify(&people).await?;
    rooms::member_leaves(&people, &garden, &session).await?;
    let shared = rooms::history_sharing(&people).await?;
    let second = verification::new_device(&people, &garden, &said).await?;
    verification::logs_out(&people, second).await?;
    keys::recovery(&people, &garden, &said, &recovery_key).await?;
    let People {
        alice, bob, carol, ..
    } = people;
    for device in [alice, bob, carol] {
        device.client.logout().await?;
    }
    let shared = if shared {
        ""
    } else {
        "; history sharing is left out: it needs servers that keep media"
    };
    println!(
        "matrix-sdk: cross-signing, backup, rooms of both servers, verification, recovery{shared}"
    );
    Ok(())
}
