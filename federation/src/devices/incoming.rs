//! What other servers tell of their users' devices and keys.
//!
//! It is taken of users of theirs with whom somebody here shares a room, or may do so, as not all members of it are known
//! yet; others are nobody's business, and nothing of them is kept. Everybody who shares a room with the user is told that something has changed. What follows upon
//! what is remembered is taken into that; anything else makes it stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rhizome_protocol::Membership;
use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::{
    CommitError, DeviceList, Fact, RemoteDevices, RemoteList, RemoteUser, UserNo, WriteSet, millis,
};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::list::{Kept, cross_signing, read_cross_signing, read_device, removed};
use super::{MAX_BYTES, MAX_DEVICES, MAX_NAME};
use crate::{Federation, MatrixError};

/// How often what a transaction tells is decided again when what it was decided on has moved.
const ATTEMPTS: u32 = 5;
/// For how long somebody who comes into a room has just come.
const MOMENT: Duration = Duration::from_secs(30);
/// The most predecessors that an update may name.
const MAX_PREV: usize = 100;

#[derive(Deserialize)]
struct DeviceContent {
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    stream_id: i64,
    #[serde(default)]
    prev_id: Option<Vec<i64>>,
    deleted: Option<bool>,
    device_display_name: Option<String>,
    keys: Option<Value>,
}

#[derive(Deserialize)]
struct KeysContent {
    user_id: OwnedUserId,
    master_key: Option<Value>,
    self_signing_key: Option<Value>,
}

/// An update, read.
#[derive(Debug)]
pub(crate) struct Update {
    user: OwnedUserId,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Device {
        device: OwnedDeviceId,
        stream: i64,
        prev: Vec<i64>,
        /// `None`: what it has become can't be taken.
        becomes: Option<Becomes>,
    },
    /// `None`: they can't be taken.
    Keys(Option<BTreeMap<KeyUsage, Arc<str>>>),
}

#[derive(Debug)]
enum Becomes {
    /// It is gone, or has no keys.
    Gone,
    Keys(Kept),
}

/// Reads an EDU of this type; `None` for other types and for what isn't the origin's to say.
pub(crate) fn read(origin: &ServerName, kind: &str, content: &RawValue) -> Option<Update> {
    let update = match kind {
        "m.device_list_update" => serde_json::from_str(content.get()).map(device),
        "m.signing_key_update" => {
            serde_json::from_str(content.get()).map(|content| Some(signing(content)))
        }
        _ => return None,
    };
    match update {
        Ok(update)
            if update
                .as_ref()
                .is_some_and(|one| one.user.server_name() != origin) =>
        {
            tracing::info!(%origin, "an update of devices of another server's user");
            None
        }
        Ok(update) => update,
        Err(error) => {
            tracing::debug!(%origin, kind, %error, "malformed EDU");
            None
        }
    }
}

fn device(content: DeviceContent) -> Option<Update> {
    let prev = content.prev_id.unwrap_or_default();
    if content.device_id.as_str().len() > MAX_NAME || prev.len() > MAX_PREV {
        return None;
    }
    let becomes = match content.keys {
        Some(keys) if content.deleted != Some(true) => {
            let name = content.device_display_name;
            read_device(&content.user_id, &content.device_id, keys, name).map(Becomes::Keys)
        }
        _ => Some(Becomes::Gone),
    };
    let change = Change::Device {
        device: content.device_id,
        stream: content.stream_id,
        prev,
        becomes,
    };
    Some(Update {
        user: content.user_id,
        change,
    })
}

fn signing(content: KeysContent) -> Update {
    let told =
        usize::from(content.master_key.is_some()) + usize::from(content.self_signing_key.is_some());
    let keys = read_cross_signing(
        &content.user_id,
        content.master_key,
        content.self_signing_key,
    );
    // What isn't all there and in order is asked for: a key that is left out isn't said to be gone.
    let keys = (told == 2 && keys.len() == told).then_some(keys);
    Update {
        user: content.user_id,
        change: Change::Keys(keys),
    }
}

/// Writes what a transaction brings, with what it tells of devices decided on what is so.
pub(crate) async fn commit(
    fed: &Federation,
    facts: Vec<Fact>,
    updates: &[Update],
) -> Result<(), MatrixError> {
    if updates.is_empty() {
        if !facts.is_empty() {
            fed.store().commit(WriteSet::from(facts)).await?;
        }
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        let mut set = facts.clone();
        set.extend(decide_all(fed, updates).await?);
        if set.is_empty() {
            return Ok(());
        }
        match fed.store().commit(WriteSet::from(set)).await {
            Ok(_) => {
                fed.stale_lists().notify_one();
                return Ok(());
            }
            // Something else about these users came in between.
            Err(CommitError::AccountMoved(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(MatrixError::limit_exceeded(1_000))
}

async fn decide_all(fed: &Federation, updates: &[Update]) -> Result<Vec<Fact>, MatrixError> {
    let store = fed.store();
    let users: Vec<OwnedUserId> = updates.iter().map(|update| update.user.clone()).collect();
    let known = store.known_users(&users).await?;
    // Of whom it isn't known whether somebody here shares a room with them, it is kept that something has changed. But not of
    // those of whom nothing at all is known: their server could name any number. Where messages are encrypted, all who turn out
    // to be there are looked at.
    let may_share = match users.first() {
        Some(user) => store.is_said_to_be_in(user.server_name(), None).await?,
        None => false,
    };
    let mut by_user: BTreeMap<UserNo, Vec<&Change>> = BTreeMap::new();
    for update in updates {
        if let Some(no) = known.get(&update.user) {
            by_user.entry(*no).or_default().push(&update.change);
        }
    }
    let users: Vec<UserNo> = by_user.keys().copied().collect();
    let users = store.remote_users(&users, fed.server_name()).await?;
    let users: HashMap<UserNo, RemoteUser> =
        users.into_iter().map(|user| (user.user, user)).collect();
    let signing = by_user.iter().filter(|(_, changes)| {
        let keys = |change: &&Change| matches!(change, Change::Keys(_));
        changes.iter().any(keys)
    });
    let signing: Vec<UserNo> = signing.map(|(user, _)| *user).collect();
    let mut stored = store.cross_signing_keys(&signing).await?;
    let now = store.clock().now_ms();
    let mut facts = Vec::new();
    for (no, changes) in by_user {
        if let Some(user) = users.get(&no).filter(|user| user.shares || may_share) {
            if user.basis.list.is_none()
                && changes.iter().all(|change| is_first(change))
                && has_just_come(fed, no, now).await?
            {
                continue;
            }
            let stored = stored.remove(&no).unwrap_or_default();
            facts.extend(decide(user, &changes, &stored, now));
        }
    }
    Ok(facts)
}

/// Whether it is the first that its server tells of the user's devices.
fn is_first(change: &Change) -> bool {
    matches!(change, Change::Device { prev, .. } if prev.is_empty())
}

/// Whether the user came into a room of ours a moment ago. That has told everybody here to look at their devices, and
/// what their server says of them when they come is no other news. Nobody has looked yet, or something were remembered.
async fn has_just_come(fed: &Federation, user: UserNo, now: i64) -> Result<bool, MatrixError> {
    let store = fed.store();
    let rows = store.memberships_of(user).await?;
    let joined = rows.iter().filter(|row| row.membership == Membership::Join);
    let Some(event) = joined.max_by_key(|row| row.since).and_then(|row| row.event) else {
        return Ok(false);
    };
    let came = store.event_by_no(event).await?;
    let came = came.map_or(0, |event| event.pdu.origin_server_ts());
    Ok(now.saturating_sub(came) < millis(MOMENT))
}

/// What the changes of a user's devices, in order, make of what is remembered.
fn decide(
    user: &RemoteUser,
    changes: &[&Change],
    stored: &BTreeMap<KeyUsage, Arc<str>>,
    now: i64,
) -> Vec<Fact> {
    let mut list = user.basis.list;
    let mut facts = Vec::new();
    let mut is_news = false;
    let (mut devices, mut bytes) = (user.devices, user.bytes);
    for change in changes {
        match change {
            Change::Device {
                device,
                stream,
                prev,
                becomes,
            } => {
                if list.is_some_and(|list| list.stream_id == Some(*stream)) {
                    continue;
                }
                let Some(list) = &mut list else {
                    is_news = true;
                    continue;
                };
                if list.stale {
                    overtaken(list);
                    continue;
                }
                is_news = true;
                let follows = follows(list, *stream, prev);
                match becomes {
                    Some(Becomes::Gone) if follows => {
                        facts.push(removed(user.user, device.clone()));
                        list.stream_id = Some(*stream);
                    }
                    Some(Becomes::Keys(kept))
                        if follows
                            && devices < MAX_DEVICES
                            && bytes + kept.keys.len() <= MAX_BYTES =>
                    {
                        facts.push(kept.set(user.user, device.clone()));
                        list.stream_id = Some(*stream);
                        devices += 1;
                        bytes += kept.keys.len();
                    }
                    _ => outdated(list, now),
                }
            }
            Change::Keys(keys) => {
                let Some(list) = &mut list else {
                    is_news = true;
                    continue;
                };
                match keys {
                    _ if list.stale => overtaken(list),
                    Some(keys) => {
                        let news = cross_signing(user.user, keys, stored);
                        is_news |= news.is_some();
                        facts.extend(news);
                    }
                    None => {
                        is_news = true;
                        outdated(list, now);
                    }
                }
            }
        }
    }
    if is_news || list != user.basis.list {
        facts.push(
            RemoteDevices {
                user: user.user,
                basis: user.basis,
                list,
            }
            .into(),
        );
    }
    if is_news {
        let (user, device) = (user.user, None);
        facts.push(DeviceList { user, device }.into());
    }
    facts
}

/// Whether an update is the next after what is remembered.
fn follows(list: &RemoteList, stream: i64, prev: &[i64]) -> bool {
    let is_next = |at| at < stream && !prev.is_empty() && prev.iter().all(|one| *one == at);
    list.stream_id.is_some_and(is_next)
}

/// There is something newer yet than what made the list stale. Everybody has been told that it is, and will be told
/// when it has been asked for; but an answer that is under way may be older than this, which whoever waits for it sees
/// by what has moved.
fn overtaken(list: &mut RemoteList) {
    list.retry_at = list.retry_at.saturating_sub(1);
}

/// There is something newer than what is remembered: to be asked for, though not at once after the last time.
fn outdated(list: &mut RemoteList, now: i64) {
    list.stale = true;
    list.failures = 0;
    list.retry_at = list.retry_at.max(now);
}

#[cfg(test)]
mod tests;
