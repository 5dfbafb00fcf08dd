//! Devices and people that verify each other by emoji.

use anyhow::{Context as _, Result, bail, ensure};
use matrix_sdk::{
    encryption::verification::{
        SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    ruma::{DeviceId, RoomId, UserId},
};

use super::{
    People,
    keys::until_verified,
    rooms::{Said, say_secretly},
};
use crate::people::Device;

/// Bob and Alice compare emoji and sign each other's keys.
pub async fn users_verify(people: &People) -> Result<()> {
    let People { alice, bob, .. } = people;
    let theirs = bob
        .client
        .encryption()
        .get_device(alice.user(), device_id(alice))
        .await?;
    let request = theirs
        .context("Bob doesn't know Alice's device")?
        .request_verification()
        .await?;
    compare_emoji(bob, &request, alice).await?;
    for (device, other) in [(alice, bob), (bob, alice)] {
        let verified = async || {
            let encryption = device.client.encryption();
            let identity = encryption.get_user_identity(other.user()).await?;
            let verified = identity.is_some_and(|identity| identity.is_verified());
            verified.then_some(()).context("not verified")
        };
        let what = format!("{}'s verification", other.user());
        device.until(&what, verified).await?;
    }
    Ok(())
}

fn device_id(device: &Device) -> &DeviceId {
    device.client.device_id().expect("logged in")
}

/// Alice logs in with a second device, which the first verifies. It gets the secrets from there, and reads history
/// from the backup.
pub async fn new_device(people: &People, garden: &RoomId, said: &Said) -> Result<Device> {
    let People { alice, bob, .. } = people;
    let backups = alice.client.encryption().backups();
    backups.wait_for_steady_state().await?;
    let second = Device::log_in(&people.alices_server, "alice").await?;
    until_known(alice, &second).await?;
    let encryption = second.client.encryption();
    let identity = encryption.request_user_identity(alice.user()).await?;
    let request = identity
        .context("Alice's new device finds no cross-signing keys of hers")?
        .request_verification()
        .await?;
    compare_emoji(&second, &request, alice).await?;
    until_verified(&second).await?;
    let enabled = async || {
        let state = encryption.backups().state();
        let enabled = encryption.backups().are_enabled().await;
        ensure!(enabled, "it is {state:?}");
        Ok(())
    };
    second
        .until("the backup's key from the first device", enabled)
        .await?;
    for (id, text) in said {
        second.finds(garden, id, text).await?;
    }
    until_signed(bob, &second).await?;
    say_secretly(bob, garden, "Hello, new device!", &[alice, &second]).await?;
    Ok(second)
}

/// Who logs out is not written to any more: the others learn that the device is gone.
pub async fn logs_out(people: &People, second: Device) -> Result<()> {
    let People { alice, bob, .. } = people;
    let (user, id) = (second.user().to_owned(), device_id(&second).to_owned());
    second.client.logout().await?;
    drop(second);
    for device in [alice, bob] {
        let gone = async || {
            let known = device.client.encryption().get_device(&user, &id).await?;
            ensure!(known.is_none(), "it is still known");
            Ok(())
        };
        let what = format!("the news that {user}'s device {id} is gone");
        device.until(&what, gone).await?;
    }
    Ok(())
}

/// Waits until somebody knows another one's device: what a device asks that isn't known yet, the library drops for
/// ever.
async fn until_known(device: &Device, other: &Device) -> Result<()> {
    let (user, id) = (other.user(), device_id(other));
    let known = async || {
        let known = device.client.encryption().get_device(user, id).await?;
        known.map(drop).context("it isn't known")
    };
    device.until(&format!("{user}'s device {id}"), known).await
}

/// Waits until somebody knows another one's device as signed by its owner.
pub async fn until_signed(device: &Device, other: &Device) -> Result<()> {
    let (user, id) = (other.user(), device_id(other));
    let signed = async || {
        let known = device.client.encryption().get_device(user, id).await?;
        let signed = known.context("it isn't known")?.is_cross_signed_by_owner();
        signed.then_some(()).context("it isn't signed")
    };
    device
        .until(&format!("{user}'s signed device {id}"), signed)
        .await
}

/// One device has asked to be verified, the other accepts; both see the same emoji and say so.
async fn compare_emoji(
    asking: &Device,
    request: &VerificationRequest,
    asked: &Device,
) -> Result<()> {
    let received = async || accepted(asked, asking.user(), request.flow_id()).await;
    let received = asked.until("a request to verify", received).await?;
    let ready = async || ready(request);
    asking.until("an answer to its request", ready).await?;
    let ours = request.start_sas().await?.context("no emoji are offered")?;
    let started = async || started(&received);
    let theirs = asked.until("the emoji to be offered", started).await?;
    theirs.accept().await?;
    for (device, sas) in [(asking, &ours), (asked, &theirs)] {
        let shown = async || shown(sas);
        device.until("the emoji to compare", shown).await?;
    }
    let (one, other) = (emoji(&ours)?, emoji(&theirs)?);
    ensure!(one == other, "one shows {one}, the other {other}");
    ours.confirm().await?;
    theirs.confirm().await?;
    for (device, sas) in [(asking, &ours), (asked, &theirs)] {
        let done = async || done(sas);
        device.until("the end of the verification", done).await?;
    }
    Ok(())
}

/// The request as the asked one has got it, accepted.
async fn accepted(asked: &Device, from: &UserId, flow: &str) -> Result<VerificationRequest> {
    let encryption = asked.client.encryption();
    let request = encryption.get_verification_request(from, flow).await;
    let request = request.context("none is there")?;
    request.accept().await?;
    Ok(request)
}

fn ready(request: &VerificationRequest) -> Result<()> {
    ensure!(request.is_ready(), "it is {:?}", request.state());
    Ok(())
}

fn started(request: &VerificationRequest) -> Result<SasVerification> {
    match request.state() {
        VerificationRequestState::Transitioned {
            verification: Verification::SasV1(sas),
        } => Ok(sas),
        state => bail!("it is {state:?}"),
    }
}

fn shown(sas: &SasVerification) -> Result<()> {
    ensure!(sas.can_be_presented(), "it is {:?}", sas.state());
    Ok(())
}

fn done(sas: &SasVerification) -> Result<()> {
    ensure!(sas.is_done(), "it is {:?}", sas.state());
    Ok(())
}

fn emoji(sas: &SasVerification) -> Result<String> {
    let emoji = sas.emoji().context("no emoji are shown")?;
    Ok(emoji.iter().map(|one| one.symbol).collect())
}
