//! What other servers tell of their users' devices and keys.
//!
//! It is taken of users of theirs with whom somebody here shares a room; others are nobody's business, and nothing
//! of them is kept. Everybody who shares a room with the user is told that something has changed. What follows upon
//! what is remembered is taken into that; anything else makes it stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::{
    CommitError, DeviceList, Fact, RemoteDevices, RemoteList, RemoteUser, UserNo, WriteSet,
};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::list::{Kept, cross_signing, read_cross_signing, read_device, removed};
use super::{MAX_BYTES, MAX_DEVICES, MAX_NAME};
use crate::{Federation, MatrixError};

/// How often what a transaction tells is decided again when what it was decided on has moved.
const ATTEMPTS: u32 = 5;
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
        if let Some(user) = users.get(&no).filter(|user| user.shares) {
            let stored = stored.remove(&no).unwrap_or_default();
            facts.extend(decide(user, &changes, &stored, now));
        }
    }
    Ok(facts)
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
                let follows = list.stream_id.is_some_and(|at| {
                    at < *stream && !prev.is_empty() && prev.iter().all(|one| *one == at)
                });
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
        facts.push(
            DeviceList {
                user: user.user,
                device: None,
            }
            .into(),
        );
    }
    facts
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
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    use rhizome_protocol::{canonical::to_canonical, sign::KeyPair};
    use rhizome_storage::{Pos, RemoteBasis};
    use ruma::{server_name, user_id};
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn user(stream_id: Option<i64>, devices: usize) -> RemoteUser {
        let list = RemoteList {
            stream_id,
            learned: Pos(1),
            stale: false,
            failures: 0,
            retry_at: 0,
        };
        RemoteUser {
            user: UserNo(1),
            basis: RemoteBasis {
                list: Some(list),
                changed: None,
            },
            devices,
            bytes: 0,
            shares: true,
            held: true,
        }
    }

    fn update(stream: i64, prev: &[i64]) -> Update {
        let keys = json!({
            "user_id": "@u:x", "device_id": "D", "algorithms": [], "keys": {}, "signatures": {},
        });
        let content = json!({
            "user_id": "@u:x", "device_id": "D", "stream_id": stream, "prev_id": prev, "keys": keys,
        });
        let content = to_raw_value(&content).unwrap();
        read(server_name!("x"), "m.device_list_update", &content).unwrap()
    }

    /// What becomes of the list, and how many facts there are.
    fn after(user: &RemoteUser, updates: &[Update]) -> Option<(Option<i64>, bool, usize)> {
        let changes: Vec<&Change> = updates.iter().map(|update| &update.change).collect();
        let facts = decide(user, &changes, &BTreeMap::new(), 7);
        let list = facts.iter().find_map(|fact| match fact {
            Fact::RemoteDevices(RemoteDevices { list, .. }) => *list,
            _ => None,
        });
        list.map(|list| (list.stream_id, list.stale, facts.len()))
    }

    /// Stream ids with what they follow upon.
    type Told<'a> = &'a [(i64, &'a [i64])];

    #[test]
    fn what_follows_is_taken_and_all_else_makes_it_stale() {
        let known = user(Some(5), 1);
        let cases: [(Told<'_>, _); 9] = [
            (&[(6, &[5])], Some((Some(6), false, 3))),
            (&[(6, &[5]), (9, &[6])], Some((Some(9), false, 4))),
            // Known already.
            (&[(5, &[4])], None),
            // A gap, nothing before it, more before it than is known, backwards.
            (&[(8, &[7])], Some((Some(5), true, 2))),
            (&[(8, &[])], Some((Some(5), true, 2))),
            (&[(8, &[5, 7])], Some((Some(5), true, 2))),
            (&[(3, &[5])], Some((Some(5), true, 2))),
            (&[(i64::MIN, &[5])], Some((Some(5), true, 2))),
            (&[(8, &[7]), (9, &[5])], Some((Some(5), true, 2))),
        ];
        for (told, expected) in cases {
            let updates: Vec<_> = told.iter().map(|(at, prev)| update(*at, prev)).collect();
            assert_eq!(after(&known, &updates), expected, "{told:?}");
        }
        let unsure = user(None, 1);
        assert_eq!(after(&unsure, &[update(6, &[5])]), Some((None, true, 2)));
        let full = user(Some(5), MAX_DEVICES);
        assert_eq!(after(&full, &[update(6, &[5])]), Some((Some(5), true, 2)));
        let mut heavy = user(Some(5), 1);
        heavy.bytes = MAX_BYTES - 150;
        assert_eq!(after(&heavy, &[update(6, &[5])]), Some((Some(6), false, 3)));
        let two = [update(6, &[5]), update(7, &[6])];
        assert_eq!(after(&heavy, &two), Some((Some(6), true, 3)));
    }

    #[test]
    fn of_a_stale_list_nobody_is_told_again() {
        let mut stale = user(Some(5), 1);
        let list = stale.basis.list.as_mut().unwrap();
        (list.stale, list.failures, list.retry_at) = (true, 3, 1_000);
        let updates = [update(9, &[8]), update(6, &[5])];
        let changes: Vec<&Change> = updates.iter().map(|update| &update.change).collect();
        let facts = decide(&stale, &changes, &BTreeMap::new(), 7);
        // That something came is to be seen by whoever waits for an answer.
        let [Fact::RemoteDevices(now)] = &facts[..] else {
            panic!("{facts:?}");
        };
        let list = now.list.unwrap();
        assert!(list.stale && list.failures == 3 && list.retry_at < 1_000);
        assert_eq!(list.stream_id, Some(5));
    }

    #[test]
    fn nobody_speaks_for_another_server() {
        let content = json!({
            "user_id": user_id!("@u:y"), "device_id": "D", "stream_id": 1, "deleted": true,
        });
        let content = to_raw_value(&content).unwrap();
        let read = read(server_name!("x"), "m.device_list_update", &content);
        assert!(read.is_none());
    }

    #[test]
    fn keys_that_are_left_out_are_not_gone() {
        let known = user(Some(5), 1);
        let (master, of_devices) = (KeyPair::from_seed("m", &[1; 32]), [2; 32]);
        let (master, of_devices) = (master.unwrap(), KeyPair::from_seed("s", &of_devices));
        let key = |usage: &str, public: &str| {
            json!({
                "user_id": "@u:x", "usage": [usage], "keys": { format!("ed25519:{public}"): public },
            })
        };
        let mut signed = key("self_signing", &of_devices.unwrap().public_base64());
        let text = to_canonical(signed.as_object().unwrap()).unwrap();
        let signature = STANDARD_NO_PAD.encode(master.sign(text.as_bytes()));
        let public = master.public_base64();
        signed["signatures"] = json!({ "@u:x": { format!("ed25519:{public}"): signature } });
        let master = key("master", &public);
        let update = |content: Value| {
            let content = to_raw_value(&content).unwrap();
            read(server_name!("x"), "m.signing_key_update", &content).unwrap()
        };
        let parts = [
            json!({ "user_id": "@u:x" }),
            json!({ "user_id": "@u:x", "master_key": master }),
            json!({ "user_id": "@u:x", "self_signing_key": signed }),
        ];
        for part in parts {
            let told = after(&known, &[update(part.clone())]);
            assert_eq!(told, Some((Some(5), true, 2)), "{part}");
        }
        let whole = json!({
            "user_id": "@u:x", "master_key": master, "self_signing_key": signed,
        });
        let told = after(&known, &[update(whole)]);
        assert_eq!(told, Some((Some(5), false, 3)));
    }

    #[test]
    fn keys_that_are_not_in_order_make_it_stale() {
        let known = user(Some(5), 1);
        let content = json!({ "user_id": "@u:x", "master_key": { "user_id": "@other:x" } });
        let content = to_raw_value(&content).unwrap();
        let update = read(server_name!("x"), "m.signing_key_update", &content).unwrap();
        assert_eq!(after(&known, &[update]), Some((Some(5), true, 2)));
    }
}
