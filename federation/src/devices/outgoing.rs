//! What another server is told of changes of devices and keys here.
//!
//! Of the changes in a stretch of the log the last of each device is told, and says which was the last that the
//! server was told before it; so whoever misses one knows. Of a user of whom there is too much, only the very last
//! is told, which follows upon one that wasn't: the server asks for the whole list then.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::{Behind, Error, NewSharer, OutboundDevice, Pos, UserNo};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName};
use serde_json::{Value, json};

use crate::Federation;

/// Changes that are looked at for one transaction.
const MAX_CHANGES: usize = 500;
/// The most that one transaction has of it.
const MAX_TOLD: usize = 25;
/// Of how many devices of one user changes are told one by one.
const MAX_OF_ONE: usize = 20;

/// What one transaction tells.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    moved: Vec<OutboundDevice>,
    sharers: Vec<NewSharer>,
    /// Up to here there are no others.
    pub(crate) upto: Pos,
}

/// An update to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Device {
        user: UserNo,
        user_id: OwnedUserId,
        device: OwnedDeviceId,
        stream: Pos,
        prev: Option<Pos>,
    },
    Keys {
        user: UserNo,
        user_id: OwnedUserId,
    },
}

/// What there is for a server with `after < pos ≤ upto`, as much as fits.
pub(crate) async fn gather(
    fed: &Federation,
    to: &ServerName,
    after: Pos,
    upto: Pos,
) -> Result<Changes, Error> {
    let behind = Behind {
        destination: to,
        ours: fed.server_name(),
        after,
        upto,
        limit: MAX_CHANGES,
    };
    let changes = fed.store().device_changes_to(behind).await?;
    let sharers = fed.store().new_sharers(behind).await?;
    let full = |len: usize, last: Option<Pos>| last.filter(|_| len >= MAX_CHANGES);
    let cuts = [
        full(changes.len(), changes.last().map(|change| change.pos)),
        full(sharers.len(), sharers.last().map(|sharer| sharer.pos)),
    ];
    let upto = cuts.into_iter().flatten().min().unwrap_or(upto);
    let mut found = Changes {
        moved: changes,
        sharers,
        upto,
    };
    found.cut(upto);
    if let Some(fits) = found.fits(MAX_TOLD) {
        found.cut(fits);
    }
    Ok(found)
}

impl Changes {
    /// Leaves out what comes after a position.
    pub(crate) fn cut(&mut self, upto: Pos) {
        self.moved.retain(|change| change.pos <= upto);
        self.sharers.retain(|sharer| sharer.pos <= upto);
        self.upto = self.upto.min(upto);
    }

    /// Where the changes stand, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Pos> {
        let moved = self.moved.iter().map(|change| change.pos);
        moved.chain(self.sharers.iter().map(|sharer| sharer.pos))
    }

    /// Up to where no more than `most` updates come of it; `None`: all.
    fn fits(&self, most: usize) -> Option<Pos> {
        let mut per_user: BTreeMap<UserNo, BTreeSet<Option<&OwnedDeviceId>>> = BTreeMap::new();
        let mut places: Vec<(Pos, UserNo, Option<&OwnedDeviceId>)> = (self.moved.iter())
            .map(|change| (change.pos, change.user, change.device.as_ref()))
            .collect();
        let joined = self.sharers.iter();
        places.extend(joined.map(|one| (one.pos, one.user, Some(&one.device))));
        places.sort_unstable();
        let weight = |devices: usize| if devices > MAX_OF_ONE { 1 } else { devices };
        let (mut total, mut last) = (0, None);
        for (pos, user, device) in places {
            let devices = per_user.entry(user).or_default();
            total -= weight(devices.len());
            devices.insert(device);
            total += weight(devices.len());
            if total > most && last.is_some() {
                return last;
            }
            // Those who came at one position are told together.
            last = Some(pos);
        }
        None
    }

    /// The updates that come of it, by user.
    fn told(&self) -> Vec<Told> {
        let mut by_user: BTreeMap<UserNo, Vec<&OutboundDevice>> = BTreeMap::new();
        for change in &self.moved {
            by_user.entry(change.user).or_default().push(change);
        }
        let mut told = Vec::new();
        for changes in by_user.values() {
            told_of(changes, &mut told);
        }
        for sharer in &self.sharers {
            let changes = by_user.get(&sharer.user).into_iter().flatten();
            if changes.into_iter().all(|change| change.device.is_none()) {
                told.push(Told::Device {
                    user: sharer.user,
                    user_id: sharer.user_id.clone(),
                    device: sharer.device.clone(),
                    stream: sharer.stream,
                    prev: None,
                });
            }
        }
        told
    }

    /// The EDUs of it: type and content.
    pub(crate) async fn edus(&self, fed: &Federation) -> Result<Vec<(&'static str, Value)>, Error> {
        let told = self.told();
        if told.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked: BTreeMap<UserNo, Vec<OwnedDeviceId>> = BTreeMap::new();
        let mut whose = Vec::new();
        for one in &told {
            match one {
                Told::Device { user, device, .. } => {
                    asked.entry(*user).or_default().push(device.clone());
                    whose.push((*user, device.clone()));
                }
                // A name that no device has: without one, all would be asked for.
                Told::Keys { user, .. } => asked.entry(*user).or_default().push("".into()),
            }
        }
        let names = fed.config().tell_device_names;
        let keys = fed.store().query_keys(&asked, None, names).await?;
        let devices = fed.store().device_names(&whose).await?;
        let edus = told.iter().map(|one| match one {
            Told::Device {
                user,
                user_id,
                device,
                stream,
                prev,
            } => {
                let mut content = json!({
                    "user_id": user_id,
                    "device_id": device,
                    "stream_id": stream.0,
                    "prev_id": prev.iter().map(|prev| prev.0).collect::<Vec<_>>(),
                });
                match devices.get(&(*user, device.clone())) {
                    None => content["deleted"] = Value::Bool(true),
                    Some(name) => {
                        if let Some(name) = name.as_deref().filter(|_| names) {
                            content["device_display_name"] = Value::from(name);
                        }
                        if let Some(keys) = keys.get(user).and_then(|keys| keys.devices.get(device))
                        {
                            content["keys"] = json!(keys);
                        }
                    }
                }
                ("m.device_list_update", content)
            }
            Told::Keys { user, user_id } => {
                let mut content = json!({ "user_id": user_id });
                for (usage, field) in [
                    (KeyUsage::Master, "master_key"),
                    (KeyUsage::SelfSigning, "self_signing_key"),
                ] {
                    let keys = keys.get(user);
                    if let Some(key) = keys.and_then(|keys| keys.cross_signing.get(&usage)) {
                        content[field] = json!(key);
                    }
                }
                ("m.signing_key_update", content)
            }
        });
        Ok(edus.collect())
    }
}

/// What is told of the changes of one user, in order.
fn told_of(changes: &[&OutboundDevice], told: &mut Vec<Told>) {
    let mut last: BTreeMap<&OwnedDeviceId, Pos> = BTreeMap::new();
    for change in changes {
        if let Some(device) = &change.device {
            last.insert(device, change.pos);
        }
    }
    let many = last.len() > MAX_OF_ONE;
    let very_last = last.values().max().copied();
    // The change before the first is the last that was told before.
    let devices = changes.iter().filter(|change| change.device.is_some());
    let mut prev = devices.clone().next().and_then(|first| first.prev);
    for change in devices {
        let Some(device) = &change.device else {
            continue;
        };
        let is_told = if many {
            very_last == Some(change.pos)
        } else {
            last.get(device) == Some(&change.pos)
        };
        if is_told {
            told.push(Told::Device {
                user: change.user,
                user_id: change.user_id.clone(),
                device: device.clone(),
                stream: change.pos,
                prev: if many { change.prev } else { prev },
            });
            prev = Some(change.pos);
        }
    }
    let keys = changes.iter().rfind(|change| change.device.is_none());
    told.extend(keys.map(|change| Told::Keys {
        user: change.user,
        user_id: change.user_id.clone(),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(pos: i64, user: i64, device: &str, prev: i64) -> OutboundDevice {
        OutboundDevice {
            pos: Pos(pos),
            user: UserNo(user),
            user_id: format!("@u{user}:x").try_into().unwrap(),
            device: (!device.is_empty()).then(|| device.into()),
            prev: (prev > 0).then_some(Pos(prev)),
        }
    }

    fn of(changes: Vec<OutboundDevice>) -> Changes {
        Changes {
            moved: changes,
            sharers: Vec::new(),
            upto: Pos(1_000_000),
        }
    }

    /// Device, stream id and the one before it; cross-signing keys are "keys".
    fn told(changes: &Changes) -> Vec<(String, i64, i64)> {
        let told = changes.told().into_iter().map(|told| match told {
            Told::Device {
                device,
                stream,
                prev,
                ..
            } => (device.to_string(), stream.0, prev.map_or(0, |prev| prev.0)),
            Told::Keys { .. } => ("keys".to_owned(), 0, 0),
        });
        told.collect()
    }

    fn row(device: &str, stream: i64, prev: i64) -> (String, i64, i64) {
        (device.to_owned(), stream, prev)
    }

    #[test]
    fn of_each_device_the_last_is_told_and_follows_upon_what_was_told_before() {
        let changes = of(vec![
            change(5, 1, "A", 3),
            change(6, 1, "", 0),
            change(7, 1, "A", 5),
            change(8, 2, "X", 0),
            change(9, 1, "B", 7),
        ]);
        assert_eq!(
            told(&changes),
            [
                row("A", 7, 3),
                row("B", 9, 7),
                row("keys", 0, 0),
                row("X", 8, 0)
            ]
        );
    }

    #[test]
    fn of_too_many_the_very_last_is_told_upon_one_that_was_not() {
        let many = 1 + i64::try_from(MAX_OF_ONE).unwrap();
        let changes: Vec<_> = (1..=many)
            .map(|n| change(10 + n, 1, &format!("D{n}"), 9 + n))
            .collect();
        let changes = of(changes);
        let last = row(&format!("D{many}"), 10 + many, 9 + many);
        assert_eq!(told(&changes), [last]);
    }

    #[test]
    fn what_does_not_fit_is_left_for_the_next_and_the_chain_holds() {
        let mut changes: Vec<_> = (1..=30)
            .map(|n| change(n, n % 3, &format!("D{}", n / 3), n - 3))
            .collect();
        changes.sort_by_key(|change| change.pos);
        let whole = of(changes);
        let at = whole.fits(7).unwrap();
        let (mut first, mut second) = (of(whole.moved.clone()), of(whole.moved.clone()));
        first.cut(at);
        second.moved.retain(|change| change.pos > at);
        assert!(first.told().len() <= 7, "{:?}", first.told());
        // Whoever follows both knows each one's predecessor.
        let mut at: BTreeMap<UserNo, Option<Pos>> = BTreeMap::new();
        for told in first.told().into_iter().chain(second.told()) {
            let Told::Device {
                user, stream, prev, ..
            } = told
            else {
                continue;
            };
            if let Some(known) = at.insert(user, Some(stream)) {
                assert_eq!(known, prev);
            }
        }
    }
}
