//! The same checks for the many events of one answer, as texts.
//!
//! Whatever takes time in proportion to the answer happens on the blocking pool, a few texts at a time and on no
//! more threads than there are processors, so that nobody else waits for it. What is left out is told in one line.

use std::{
    collections::{HashSet, VecDeque},
    ops::ControlFlow,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use bytes::Bytes;
use rhizome_protocol::{
    Pdu, Rejection, RoomRules,
    receive::{self, Refusal},
};
use rhizome_rooms::receive::packed::{Packed, PackedEvent, Part};
use ruma::{RoomId, ServerName};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::{
    CHUNK, INLINE, Latest, add_wanted, listed, note_places, objects, parse_bytes, prefetch,
    rejection,
};
use crate::{Federation, MatrixError, keys::GatheredKeys};

/// The most bytes that one blocking task looks at.
const CHUNK_BYTES: usize = 1 << 20;
/// The most tasks of all answers at a time.
const AT_ONCE: usize = 8;
/// So many events that are none of the room, and more than those that are, and the rest isn't looked at. Those
/// whose keys can't be had don't count: old rooms have many.
const MAX_BAD: usize = 1_000;

/// The most keys that are looked for. Who needs more of them gets no further.
const MAX_KEYS: usize = 20_000;

/// Threads that check events.
static CHECKING: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new(processors.min(AT_ONCE))
});

/// [`texts`] of values that were parsed apart already.
pub(crate) async fn batch(
    fed: &Federation,
    rules: &'static RoomRules,
    room: &RoomId,
    raws: Vec<Box<RawValue>>,
) -> Vec<Arc<Pdu>> {
    let bytes = |raw: Box<RawValue>| Bytes::from(Box::<str>::from(raw).into_boxed_bytes());
    texts(fed, rules, room, raws.into_iter().map(bytes).collect()).await
}

/// [`objects`] for the texts of events that must all belong to `room`: those that pass, each id once.
pub(crate) async fn texts(
    fed: &Federation,
    rules: &'static RoomRules,
    room: &RoomId,
    texts: Vec<Bytes>,
) -> Vec<Arc<Pdu>> {
    let mut passed = Passed::new(room);
    if texts.len() <= INLINE {
        let parsed = texts.iter().filter_map(|text| parse_bytes(text).ok());
        let parsed: Vec<_> = parsed.collect();
        passed.left_out.refused += texts.len() - parsed.len();
        for checked in objects(fed, rules, parsed).await {
            passed.add(checked.map_err(Refusal::Invalid));
        }
        return passed.events;
    }
    let (once, _) = each_once(texts, Vec::new()).await;
    let keys = Arc::new(keys_of(fed, rules, None, &[&once]).await);
    let check = move |texts: Vec<Bytes>| {
        let checked = texts.iter().map(|text| check(rules, text, &keys));
        checked
            .map(|pdu| pdu.map(Arc::new))
            .collect::<Vec<Result<_, Refusal>>>()
    };
    let take = |checked: Vec<Result<Arc<Pdu>, Refusal>>| {
        for event in checked {
            passed.add(event);
        }
        passed.left_out.is_enough(passed.events.len())
    };
    in_chunks(chunks_of(once), check, take).await;
    note_places(fed, passed.events.iter());
    passed.events
}

/// [`objects`] for the state and the auth chain of a room, as pieces of one answer's text: those that pass,
/// packed. However many they are, few are parsed at a time. A `giver` is asked for keys that can't be had elsewhere.
///
/// # Errors
/// Most of it isn't what it should be.
pub(crate) async fn pack(
    fed: &Federation,
    rules: &'static RoomRules,
    room: &RoomId,
    giver: Option<&ServerName>,
    state: Vec<Bytes>,
    auth_chain: Vec<Bytes>,
) -> Result<Packed, MatrixError> {
    let (state, auth_chain) = each_once(state, auth_chain).await;
    let keys = Arc::new(keys_of(fed, rules, giver, &[&state, &auth_chain]).await);
    let mut packed = Packed::new(rules, room);
    let mut left_out = LeftOut::new(room);
    let mut passed = 0;
    for (texts, part) in [(state, Part::State), (auth_chain, Part::AuthChain)] {
        let keys = Arc::clone(&keys);
        let check = move |texts: Vec<Bytes>| {
            let checked = texts.iter().map(|text| check(rules, text, &keys));
            checked
                .map(|pdu| pdu.map(|pdu| PackedEvent::of(&pdu)))
                .collect::<Vec<Result<_, Refusal>>>()
        };
        let take = |checked: Vec<Result<PackedEvent, Refusal>>| {
            for event in checked {
                match event {
                    Ok(event) if event.room_id() != room => left_out.of_another_room(),
                    Ok(event) => {
                        passed += 1;
                        packed.add(event, part);
                    }
                    Err(refusal) => left_out.refused(refusal),
                }
            }
            left_out.is_enough(passed)
        };
        in_chunks(chunks_of(texts), check, take).await;
    }
    if left_out.is_enough(passed).is_break() {
        return Err(MatrixError::bad_gateway(
            "Most of what the other server gave as the room's state is nothing of the kind",
        ));
    }
    Ok(packed)
}

fn check(rules: &'static RoomRules, text: &[u8], keys: &GatheredKeys) -> Result<Pdu, Refusal> {
    let object = parse_bytes(text).map_err(Refusal::Invalid)?;
    receive::verify(rules, object, keys)
}

/// The keys that all of these need. Each server is asked once for the whole answer, so that is read twice.
async fn keys_of(
    fed: &Federation,
    rules: &'static RoomRules,
    giver: Option<&ServerName>,
    lists: &[&[Bytes]],
) -> GatheredKeys {
    let mut keys = Latest::new();
    for texts in lists {
        let read = move |texts: Vec<Bytes>| {
            let mut keys = Latest::new();
            for object in texts.iter().filter_map(|text| parse_bytes(text).ok()) {
                add_wanted(rules, &object, &mut keys);
            }
            keys
        };
        let take = |part: Latest| {
            for (key, at) in part {
                if keys.len() < MAX_KEYS || keys.contains_key(&key) {
                    let latest = keys.entry(key).or_insert(at);
                    *latest = at.max(*latest);
                }
            }
            ControlFlow::Continue(())
        };
        in_chunks(chunks_of(texts.iter().cloned()), read, take).await;
    }
    let wanted = listed(keys);
    match giver {
        Some(giver) => Box::pin(fed.keys().prefetch_with(&wanted, giver)).await,
        None => prefetch(fed, &wanted).await,
    }
}

/// The texts without those that came before: auth chains have much of the state once more.
async fn each_once(state: Vec<Bytes>, auth_chain: Vec<Bytes>) -> (Vec<Bytes>, Vec<Bytes>) {
    let work = move || {
        let mut seen = HashSet::new();
        let mut once = |mut texts: Vec<Bytes>| {
            texts.retain(|text| seen.insert(text.clone()));
            texts
        };
        (once(state), once(auth_chain))
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            tracing::error!(%error, "sorting received events failed");
            (Vec::new(), Vec::new())
        })
}

/// The texts in chunks that are bounded in number and size; each is let go of with its chunk.
fn chunks_of(texts: impl IntoIterator<Item = Bytes>) -> impl Iterator<Item = Vec<Bytes>> {
    let mut texts = texts.into_iter();
    std::iter::from_fn(move || {
        let (mut chunk, mut size) = (Vec::new(), 0);
        while chunk.len() < CHUNK
            && size < CHUNK_BYTES
            && let Some(text) = texts.next()
        {
            size += text.len();
            chunk.push(text);
        }
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Does `work` for chunks of texts on the blocking pool, a few at a time, and gives what comes of each to `take`,
/// in order, until that has enough.
async fn in_chunks<T: Send + 'static>(
    mut chunks: impl Iterator<Item = Vec<Bytes>>,
    work: impl Fn(Vec<Bytes>) -> T + Clone + Send + 'static,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) {
    let mut working = VecDeque::new();
    loop {
        while working.len() < AT_ONCE
            && let Some(chunk) = chunks.next()
        {
            let work = work.clone();
            // It is never closed. Given back when the work is done, whoever waits for that.
            let turn = CHECKING.acquire().await;
            working.push_back(tokio::task::spawn_blocking(move || {
                let _turn = turn;
                work(chunk)
            }));
        }
        let Some(next) = working.pop_front() else {
            return;
        };
        match next.await {
            Ok(done) => {
                if take(done).is_break() {
                    return;
                }
            }
            // The core doesn't panic; if it did, these events are refused and the others stand.
            Err(error) => tracing::error!(%error, "checking received events failed"),
        }
    }
}

/// The events of a batch that have passed.
struct Passed<'a> {
    events: Vec<Arc<Pdu>>,
    seen: HashSet<ruma::OwnedEventId>,
    left_out: LeftOut<'a>,
}

impl<'a> Passed<'a> {
    fn new(room: &'a RoomId) -> Self {
        Self {
            events: Vec::new(),
            seen: HashSet::new(),
            left_out: LeftOut::new(room),
        }
    }

    fn add(&mut self, event: Result<Arc<Pdu>, Refusal>) {
        match event {
            Ok(pdu) if pdu.room_id() != self.left_out.room => self.left_out.of_another_room(),
            Ok(pdu) => {
                if self.seen.insert(pdu.event_id().to_owned()) {
                    self.events.push(pdu);
                }
            }
            Err(refusal) => self.left_out.refused(refusal),
        }
    }
}

/// What of an answer didn't pass. Told to the operator when dropped.
struct LeftOut<'a> {
    room: &'a RoomId,
    other_room: usize,
    refused: usize,
    without_keys: usize,
    first: Option<Rejection>,
}

impl<'a> LeftOut<'a> {
    fn new(room: &'a RoomId) -> Self {
        Self {
            room,
            other_room: 0,
            refused: 0,
            without_keys: 0,
            first: None,
        }
    }

    fn of_another_room(&mut self) {
        self.other_room += 1;
    }

    fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Invalid(_) | Refusal::Forged(..) => self.refused += 1,
            Refusal::NeedKeys(_) => self.without_keys += 1,
        }
        self.first.get_or_insert_with(|| rejection(refusal));
    }

    /// Whether that is so much that the rest needn't be looked at.
    fn is_enough(&self, passed: usize) -> ControlFlow<()> {
        let bad = self.refused + self.other_room;
        if bad > MAX_BAD && bad > passed {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Drop for LeftOut<'_> {
    fn drop(&mut self) {
        let Self {
            room,
            other_room,
            refused,
            without_keys,
            first,
        } = self;
        if *other_room + *refused + *without_keys > 0 {
            let first = first.as_ref().map(tracing::field::display);
            tracing::info!(%room, refused, without_keys, other_room, first, "left out some of the events that a server gave");
        }
    }
}
