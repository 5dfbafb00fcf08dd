//! The keys of an account, and where they are kept.

use anyhow::{Context as _, Result, ensure};
use matrix_sdk::{
    encryption::{VerificationState, recovery::RecoveryState},
    ruma::RoomId,
};

use super::{People, rooms::Said};
use crate::people::Device;

/// All make the keys that sign their devices, the first time without their password; others see them.
pub async fn cross_signing(people: &People) -> Result<()> {
    let People {
        alice, bob, carol, ..
    } = people;
    for device in [alice, bob, carol] {
        let encryption = device.client.encryption();
        encryption
            .bootstrap_cross_signing(None)
            .await
            .with_context(|| format!("the cross-signing keys of {}", device.user()))?;
        until_verified(device).await?;
    }
    for (device, other) in [(alice, bob), (bob, alice), (carol, bob)] {
        let encryption = device.client.encryption();
        let seen = encryption.request_user_identity(other.user()).await?;
        let theirs = other
            .client
            .encryption()
            .get_user_identity(other.user())
            .await?;
        let key = |identity: Option<_>| {
            let identity: matrix_sdk::encryption::identities::UserIdentity = identity?;
            identity.master_key().get_first_key()
        };
        let (seen, theirs) = (key(seen), key(theirs));
        ensure!(
            seen.is_some() && seen == theirs,
            "{} sees the key {seen:?} of {}, who has {theirs:?}",
            device.user(),
            other.user()
        );
    }
    Ok(())
}

/// Alice puts her keys into secret storage and starts a backup; what opens them.
pub async fn secret_storage_and_backup(people: &People) -> Result<String> {
    let recovery = people.alice.client.encryption().recovery();
    let key = recovery.enable().wait_for_backups_to_upload().await?;
    let enabled = async || {
        let state = recovery.state();
        ensure!(state == RecoveryState::Enabled, "it is {state:?}");
        Ok(())
    };
    people
        .alice
        .until("her secrets in the account data", enabled)
        .await?;
    Ok(key)
}

/// Alice logs in with another device and opens her secret storage: it is verified, and reads history.
pub async fn recovery(people: &People, garden: &RoomId, said: &Said, key: &str) -> Result<()> {
    let third = Device::log_in(&people.alices_server, "alice").await?;
    third.client.encryption().recovery().recover(key).await?;
    until_verified(&third).await?;
    for (id, text) in said {
        third.finds(garden, id, text).await?;
    }
    third.client.logout().await?;
    Ok(())
}

/// Waits until a device knows that its owner has signed it.
pub async fn until_verified(device: &Device) -> Result<()> {
    let verified = async || {
        let state = device.client.encryption().verification_state().get();
        ensure!(state == VerificationState::Verified, "it is {state:?}");
        Ok(())
    };
    device.until("its own verification", verified).await
}
