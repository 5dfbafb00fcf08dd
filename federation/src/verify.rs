//! Checks 1 to 3 on received events: format, signatures, content hash
//! (<https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>).
//!
//! All keys of a batch are fetched first, in parallel; then the core checks each event. Large batches
//! (the state of a room) are checked on the blocking pool, so that they don't stop the executor.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rhizome_protocol::{
    Incoming, Object, Pdu, Rejection, RoomRules,
    receive::{self, Refusal},
};
use rhizome_rooms::packed::{Packed, PackedEvent, Part};
use ruma::{OwnedServerName, RoomId};
use serde_json::{Value, value::RawValue};

use crate::{
    Federation,
    keys::{Gathered, Wanted},
};

/// The most signatures of one server on one event that are looked at.
const MAX_SIGNATURES: usize = 4;
/// Up to this many events are checked right where they are.
const INLINE: usize = 8;
/// How many events one blocking task checks.
const CHUNK: usize = 256;
/// How many such tasks of one answer there are at a time.
const AT_ONCE: usize = 8;

/// What became of one received event.
pub(crate) type Checked = Result<Arc<Pdu>, Rejection>;

/// Parses one received event strictly; nothing of it is believed yet.
pub(crate) fn parse(raw: &RawValue) -> Result<Incoming, Rejection> {
    parse_bytes(raw.get().as_bytes())
}

/// [`parse`], of text that is no value of its own.
pub(crate) fn parse_bytes(text: &[u8]) -> Result<Incoming, Rejection> {
    Incoming::parse(text).map_err(|error| Rejection::new("PDU format", error.to_string()))
}

/// Checks received events of one room, in order. An event whose content hash differs comes back redacted.
pub(crate) async fn objects(
    fed: &Federation,
    rules: &'static RoomRules,
    objects: Vec<Incoming>,
) -> Vec<Checked> {
    let keys = Arc::new(prefetch(fed, &wanted(rules, &objects)).await);
    if objects.len() <= INLINE {
        return objects
            .into_iter()
            .map(|object| check(rules, object, &keys))
            .collect();
    }
    let mut tasks = Vec::with_capacity(objects.len().div_ceil(CHUNK));
    let mut objects = objects.into_iter();
    loop {
        let chunk: Vec<Incoming> = objects.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        let keys = Arc::clone(&keys);
        let size = chunk.len();
        let work = move || {
            chunk
                .into_iter()
                .map(|object| check(rules, object, &keys))
                .collect::<Vec<_>>()
        };
        tasks.push((size, tokio::task::spawn_blocking(work)));
    }
    let mut checked = Vec::new();
    for (size, task) in tasks {
        match task.await {
            Ok(chunk) => checked.extend(chunk),
            // The core doesn't panic; if it did, these events are refused and the others stand.
            Err(error) => {
                tracing::error!(%error, "checking received events failed");
                checked.extend(
                    (0..size).map(|_| Err(Rejection::new("PDU format", "it couldn't be checked"))),
                );
            }
        }
    }
    checked
}

/// [`objects`] for raw events that must all belong to `room`: those that pass, each id once. The others
/// leave a line in the log.
pub(crate) async fn batch(
    fed: &Federation,
    rules: &'static RoomRules,
    room: &RoomId,
    raws: Vec<Box<RawValue>>,
) -> Vec<Arc<Pdu>> {
    let parsed = if raws.len() <= INLINE {
        parse_all(&raws)
    } else {
        match tokio::task::spawn_blocking(move || parse_all(&raws)).await {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::error!(%error, "parsing received events failed");
                Vec::new()
            }
        }
    };
    let mut seen = HashSet::new();
    let mut passed = Vec::with_capacity(parsed.len());
    for checked in objects(fed, rules, parsed).await {
        match checked {
            Ok(pdu) if pdu.room_id() != room => {
                tracing::info!(event = %pdu.event_id(), %room, "dropped an event of another room");
            }
            Ok(pdu) => {
                if seen.insert(pdu.event_id().to_owned()) {
                    passed.push(pdu);
                }
            }
            Err(rejection) => tracing::info!(%room, %rejection, "dropped a received event"),
        }
    }
    passed
}

fn parse_all(raws: &[Box<RawValue>]) -> Vec<Incoming> {
    raws.iter().filter_map(|raw| parse(raw).ok()).collect()
}

/// Boxed: the compiler can't see through the key ring's streams that the whole is `Send`.
fn prefetch<'a>(fed: &'a Federation, wanted: &'a [Wanted]) -> BoxFuture<'a, Gathered> {
    Box::pin(fed.keys().prefetch(wanted))
}

fn check(rules: &'static RoomRules, object: Incoming, keys: &Gathered) -> Checked {
    match receive::verify(rules, object, keys) {
        Ok(pdu) => Ok(Arc::new(pdu)),
        Err(Refusal::Invalid(rejection)) => Err(rejection),
        Err(Refusal::NeedKeys(keys)) => {
            let names: Vec<String> = keys
                .iter()
                .map(|(server, key)| format!("{key} of {server}"))
                .collect();
            Err(Rejection::new(
                "PDU signatures",
                format!("signing keys can't be had: {}", names.join(", ")),
            ))
        }
    }
}

/// The keys that are needed, and at what time at the latest.
type Latest = BTreeMap<(OwnedServerName, String), i64>;

/// The keys that the signatures of these events name, each once.
fn wanted(rules: &RoomRules, objects: &[Incoming]) -> Vec<Wanted> {
    let mut keys = Latest::new();
    for object in objects {
        add_wanted(rules, object, &mut keys);
    }
    listed(keys)
}

fn add_wanted(rules: &RoomRules, object: &Object, keys: &mut Latest) {
    let made_at = object
        .get("origin_server_ts")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let made_at = receive::keys_valid_at(rules, made_at);
    for server in receive::servers_to_sign(rules, object) {
        let signatures = object
            .get("signatures")
            .and_then(|all| all.get(server.as_str()))
            .and_then(Value::as_object);
        for key_id in signatures
            .into_iter()
            .flat_map(|by_key| by_key.keys())
            .take(MAX_SIGNATURES)
        {
            let latest = keys
                .entry((server.clone(), key_id.clone()))
                .or_insert(made_at);
            *latest = made_at.max(*latest);
        }
    }
}

fn listed(keys: Latest) -> Vec<Wanted> {
    keys.into_iter()
        .map(|((server, key_id), valid_at)| Wanted {
            server,
            key_id,
            valid_at,
        })
        .collect()
}

/// [`objects`] for the state and the auth chain of a room, as pieces of one answer's text: those that pass,
/// packed. However many they are, few are parsed at a time, on the blocking pool.
pub(crate) async fn pack(
    fed: &Federation,
    rules: &'static RoomRules,
    room: &RoomId,
    state: Vec<Bytes>,
    auth_chain: Vec<Bytes>,
) -> Packed {
    let (state, auth_chain) = each_once(state, auth_chain);
    // Each server is asked once for all the keys that the whole answer needs, so it is read twice.
    let mut keys = Latest::new();
    for texts in [&state, &auth_chain] {
        let read = move |texts: Vec<Bytes>| {
            let mut keys = Latest::new();
            for object in texts.iter().filter_map(|text| parse_bytes(text).ok()) {
                add_wanted(rules, &object, &mut keys);
            }
            keys
        };
        let take = |part: Latest| {
            for (key, at) in part {
                let latest = keys.entry(key).or_insert(at);
                *latest = at.max(*latest);
            }
        };
        in_chunks(texts, read, take).await;
    }
    let keys = Arc::new(prefetch(fed, &listed(keys)).await);
    let mut packed = Packed::new(rules, room);
    for (texts, part) in [(state, Part::State), (auth_chain, Part::AuthChain)] {
        let keys = Arc::clone(&keys);
        let check = move |texts: Vec<Bytes>| {
            let parsed = texts.iter().filter_map(|text| parse_bytes(text).ok());
            let checked = parsed.map(|object| Ok(PackedEvent::of(&*check(rules, object, &keys)?)));
            checked.collect::<Vec<Result<PackedEvent, Rejection>>>()
        };
        let take = |checked: Vec<Result<PackedEvent, Rejection>>| {
            for event in checked {
                match event {
                    Ok(event) if event.room_id() != room => {
                        tracing::info!(event = %event.id(), %room, "dropped an event of another room");
                    }
                    Ok(event) => packed.add(event, part),
                    Err(rejection) => tracing::info!(%room, %rejection, "dropped a received event"),
                }
            }
        };
        in_chunks(&texts, check, take).await;
    }
    packed
}

/// The texts without those that came before: auth chains have much of the state once more.
fn each_once(state: Vec<Bytes>, auth_chain: Vec<Bytes>) -> (Vec<Bytes>, Vec<Bytes>) {
    let mut seen = HashSet::new();
    let mut once = |texts: Vec<Bytes>| {
        let fresh = texts.into_iter().filter(|text| seen.insert(text.clone()));
        fresh.collect::<Vec<_>>()
    };
    (once(state), once(auth_chain))
}

/// Does `work` for chunks of the texts on the blocking pool, a few at a time, and gives what comes of each
/// to `take`, in order.
async fn in_chunks<T: Send + 'static>(
    texts: &[Bytes],
    work: impl Fn(Vec<Bytes>) -> T + Clone + Send + 'static,
    mut take: impl FnMut(T),
) {
    let mut chunks = texts.chunks(CHUNK);
    let mut working = VecDeque::new();
    loop {
        while working.len() < AT_ONCE
            && let Some(chunk) = chunks.next()
        {
            let (chunk, work) = (chunk.to_vec(), work.clone());
            working.push_back(tokio::task::spawn_blocking(move || work(chunk)));
        }
        let Some(next) = working.pop_front() else {
            return;
        };
        match next.await {
            Ok(done) => take(done),
            // The core doesn't panic; if it did, these events are refused and the others stand.
            Err(error) => tracing::error!(%error, "checking received events failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        for text in [
            "3",
            "null",
            "[]",
            "\"x\"",
            "{\"a\":1,\"a\":2}",
            "{\"a\":\"\\ud800\"}",
        ] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert!(parse(&raw).is_err(), "{text}");
        }
        let raw = RawValue::from_string("{\"a\":\"\\u0000\"}".to_owned()).unwrap();
        assert_eq!(parse(&raw).unwrap()["a"], "\0");
    }
}
