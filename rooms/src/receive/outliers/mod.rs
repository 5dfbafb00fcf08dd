//! Events without a place in the room's history.
//!
//! However many they are, they are parsed, checked and stored in batches: one batch is decided while the
//! one before it is written. Of what is behind, only the outcome is kept, and a few parsed events that
//! later ones name as auth events.

mod decide;
mod stored;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, Rejection};
use rhizome_storage::{CommitError, EventNo, NewEvent, RoomNo, RoomWrite, Status, Submitted};
use ruma::{OwnedEventId, RoomId};

use super::{checks::own_create, only};
use crate::{
    Error, Rooms,
    error::Result,
    receive::packed::Packed,
    send::{commit_error, known_room},
};
use decide::{Parsed, Source, Undecided, decide};

/// How many outliers go into one write set.
const BATCH: usize = 500;
/// How many parsed auth events are kept for later batches.
const AT_HAND: usize = 1_000;

/// What became of a batch of outliers.
#[derive(Debug, Clone, Default)]
pub struct Outliers {
    /// Stored now, or before, and allowed by their auth events.
    pub accepted: HashSet<OwnedEventId>,
    /// Stored with the reason why their auth events don't allow them.
    pub rejected: HashMap<OwnedEventId, Rejection>,
    /// Not stored: auth events of these are neither among them nor stored.
    pub incomplete: HashMap<OwnedEventId, Vec<OwnedEventId>>,
    /// How many of them weren't stored before.
    pub fresh: usize,
}

/// Stores events without a place in the room's history: state and auth chains that other servers gave.
/// They may come in any order. Each is checked against its auth events (step 4).
pub async fn outliers(rooms: &Rooms, room_id: &RoomId, pdus: Vec<Arc<Pdu>>) -> Result<Outliers> {
    let head = known_room(rooms, room_id).await?;
    let packed = Packed::of(head.rules, room_id, [], &pdus);
    drop(pdus);
    packed_outliers(rooms, room_id, packed).await
}

/// The same of events that were never there in parsed form all at once.
///
/// # Errors
///
/// [`Error::UnknownRoom`], [`Error::Invalid`] for events of another version; those of the database.
pub async fn packed_outliers(rooms: &Rooms, room_id: &RoomId, packed: Packed) -> Result<Outliers> {
    let head = known_room(rooms, room_id).await?;
    if head.rules != packed.rules() {
        return Err(Error::Invalid(
            "The events are of another room version than their room".into(),
        ));
    }
    let outcome = store_outliers(rooms, head.room, &packed).await?;
    let accepted = (0..packed.names().len())
        .filter(|at| packed.is_given(*at) && outcome.accepted(*at).is_some())
        .map(|at| packed.name(at).clone());
    let name = |at: usize| packed.name(at).clone();
    let fresh = |fate: &&Option<Fate>| fate.is_some_and(|fate| !fate.before);
    Ok(Outliers {
        fresh: outcome.fates.iter().filter(fresh).count(),
        accepted: accepted.collect(),
        rejected: (outcome.rejected.into_iter())
            .map(|(at, rejection)| (name(at), rejection))
            .collect(),
        incomplete: (outcome.incomplete.into_iter())
            .map(|(at, missing)| (name(at), missing.into_iter().map(name).collect()))
            .collect(),
    })
}

/// What became of the events of a [`Packed`], by their indexes there.
#[derive(Debug)]
pub(crate) struct Outcome {
    fates: Vec<Option<Fate>>,
    /// Of those that were given.
    pub(crate) rejected: BTreeMap<usize, Rejection>,
    pub(crate) incomplete: BTreeMap<usize, Vec<usize>>,
}

/// What became of a stored event.
#[derive(Debug, Clone, Copy)]
struct Fate {
    no: EventNo,
    rejected: bool,
    /// Stored before: what the database has counts, not the text that was given.
    before: bool,
}

impl Outcome {
    /// The number of an event that is stored and allowed by its auth events.
    pub(crate) fn accepted(&self, at: usize) -> Option<EventNo> {
        self.fates[at]
            .filter(|fate| !fate.rejected)
            .map(|fate| fate.no)
    }
}

/// Stores what was given, each event after its auth events.
pub(crate) async fn store_outliers(
    rooms: &Rooms,
    room: RoomNo,
    packed: &Packed,
) -> Result<Outcome> {
    let head = rooms.store().room_by_no(room).await?;
    let snapshot = head.and_then(|head| head.snapshot);
    let mut storing = Storing {
        rooms,
        room,
        packed,
        own_create: own_create(rooms, snapshot).await?,
        outcome: Outcome {
            fates: vec![None; packed.names().len()],
            rejected: BTreeMap::new(),
            incomplete: BTreeMap::new(),
        },
        at_hand: Parsed::new(),
        under_way: None,
    };
    storing.look_up().await?;
    let mut order = packed.parents_first();
    order.retain(|at| storing.outcome.fates[*at].is_none());
    for batch in order.chunks(BATCH) {
        storing.take(batch).await?;
    }
    storing.settle().await?;
    Ok(storing.outcome)
}

struct Storing<'a> {
    rooms: &'a Rooms,
    room: RoomNo,
    packed: &'a Packed,
    /// What the room began with, if we know its state.
    own_create: Option<OwnedEventId>,
    outcome: Outcome,
    at_hand: Parsed,
    /// The batch that is being written, with its events' indexes.
    under_way: Option<(Vec<usize>, Vec<NewEvent>, Submitted)>,
}

impl Storing<'_> {
    /// Decides a batch and hands it to the commit queue, when the one before it is stored.
    async fn take(&mut self, batch: &[usize]) -> Result<()> {
        let undecided = self.complete(batch);
        if undecided.is_empty() {
            return Ok(());
        }
        let sources = self.sources(&undecided).await?;
        let fates = &self.outcome.fates;
        let rejected: HashSet<usize> = (undecided.iter())
            .flat_map(|event| &event.parents)
            .filter(|at| fates[**at].is_some_and(|fate| fate.rejected))
            .copied()
            .collect();
        let own = self.own_create.clone();
        let deciding = tokio::task::spawn_blocking(move || {
            decide(undecided, sources, rejected, own.as_deref())
        });
        let (decided, parsed) = deciding.await.map_err(|error| {
            tracing::error!(%error, "checking the auth events of received events failed");
            Error::Contended
        })??;
        self.keep(parsed);
        let nos = self.rooms.store().next_event_nos(decided.len()).await?;
        let (mut indexes, mut events) = (Vec::new(), Vec::new());
        for ((at, pdu, rejection), no) in decided.into_iter().zip(nos) {
            let mut event = NewEvent::outlier(no, pdu);
            self.outcome.fates[at] = Some(Fate {
                no,
                rejected: rejection.is_some(),
                before: false,
            });
            if let Some(rejection) = rejection {
                event.status = Status::Rejected;
                event.reason = Some(rejection.to_string());
                self.outcome.rejected.insert(at, rejection);
            }
            indexes.push(at);
            events.push(event);
        }
        self.settle().await?;
        let submitted = submit(self.rooms, self.room, events.clone()).await?;
        self.under_way = Some((indexes, events, submitted));
        Ok(())
    }

    /// Those of a batch whose auth events are all there. The others are incomplete.
    fn complete(&mut self, batch: &[usize]) -> Vec<Undecided> {
        let mut there = HashSet::new();
        let mut complete = Vec::with_capacity(batch.len());
        for at in batch {
            let parents = self.packed.parents(*at);
            let missing: Vec<usize> = parents
                .iter()
                .filter(|parent| self.outcome.fates[**parent].is_none() && !there.contains(*parent))
                .copied()
                .collect();
            if !missing.is_empty() {
                self.outcome.incomplete.insert(*at, missing);
            } else if let Some(text) = self.packed.text(*at) {
                there.insert(*at);
                complete.push(Undecided {
                    at: *at,
                    text,
                    parents: parents.to_vec(),
                });
            }
        }
        complete
    }

    /// The auth events that a batch needs and doesn't hold itself.
    async fn sources(&self, batch: &[Undecided]) -> Result<HashMap<usize, Source>> {
        let own: HashSet<usize> = batch.iter().map(|event| event.at).collect();
        let mut sources = HashMap::new();
        let mut stored: Vec<(usize, EventNo)> = Vec::new();
        for at in batch.iter().flat_map(|event| &event.parents) {
            if own.contains(at) || sources.contains_key(at) {
                continue;
            }
            match (self.at_hand.get(at), self.outcome.fates[*at]) {
                (Some(pdu), _) => drop(sources.insert(*at, Source::Parsed(pdu.clone()))),
                (None, Some(fate)) if fate.before => stored.push((*at, fate.no)),
                (None, _) => {
                    let text = self.packed.text(*at);
                    sources.extend(text.map(|text| (*at, Source::Text(text))));
                }
            }
        }
        let nos: Vec<EventNo> = stored.iter().map(|(_, no)| *no).collect();
        let events = self.rooms.store().events_by_no(&nos).await?;
        for ((at, _), event) in stored.into_iter().zip(events) {
            sources.insert(at, Source::Parsed(event.pdu.clone()));
        }
        Ok(sources)
    }

    /// Keeps what a batch had parsed as auth events, as far as there is room.
    fn keep(&mut self, parsed: Parsed) {
        if self.at_hand.len() + parsed.len() > AT_HAND {
            self.at_hand.clear();
        }
        self.at_hand.extend(parsed.into_iter().take(AT_HAND));
    }

    /// Waits until the batch that is being written is stored. What another task stored in between is left
    /// out of it.
    async fn settle(&mut self) -> Result<()> {
        let Some((indexes, mut events, mut submitted)) = self.under_way.take() else {
            return Ok(());
        };
        let mut indexes: HashMap<OwnedEventId, usize> = (events.iter())
            .map(|event| event.pdu.event_id().to_owned())
            .zip(indexes)
            .collect();
        loop {
            match submitted.await {
                Ok(_) => return Ok(()),
                Err(CommitError::DuplicateEvent { event_id, no, .. }) => {
                    let Some(at) = indexes.remove(&event_id) else {
                        return Err(Error::Contended);
                    };
                    if let Some(fate) = &mut self.outcome.fates[at] {
                        fate.no = no;
                    }
                    events.retain(|event| event.pdu.event_id() != event_id);
                }
                Err(error) => return Err(commit_error(error)),
            }
            if events.is_empty() {
                return Ok(());
            }
            submitted = submit(self.rooms, self.room, events.clone()).await?;
        }
    }
}

async fn submit(rooms: &Rooms, room: RoomNo, events: Vec<NewEvent>) -> Result<Submitted> {
    let write = RoomWrite {
        room,
        events,
        ..RoomWrite::default()
    };
    let submitted = rooms.store().submit(only(write)).await;
    submitted.map_err(commit_error)
}
