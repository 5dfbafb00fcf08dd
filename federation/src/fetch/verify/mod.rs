//! Checks 1 to 3 on received events: format, signatures, content hash
//! (<https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>).
//!
//! All keys of a batch are fetched first, in parallel; then the core checks each event. Large batches
//! (the state of a room) are checked on the blocking pool, so that they don't stop the executor.

mod many;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rhizome_protocol::{
    Incoming, Object, Pdu, Rejection, RoomRules,
    receive::{self, Refusal},
};
use ruma::{OwnedServerName, ServerName};
use serde_json::{Value, value::RawValue};

use crate::{
    Federation,
    keys::{GatheredKeys, Wanted},
};

/// The most signatures of one server on one event that are looked at.
const MAX_SIGNATURES: usize = 4;
/// Up to this many events are checked right where they are.
const INLINE: usize = 8;
/// How many events one blocking task checks.
const CHUNK: usize = 256;
/// The most bytes of an event's text: as many as one that is as large as may be has when all of it is escaped. What it is
/// taken apart into is many times as much.
const MAX_TEXT: usize = 6 << 16;

pub(crate) use many::{batch, pack, texts};

/// What became of one received event.
pub(crate) type Checked = Result<Arc<Pdu>, Rejection>;

/// Parses one received event strictly; nothing of it is believed yet.
pub(crate) fn parse(raw: &RawValue) -> Result<Incoming, Rejection> {
    parse_bytes(raw.get().as_bytes())
}

/// [`parse`], of text that is no value of its own.
pub(crate) fn parse_bytes(text: &[u8]) -> Result<Incoming, Rejection> {
    if text.len() > MAX_TEXT {
        let reason = format!("an event's text has at most {MAX_TEXT} bytes");
        return Err(Rejection::new(Rejection::SIZE, reason));
    }
    Incoming::parse(text).map_err(|error| Rejection::new(Rejection::FORMAT, error.to_string()))
}

/// Checks received events of one room, in order. An event whose content hash differs comes back redacted.
pub(crate) async fn objects(
    fed: &Federation,
    rules: &'static RoomRules,
    objects: Vec<Incoming>,
) -> Vec<Checked> {
    let checked = sent(fed, rules, objects, None).await.into_iter();
    checked.map(|checked| checked.map_err(rejection)).collect()
}

/// [`objects`] that `origin` has sent, if that is known: it has a share of the processors. Whose fault it is that one can't
/// be verified is told as well.
pub(crate) async fn sent(
    fed: &Federation,
    rules: &'static RoomRules,
    objects: Vec<Incoming>,
    origin: Option<&ServerName>,
) -> Vec<Result<Arc<Pdu>, Refusal>> {
    let keys = Arc::new(prefetch(fed, &wanted(rules, &objects)).await);
    let _place = match origin {
        Some(origin) => Some(fed.origins().checking(origin, objects.len()).await),
        None => None,
    };
    let checked = check_all(rules, objects, &keys).await;
    note_places(fed, checked.iter().flatten());
    checked
}

/// Where others' events stand, so that it is seen if one says two things in one place. What anybody may have made says nothing of
/// its sender.
fn note_places<'a>(fed: &Federation, verified: impl Iterator<Item = &'a Arc<Pdu>>) {
    for pdu in verified {
        if pdu.sender().server_name() != fed.server_name() && receive::sender_must_sign(pdu) {
            fed.origins().stands(pdu);
        }
    }
}

async fn check_all(
    rules: &'static RoomRules,
    objects: Vec<Incoming>,
    keys: &Arc<GatheredKeys>,
) -> Vec<Result<Arc<Pdu>, Refusal>> {
    if objects.len() <= INLINE {
        return objects
            .into_iter()
            .map(|object| check(rules, object, keys))
            .collect();
    }
    let mut tasks = Vec::with_capacity(objects.len().div_ceil(CHUNK));
    let mut objects = objects.into_iter();
    loop {
        let chunk: Vec<Incoming> = objects.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        let keys = Arc::clone(keys);
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
                let failed = || Rejection::new("checks on receipt", "it couldn't be checked");
                checked.extend((0..size).map(|_| Err(failed().into())));
            }
        }
    }
    checked
}

/// These texts of events: those that only servers which `is_known` must have signed, and the others.
pub(crate) async fn by_signers(
    rules: &'static RoomRules,
    texts: Vec<Bytes>,
    is_known: impl Fn(&ServerName) -> bool + Send + 'static,
) -> (Vec<Bytes>, Vec<Bytes>) {
    let is_by_known = move |text: &Bytes| {
        parse_bytes(text).is_ok_and(|event| {
            let servers = receive::servers_to_sign(rules, &event);
            servers.iter().all(|server| is_known(server))
        })
    };
    let part = move || -> (Vec<Bytes>, Vec<Bytes>) { texts.into_iter().partition(is_by_known) };
    let parted = tokio::task::spawn_blocking(part).await;
    parted.unwrap_or_default()
}

/// Boxed: the compiler can't see through the key ring's streams that the whole is `Send`.
fn prefetch<'a>(fed: &'a Federation, wanted: &'a [Wanted]) -> BoxFuture<'a, GatheredKeys> {
    Box::pin(fed.keys().prefetch(wanted))
}

fn check(
    rules: &'static RoomRules,
    event: Incoming,
    keys: &GatheredKeys,
) -> Result<Arc<Pdu>, Refusal> {
    receive::verify(rules, event, keys).map(Arc::new)
}

/// Why it is refused.
pub(crate) fn rejection(refusal: Refusal) -> Rejection {
    match refusal {
        Refusal::Invalid(rejection) | Refusal::Forged(_, rejection) => rejection,
        Refusal::NeedKeys(keys) => {
            let names: Vec<String> = keys
                .iter()
                .map(|(server, key)| format!("{key} of {server}"))
                .collect();
            Rejection::new(
                "PDU signatures",
                format!("signing keys can't be had: {}", names.join(", ")),
            )
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
        let signatures = receive::signatures_of(object.get("signatures"), &server);
        for (key_id, _) in signatures.take(MAX_SIGNATURES) {
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
