//! How a transaction is written. It is made once; what it quotes is as it is at that moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_appservice::Registration;
use rhizome_protocol::Membership;
use rhizome_storage::{EventNo, InviteEntry, KeyCounts, Store, StoredEvent, UserNo};
use ruma::{OwnedDeviceId, OwnedUserId};

use super::batch::{Batch, Event};
use crate::{
    MatrixError,
    sync::{of_outside, pieces, stripped, told_with},
    view::{dress, json::Json, presence, seen::Seen},
};

/// What is newer than the specification, or was specified later than services were written, stands there under its older
/// name as well.
const EPHEMERAL: [&str; 2] = ["ephemeral", "de.sorunome.msc2409.ephemeral"];
const TO_DEVICE: [&str; 2] = ["to_device", "de.sorunome.msc2409.to_device"];
const DEVICE_LISTS: [&str; 2] = ["device_lists", "org.matrix.msc3202.device_lists"];
const COUNTS: [&str; 2] = [
    "device_one_time_keys_count",
    "org.matrix.msc3202.device_one_time_keys_count",
];
const FALLBACK: [&str; 2] = [
    "device_unused_fallback_key_types",
    "org.matrix.msc3202.device_unused_fallback_key_types",
];

/// The names of the users that a transaction speaks of.
type Names = HashMap<UserNo, OwnedUserId>;

/// The body of a transaction for a service; `None` if nothing is left of it.
pub async fn body(
    store: &Store,
    service: &Registration,
    batch: Batch,
) -> Result<Option<String>, MatrixError> {
    let names = names(store, &batch).await?;
    let mut json = Json::with_capacity(4_096);
    json.open().key("events").open_list();
    let events = events(store, service, &mut json, &batch.events).await?;
    json.close_list();
    let ephemeral = ephemeral(store, &batch, &names).await?;
    both(&mut json, EPHEMERAL, ephemeral.as_deref());
    let messages = to_device(&batch, &names);
    both(&mut json, TO_DEVICE, messages.as_deref());
    let lists = device_lists(&batch, &names);
    both(&mut json, DEVICE_LISTS, lists.as_deref());
    let counts = counts(store, &batch, &names).await?;
    if !counts.is_empty() {
        let held = by_device(&counts, |json, keys| {
            json.open();
            for (algorithm, count) in &keys.one_time {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                json.key(algorithm).number(count);
            }
            json.close();
        });
        both(&mut json, COUNTS, Some(&held));
        let unused = by_device(&counts, |json, keys| {
            json.open_list();
            for algorithm in &keys.unused_fallback {
                json.string(algorithm);
            }
            json.close_list();
        });
        both(&mut json, FALLBACK, Some(&unused));
    }
    json.close();
    let told = events > 0
        || ephemeral.is_some()
        || messages.is_some()
        || lists.is_some()
        || !counts.is_empty();
    Ok(told.then(|| json.finish()))
}

fn both(json: &mut Json, names: [&str; 2], value: Option<&str>) {
    if let Some(value) = value {
        for name in names {
            json.key(name).raw(value);
        }
    }
}

async fn names(store: &Store, batch: &Batch) -> Result<Names, MatrixError> {
    let mut users: Vec<UserNo> = batch.changed.iter().chain(&batch.left).copied().collect();
    users.extend(batch.ephemeral.presence.iter());
    users.extend(batch.counts.iter().map(|(user, _)| user));
    users.extend(batch.to_device.iter().map(|(to, _)| to.user));
    let receipts = batch.receipts.values().flatten();
    users.extend(receipts.map(|receipt| receipt.user));
    users.sort_unstable();
    users.dedup();
    let names = store.users(&users).await?;
    Ok(users.into_iter().zip(names).collect())
}

/// Writes the events, in their order; gives how many.
async fn events(
    store: &Store,
    service: &Registration,
    json: &mut Json,
    events: &[Event],
) -> Result<usize, MatrixError> {
    let stored = events.iter().filter_map(|event| match event {
        Event::Stored(event) => Some(event.no),
        Event::Outside(_) => None,
    });
    // What has been redacted while they waited is told redacted.
    let stored: Vec<EventNo> = stored.collect();
    let shown = dress::for_service(store, store.events_by_no(&stored).await?).await?;
    let mut shown: HashMap<EventNo, Seen> = shown
        .into_iter()
        .map(|seen| (seen.event.no, seen))
        .collect();
    let (now_ms, mut written) = (store.clock().now_ms(), 0);
    for event in events {
        match event {
            Event::Stored(event) => {
                let Some(seen) = shown.remove(&event.no) else {
                    continue;
                };
                let state = told_of_room(store, service, &seen.event).await?;
                let state = state.as_ref().map(|(name, state)| (*name, state.as_str()));
                seen.write_for_service(json, now_ms, state);
                written += 1;
            }
            Event::Outside(invite) => {
                written += usize::from(outside(store, json, invite, now_ms).await?);
            }
        }
    }
    Ok(written)
}

/// Which member the stripped state goes into, by the membership that it goes with.
fn member_of(membership: Option<Membership>) -> Option<&'static str> {
    match membership? {
        Membership::Invite => Some("invite_room_state"),
        Membership::Knock => Some("knock_room_state"),
        _ => None,
    }
}

/// What a service is told of a room to which its user is invited, or on which they knock.
async fn told_of_room(
    store: &Store,
    service: &Registration,
    event: &StoredEvent,
) -> Result<Option<(&'static str, String)>, MatrixError> {
    let pdu = &event.pdu;
    let is_theirs = |user: &str| service.is_interested_in_user(user);
    let theirs = pdu.kind() == "m.room.member" && pdu.state_key().is_some_and(is_theirs);
    let Some(name) = member_of(pdu.membership()).filter(|_| theirs) else {
        return Ok(None);
    };
    let state = told_with(store, event).await?;
    Ok(Some((name, stripped(&state))))
}

/// Writes an invite to a room that this server isn't in, or what ended it; `false` if it is something else by now, which
/// comes later.
async fn outside(
    store: &Store,
    json: &mut Json,
    entry: &InviteEntry,
    now_ms: i64,
) -> Result<bool, MatrixError> {
    let (invite, memberships) = if entry.gone {
        let ended = store.ended_remote_invite(entry.user, entry.room).await?;
        (ended, [Membership::Leave, Membership::Ban])
    } else {
        let came = store.remote_invite(entry.user, entry.room).await?;
        (came, [Membership::Invite, Membership::Knock])
    };
    let Some(invite) = invite else {
        return Ok(false);
    };
    let Some(event) = of_outside(&invite, &memberships) else {
        return Ok(false);
    };
    let state = member_of(event.pdu.membership()).filter(|_| !entry.gone);
    let state = state.map(|name| (name, &*invite.stripped_state));
    for seen in dress::as_state(store, vec![event]).await? {
        seen.write_for_service(json, now_ms, state);
    }
    Ok(true)
}

/// Typing, receipts and presence, as `/sync` has them, with their rooms.
async fn ephemeral(
    store: &Store,
    batch: &Batch,
    names: &Names,
) -> Result<Option<String>, MatrixError> {
    let mut json = Json::default();
    let mut any = false;
    json.open_list();
    for room in &batch.ephemeral.typing {
        let (_, typing) = store.ephemeral().typing(*room);
        json.open().key("type").string("m.typing");
        json.key("room_id")
            .string(store.room_id(*room).await?.as_str());
        pieces::users(json.key("content").open().key("user_ids"), &typing);
        json.close().close();
        any = true;
    }
    for (room, receipts) in &batch.receipts {
        let receipts: Vec<_> = (receipts.iter())
            .filter_map(|receipt| Some((names.get(&receipt.user)?.clone(), receipt.clone())))
            .collect();
        json.open().key("type").string("m.receipt");
        json.key("room_id")
            .string(store.room_id(*room).await?.as_str());
        pieces::receipts_content(json.key("content"), &receipts);
        json.close();
        any = true;
    }
    for user in &batch.ephemeral.presence {
        let status = store.presence().of(*user);
        if let Some((status, name)) = Option::zip(status, names.get(user)) {
            json.open().key("type").string("m.presence");
            json.key("sender").string(name.as_str());
            presence::content(json.key("content"), &status);
            json.close();
            any = true;
        }
    }
    json.close_list();
    Ok(any.then(|| json.finish()))
}

/// Messages to devices, with whom they are for (MSC4203).
fn to_device(batch: &Batch, names: &Names) -> Option<String> {
    if batch.to_device.is_empty() {
        return None;
    }
    let mut json = Json::default();
    json.open_list();
    for (to, message) in &batch.to_device {
        let Some(user) = names.get(&to.user) else {
            continue;
        };
        json.open().key("content").raw(&message.content);
        json.key("sender").string(message.sender.as_str());
        json.key("to_device_id").string(to.device.as_str());
        json.key("to_user_id").string(user.as_str());
        json.key("type").string(&message.kind).close();
    }
    json.close_list();
    Some(json.finish())
}

fn device_lists(batch: &Batch, names: &Names) -> Option<String> {
    if batch.changed.is_empty() && batch.left.is_empty() {
        return None;
    }
    let mut json = Json::default();
    json.open();
    let changed = batch.changed.iter().filter_map(|user| names.get(user));
    pieces::users(json.key("changed"), changed);
    let left = batch.left.iter().filter_map(|user| names.get(user));
    pieces::users(json.key("left"), left);
    json.close();
    Some(json.finish())
}

/// What devices have to give out, by user and device.
type Counts<'a> = BTreeMap<&'a OwnedUserId, Vec<(&'a OwnedDeviceId, Arc<KeyCounts>)>>;

async fn counts<'a>(
    store: &Store,
    batch: &'a Batch,
    names: &'a Names,
) -> Result<Counts<'a>, MatrixError> {
    let mut counts = Counts::new();
    for (user, device) in &batch.counts {
        if let Some(name) = names.get(user) {
            let held = store.key_counts(*user, device).await?;
            counts.entry(name).or_default().push((device, held));
        }
    }
    Ok(counts)
}

fn by_device(counts: &Counts<'_>, write: impl Fn(&mut Json, &KeyCounts)) -> String {
    let mut json = Json::default();
    json.open();
    for (user, devices) in counts {
        json.key(user.as_str()).open();
        for (device, keys) in devices {
            write(json.key(device.as_str()), keys);
        }
        json.close();
    }
    json.close();
    json.finish()
}
