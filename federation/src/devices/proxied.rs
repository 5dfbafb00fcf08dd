//! Keys of users who are an application service's alone: the service is asked for them (MSC3984), and for one-time keys
//! where none is left here (MSC3983). What it says is checked as what is uploaded here.
//!
//! Most services keep their users' keys here and know neither. Which do is remembered for a while, as is that one doesn't
//! answer: somebody waits for what is asked here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use rhizome_appservice::Registration;
use rhizome_protocol::device_keys::{DeviceKeys, read_one_time_key};
use rhizome_storage::{Cache, Error, KeyWanted, UserNo};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ask::{OneTimeKeys, Queried, Wanted};
use super::keys::{Passed, passed};
use super::list::{List, OneDevice};
use crate::Federation;

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const MOST_BYTES: usize = 4 << 20;
/// So many services are asked at a time.
const AT_ONCE: usize = 8;
/// For how long one isn't asked that doesn't know the question, …
const UNKNOWN: Duration = Duration::from_mins(10);
/// … or has failed to answer.
const FAILED: Duration = Duration::from_secs(30);
/// Of so many services that is remembered.
const REMEMBERED: usize = 2_000;

const QUERY: &str = "org.matrix.msc3984";
const CLAIM: &str = "org.matrix.msc3983";

/// Until when, by the monotonic clock, services aren't asked something: by their id and its name.
pub(crate) struct Unasked(Cache<(String, &'static str), Duration>);

impl Default for Unasked {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// Questions by the service that has to answer them.
type ByService<T> = BTreeMap<String, (Arc<Registration>, BTreeMap<OwnedUserId, T>)>;

/// What services say of the devices and keys of users of theirs. Whom nothing is said of isn't named.
pub async fn query(fed: &Federation, wanted: &Wanted) -> BTreeMap<OwnedUserId, Passed> {
    let mut found = BTreeMap::new();
    let asked = by_service(fed, wanted, QUERY).into_values();
    let asked = asked.map(|(service, asked)| async move {
        let said: Option<Queried> = ask(fed, &service, (QUERY, "query"), &asked).await;
        (service, asked, said)
    });
    let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some((service, asked, said)) = answers.next().await {
        let Some(mut said) = said else { continue };
        for (user, named) in asked {
            let id = user.as_str();
            let mut devices = said.devices.remove(id).unwrap_or_default();
            if !named.is_empty() {
                devices.retain(|device, _| named.contains(device));
            }
            let devices = devices.into_iter().map(OneDevice::queried).collect();
            let (master, signing) = (said.masters.remove(id), said.self_signing.remove(id));
            match List::of(&user, devices, master, signing) {
                Ok(list) => drop(found.insert(user, passed(&list, &[]))),
                Err(error) => {
                    tracing::info!(service = service.id, %user, %error, "a list of devices can't be used");
                }
            }
        }
    }
    found
}

/// One-time keys that services give out for users of theirs who have none left here: of each device one, if any.
///
/// # Errors
/// The database's.
pub(super) async fn claim(
    fed: &Federation,
    claims: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
    known: &BTreeMap<OwnedUserId, UserNo>,
) -> Result<OneTimeKeys, Error> {
    let mut given = OneTimeKeys::new();
    let lacking = lacking(fed, claims, known).await?;
    let signers = signers(fed, &lacking, known).await?;
    let asked = by_service(fed, &lacking, CLAIM).into_values();
    let asked = asked.map(|(service, asked)| async move {
        let body: BTreeMap<_, BTreeMap<_, _>> = (asked.iter())
            .map(|(user, devices)| {
                let devices = devices.iter();
                (user, devices.map(|(device, of)| (device, [of])).collect())
            })
            .collect();
        let said: Option<OneTimeKeys> = ask(fed, &service, (CLAIM, "claim"), &body).await;
        (service, asked, said)
    });
    let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some((service, asked, said)) = answers.next().await {
        let Some(mut said) = said else { continue };
        for (user, devices) in asked {
            let mut said = said.remove(&user).unwrap_or_default();
            for (device, algorithm) in devices {
                let keys = said.remove(&device).unwrap_or_default();
                let signer = signers.get(&(user.clone(), device.clone()));
                let key = keys.into_iter().find_map(|(name, key)| {
                    let is_wanted = name.split_once(':').is_some_and(|(of, _)| of == algorithm);
                    let signer = signer.map(|key| (&*user, &*device, key));
                    match read_one_time_key(&algorithm, key.get(), signer) {
                        Ok(key) if is_wanted => Some((name, RawValue::from_string(key).ok()?)),
                        Ok(_) => None,
                        Err(error) => {
                            tracing::info!(service = service.id, %user, %device, %error, "a one-time key is not taken");
                            None
                        }
                    }
                });
                if let Some((name, key)) = key {
                    let of_user = given.entry(user.clone()).or_default();
                    of_user.insert(device, BTreeMap::from([(name, key)]));
                }
            }
        }
    }
    Ok(given)
}

/// Of which devices of services' users there is no one-time key.
async fn lacking(
    fed: &Federation,
    claims: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
    known: &BTreeMap<OwnedUserId, UserNo>,
) -> Result<BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>, Error> {
    let services = fed.services().current();
    let (mut whose, mut wanted) = (Vec::new(), Vec::new());
    if !services.is_empty() {
        for (user, devices) in claims {
            let Some(no) = known.get(user) else { continue };
            if services.exclusive_owner_of_user(user).is_none() {
                continue;
            }
            for (device, algorithm) in devices {
                whose.push(user);
                wanted.push(KeyWanted {
                    user: *no,
                    device: device.clone(),
                    algorithm: algorithm.clone(),
                });
            }
        }
    }
    let mut lacking: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>> = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(lacking);
    }
    for place in fed.store().without_one_time_keys(&wanted).await? {
        if let (Some(user), Some(wanted)) = (whose.get(place), wanted.get(place)) {
            let devices = lacking.entry((*user).clone()).or_default();
            devices.insert(wanted.device.clone(), wanted.algorithm.clone());
        }
    }
    Ok(lacking)
}

/// The keys with which those devices sign that have keys here.
async fn signers(
    fed: &Federation,
    lacking: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
    known: &BTreeMap<OwnedUserId, UserNo>,
) -> Result<BTreeMap<(OwnedUserId, OwnedDeviceId), [u8; 32]>, Error> {
    let mut names = BTreeMap::new();
    let mut wanted = Vec::new();
    for (user, devices) in lacking {
        if let Some(no) = known.get(user) {
            names.insert(*no, user);
            wanted.extend(devices.keys().map(|device| (*no, device.clone())));
        }
    }
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys = fed.store().device_keys_of(&wanted).await?;
    let keys = keys.into_iter().filter_map(|one| {
        let user = (*names.get(&one.user)?).clone();
        let key = DeviceKeys::signing_key(&one.keys, &one.device)?;
        Some(((user, one.device), key))
    });
    Ok(keys.collect())
}

/// Sorts questions by who has to answer them: services that are asked such things.
fn by_service<T: Clone>(
    fed: &Federation,
    wanted: &BTreeMap<OwnedUserId, T>,
    what: &'static str,
) -> ByService<T> {
    let services = fed.services().current();
    let mut asked = ByService::new();
    if services.is_empty() {
        return asked;
    }
    let (unasked, now) = (&fed.asking().unasked.0, fed.store().clock().monotonic());
    for (user, question) in wanted {
        let Some(service) = services.exclusive_owner_of_user(user) else {
            continue;
        };
        let until = unasked.get(&(service.id.clone(), what));
        if service.url.is_none() || until.is_some_and(|until| now < until) {
            continue;
        }
        let of_service = asked.entry(service.id.clone());
        let (_, users) = of_service.or_insert_with(|| (service.clone(), BTreeMap::new()));
        users.insert(user.clone(), question.clone());
    }
    asked
}

async fn ask<T: DeserializeOwned>(
    fed: &Federation,
    service: &Registration,
    (what, last): (&'static str, &str),
    body: &impl Serialize,
) -> Option<T> {
    let body = Bytes::from(serde_json::to_vec(body).ok()?);
    let path = ["_matrix", "app", "unstable", what, "keys", last];
    let answer = fed
        .service_client()
        .post(service, &path, body, (PATIENCE, MOST_BYTES));
    let (why, rests) = match answer.await {
        Ok(answer) if answer.status == StatusCode::OK && !answer.is_cut => {
            match serde_json::from_slice(&answer.body) {
                Ok(said) => return Some(said),
                Err(error) => (error.to_string(), FAILED),
            }
        }
        // (application service API, "Unknown routes".)
        Ok(answer)
            if matches!(
                answer.status,
                StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_IMPLEMENTED
            ) =>
        {
            ("it doesn't know such questions".to_owned(), UNKNOWN)
        }
        Ok(answer) => (format!("it answers {}", answer.status), FAILED),
        Err(error) => (error.to_string(), FAILED),
    };
    tracing::debug!(
        service = service.id,
        what,
        why,
        "an application service isn't asked for keys for a while"
    );
    let until = fed.store().clock().monotonic() + rests;
    fed.asking()
        .unasked
        .0
        .insert((service.id.clone(), what), until);
    None
}
