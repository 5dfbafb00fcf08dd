//! Keys of users of other servers, for a client here that asks.
//!
//! A list that is remembered and right is answered from here. Other users' servers are asked, side by side, and what
//! they say of those who share a room with somebody here is remembered: of a few users each list by itself, which
//! tells where it stands, so that what changes can be followed; of many all at once. Where a server doesn't answer, what is remembered of a user who still shares a room is told although it is stale.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rhizome_protocol::device_keys::{DeviceKeys, KeyUsage, read_one_time_key};
use rhizome_storage::{
    CommitError, DeviceList, Error, Fact, Pos, RemoteDevices, RemoteList, RemoteUser, UserNo,
    WriteSet, millis,
};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId};
use serde_json::{Value, value::RawValue};

use super::ask::{self, Wanted};
use super::list::List;
use super::resync::{REST, failure, is_in_vain};
use super::waited::{Answer, Sought, ask_in_turn, patience_with};
use crate::{Federation, MatrixError, outbound::OutboundError};

/// How many servers are asked at the same time.
const SERVERS_AT_ONCE: usize = 50;
/// The longest that a client may have others waited for, and what it gets if it doesn't say.
const LONGEST: Duration = Duration::from_mins(1);
const USUAL: Duration = Duration::from_secs(10);

/// How long a server may take, of what a client wishes.
pub fn patience(asked: Option<Duration>) -> Duration {
    asked.unwrap_or(USUAL).min(LONGEST)
}

/// Keys of a user that aren't remembered here, as JSON.
#[derive(Debug, Default)]
pub struct Passed {
    /// By device.
    pub devices: BTreeMap<OwnedDeviceId, Box<RawValue>>,
    /// The master and the self-signing key.
    pub cross_signing: BTreeMap<KeyUsage, Box<RawValue>>,
}

/// What there is of users of other servers.
#[derive(Debug, Default)]
pub struct Found {
    /// Those whose keys are in the store.
    pub stored: Wanted,
    /// Those whose keys are passed on, and not remembered: nobody here shares a room with them.
    pub passed: BTreeMap<OwnedUserId, Passed>,
    /// Servers that couldn't be asked.
    pub failures: BTreeMap<OwnedServerName, Value>,
}

/// Sees to it that the keys of users of other servers are known. `wanted` names the devices that are asked for; none
/// is all of them.
///
/// # Errors
/// The database's.
pub async fn find(
    fed: &Federation,
    wanted: Wanted,
    timeout: Duration,
) -> Result<Found, MatrixError> {
    let store = fed.store();
    let ids: Vec<OwnedUserId> = wanted.keys().cloned().collect();
    let known = store.known_users(&ids).await?;
    let numbers: Vec<UserNo> = known.values().copied().collect();
    let remote = store.remote_users(&numbers, fed.server_name()).await?;
    let remote: HashMap<UserNo, RemoteUser> =
        remote.into_iter().map(|user| (user.user, user)).collect();
    let mut found = Found::default();
    let mut missing: BTreeMap<OwnedServerName, Vec<Sought>> = BTreeMap::new();
    let now = store.clock().now_ms();
    for user in wanted.keys() {
        let of = known.get(user).and_then(|no| remote.get(no)).copied();
        if of.is_some_and(|of| of.is_current()) {
            found.stored.insert(user.clone(), wanted[user].clone());
        } else if of
            .is_some_and(|of| of.held && of.basis.list.is_some_and(|list| is_in_vain(&list, now)))
        {
            found.stored.insert(user.clone(), wanted[user].clone());
            let error = failure(OutboundError::Timeout);
            found.failures.insert(user.server_name().to_owned(), error);
        } else {
            let server = user.server_name().to_owned();
            missing.entry(server).or_default().push((user.clone(), of));
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let learned = store.log().refresh().await?;
    let (wanted, timeout) = (&wanted, timeout);
    let answers = stream::iter(missing).map(|(server, users)| async move {
        let answer = ask_in_turn(fed, &server, users, wanted, timeout).await;
        (server, answer)
    });
    let mut answers = answers.buffer_unordered(SERVERS_AT_ONCE);
    while let Some((server, answer)) = answers.next().await {
        let Answer {
            users,
            known,
            given: (lists, error),
            turns,
        } = answer?;
        let known = known.into_iter();
        (found.stored).extend(known.map(|user| (user.clone(), wanted[&user].clone())));
        if let Some(error) = error {
            tracing::info!(%server, %error, "keys can't be had");
            found.failures.insert(server, failure(error));
        }
        take(fed, users, lists, wanted, learned, &mut found).await?;
        drop(turns);
    }
    Ok(found)
}

/// Remembers the lists that a server gave of users who share a room with somebody here, and passes on the others.
async fn take(
    fed: &Federation,
    users: Vec<Sought>,
    mut lists: BTreeMap<OwnedUserId, List>,
    wanted: &Wanted,
    learned: Pos,
    found: &mut Found,
) -> Result<(), MatrixError> {
    let mut sharing: Vec<(OwnedUserId, RemoteUser, List)> = Vec::new();
    for (user, of) in users {
        let Some(list) = lists.remove(&user) else {
            // Nothing of use was said, or nothing at all: what is remembered is better than that.
            if of.is_some_and(|of| of.held && of.basis.list.is_some()) {
                found.stored.insert(user.clone(), wanted[&user].clone());
            }
            continue;
        };
        match of.filter(|of| of.shares) {
            Some(of) => sharing.push((user, of, list)),
            None => drop(found.passed.insert(user, passed(&list, &[]))),
        }
    }
    // If something has come about one of them in the meantime, its answer is passed on, and asked for again next time.
    while !sharing.is_empty() {
        match remember(fed, &sharing, learned).await? {
            None => {
                let stored = sharing.into_iter();
                let stored = stored.map(|(user, ..)| (user.clone(), wanted[&user].clone()));
                found.stored.extend(stored);
                return Ok(());
            }
            Some(moved) => {
                let Some(at) = sharing.iter().position(|(_, of, _)| of.user == moved) else {
                    return Err(MatrixError::internal());
                };
                let (user, _, list) = sharing.swap_remove(at);
                let devices = wanted.get(&user).map_or(&[][..], Vec::as_slice);
                let passed = passed(&list, devices);
                found.passed.insert(user, passed);
            }
        }
    }
    Ok(())
}

/// Writes lists; gives the user of whom something has come in between, if so, and then has written nothing.
async fn remember(
    fed: &Federation,
    sharing: &[(OwnedUserId, RemoteUser, List)],
    learned: Pos,
) -> Result<Option<UserNo>, Error> {
    let store = fed.store();
    let numbers: Vec<UserNo> = sharing.iter().map(|(_, of, _)| of.user).collect();
    let mut stored = List::stored(store, &numbers).await?;
    let retry_at = store.clock().now_ms() + millis(REST);
    let mut facts: Vec<Fact> = Vec::new();
    for (_, of, list) in sharing {
        let before = stored.remove(&of.user).unwrap_or_default();
        let news = list.replacing(of.user, &before);
        // Of a list that was remembered others have been told: what it is now is news for them.
        if of.held && of.basis.list.is_some() && !news.is_empty() {
            let (user, device) = (of.user, None);
            facts.push(DeviceList { user, device }.into());
        }
        facts.extend(news);
        facts.push(
            RemoteDevices {
                user: of.user,
                basis: of.basis,
                list: Some(RemoteList {
                    stream_id: list.stream_id,
                    learned,
                    stale: false,
                    failures: 0,
                    retry_at,
                }),
            }
            .into(),
        );
    }
    match store.commit(WriteSet::from(facts)).await {
        Ok(_) => Ok(None),
        Err(CommitError::AccountMoved(user)) => Ok(Some(user)),
        Err(CommitError::Store(error)) => Err(error),
        Err(other) => Err(Error::broken(other.to_string())),
    }
}

/// A list as it is passed on; of these devices, if some are named.
pub(super) fn passed(list: &List, devices: &[OwnedDeviceId]) -> Passed {
    let raw = |json: &str| RawValue::from_string(json.to_owned()).ok();
    let wanted = |device: &OwnedDeviceId| devices.is_empty() || devices.contains(device);
    let of_devices = list.devices.iter().filter(|(device, _)| wanted(device));
    Passed {
        devices: of_devices
            .filter_map(|(device, kept)| {
                let name = kept.name.as_deref();
                let none = std::iter::empty::<(&ruma::UserId, &str, &str)>();
                let shown = rhizome_protocol::device_keys::shown(&kept.keys, none, name)?;
                Some((device.clone(), raw(&shown)?))
            })
            .collect(),
        cross_signing: (list.cross_signing.iter())
            .filter_map(|(usage, key)| Some((*usage, raw(key)?)))
            .collect(),
    }
}

/// Users, their devices, and which algorithm's key is wanted of each.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>;

/// One-time keys that other servers gave.
#[derive(Debug, Default)]
pub struct Claimed {
    /// By user, device, and `<algorithm>:<id>`, of which there is one.
    pub one_time_keys:
        BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>,
    /// Servers that couldn't be asked.
    pub failures: BTreeMap<OwnedServerName, Value>,
}

/// Claims one-time keys of devices of users of other servers. Only what was asked for is taken, and, of devices that
/// are remembered, only what they have signed.
///
/// # Errors
/// The database's.
pub async fn claim(
    fed: &Federation,
    claims: Claims,
    timeout: Duration,
) -> Result<Claimed, MatrixError> {
    let mut by_server: BTreeMap<OwnedServerName, Claims> = BTreeMap::new();
    let signers = signers(fed, &claims).await?;
    for (user, devices) in claims {
        let server = user.server_name().to_owned();
        by_server.entry(server).or_default().insert(user, devices);
    }
    let answers = stream::iter(by_server).map(|(server, claims)| async move {
        let patience = patience_with(fed, &server, timeout);
        let answer = ask::claim(fed, &server, &claims, patience).await;
        (server, claims, answer)
    });
    let mut answers = answers.buffer_unordered(SERVERS_AT_ONCE);
    let mut claimed = Claimed::default();
    while let Some((server, claims, answer)) = answers.next().await {
        let mut given = match answer {
            Ok(given) => given,
            Err(error) => {
                tracing::info!(%server, %error, "one-time keys can't be had");
                claimed.failures.insert(server, failure(error));
                continue;
            }
        };
        for (user, devices) in claims {
            let mut given = given.remove(&user).unwrap_or_default();
            for (device, algorithm) in devices {
                let keys = given.remove(&device).unwrap_or_default();
                let signer = signers.get(&(user.clone(), device.clone()));
                let checked = keys.into_iter().find_map(|(name, key)| {
                    let is_wanted = name.split_once(':').is_some_and(|(of, _)| of == algorithm);
                    let signer = signer.map(|key| (&*user, &*device, key));
                    match read_one_time_key(&algorithm, key.get(), signer.filter(|_| is_wanted)) {
                        Ok(key) if is_wanted => Some((name, RawValue::from_string(key).ok()?)),
                        Ok(_) => None,
                        Err(error) => {
                            tracing::info!(%user, %device, %error, "a one-time key is not taken");
                            None
                        }
                    }
                });
                if let Some((name, key)) = checked {
                    let devices = claimed.one_time_keys.entry(user.clone()).or_default();
                    devices.insert(device, BTreeMap::from([(name, key)]));
                }
            }
        }
    }
    Ok(claimed)
}

/// The keys with which those devices sign that are remembered.
async fn signers(
    fed: &Federation,
    claims: &Claims,
) -> Result<HashMap<(OwnedUserId, OwnedDeviceId), [u8; 32]>, Error> {
    let store = fed.store();
    let ids: Vec<OwnedUserId> = claims.keys().cloned().collect();
    let known = store.known_users(&ids).await?;
    let names: HashMap<UserNo, OwnedUserId> =
        known.iter().map(|(user, no)| (*no, user.clone())).collect();
    let mut wanted = Vec::new();
    for (user, devices) in claims {
        if let Some(no) = known.get(user) {
            wanted.extend(devices.keys().map(|device| (*no, device.clone())));
        }
    }
    // What is remembered of those who share no room may be of long ago.
    let numbers: Vec<UserNo> = known.values().copied().collect();
    let current: HashMap<UserNo, bool> = (store.remote_users(&numbers, fed.server_name()).await?)
        .into_iter()
        .map(|user| (user.user, user.is_current()))
        .collect();
    let keys = store.device_keys_of(&wanted).await?;
    let keys = keys.into_iter().filter_map(|one| {
        let user = names.get(&one.user)?.clone();
        let current = current.get(&one.user).copied().unwrap_or_default();
        let key = DeviceKeys::signing_key(&one.keys, &one.device).filter(|_| current)?;
        Some(((user, one.device), key))
    });
    Ok(keys.collect())
}
