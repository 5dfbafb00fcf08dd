//! What an event rests on: auth events, and the state where prevs stay unknown.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use rhizome_protocol::{Pdu, StateKey, resolve::StateMap};
use rhizome_rooms::{
    Error,
    receive::{self, Gathered},
};
use rhizome_storage::{RoomHead, Status, StoredEvent};
use ruma::{
    EventId, OwnedEventId, ServerName,
    api::federation::{
        authorization::get_event_authorization,
        event::{get_room_state, get_room_state_ids},
    },
};

use super::{
    ids,
    lacking::What,
    search::{Search, Sought, ask, note_lack, single_events},
};
use crate::{
    Federation,
    fetch::verify,
    outbound::answer::{self, Pieces},
};

/// More missing events of a state than this, and the whole state is asked for in one answer.
pub(super) const SINGLY: usize = 100;
/// How many steps down the auth chain single events are followed.
const MAX_STEPS: usize = 6;
/// How many events of a state are looked at together.
const TOGETHER: usize = 1_000;
/// Entries of states that are told before one event, or one page of history, after which it gets no more of them: they are there
/// all at once. Ten states of a room of a hundred thousand.
const MAX_TOLD: usize = 1_000_000;

/// Step 2: the auth events that we lack, with theirs. Whether anything came.
pub(in crate::fetch) async fn auth_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
    missing: &[OwnedEventId],
) -> Result<bool, Error> {
    let request =
        get_event_authorization::v1::Request::new(head.room_id.clone(), event_id.to_owned());
    let what = [What::Auth(event_id.to_owned())];
    let mut came = false;
    let shape = &answer::EVENT_AUTH;
    let asked = ask(fed, search, Sought::Aside, &request, &what, shape);
    if let Some((_, answer)) = asked.await {
        came |= store_pieces(fed, head, None, answer)
            .await?
            .unwrap_or_default();
    }
    let known = fed.store().known_event_ids(missing).await?;
    let missing: Vec<OwnedEventId> = missing
        .iter()
        .filter(|id| !known.contains(*id))
        .cloned()
        .collect();
    Ok(came | fetch_with_auth(fed, search, head, missing).await?)
}

/// Fetches single events, and what they rest on, as outliers. Whether anything came.
pub(super) async fn fetch_with_auth(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    mut missing: Vec<OwnedEventId>,
) -> Result<bool, Error> {
    let mut tried: HashSet<OwnedEventId> = HashSet::new();
    let mut fetched: Vec<Arc<Pdu>> = Vec::new();
    // Each wave is a step down the auth chain, which is short.
    for _ in 0..MAX_STEPS {
        missing.retain(|id| tried.insert(id.clone()));
        if missing.is_empty() {
            break;
        }
        let events = single_events(fed, search, head, &missing).await;
        let below: Vec<OwnedEventId> = events
            .iter()
            .flat_map(|event| event.auth_events().iter().cloned())
            .collect();
        fetched.extend(events);
        let known = fed.store().known_event_ids(&below).await?;
        missing = below.into_iter().filter(|id| !known.contains(id)).collect();
    }
    store_outliers(fed, head, fetched).await
}

/// Step 4: the state at a gap, where these prevs of an event are unknown. Whether any came that wasn't `gathered`.
///
/// In a room of which not all members are known nobody is asked: whole states would bring them one by one.
pub(in crate::fetch) async fn at_gap(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
    unknown: &[OwnedEventId],
    gathered: &mut Gathered,
) -> Result<bool, Error> {
    let now = fed.store().room_by_no(head.room).await?;
    if now.is_some_and(|head| head.partial.is_some()) {
        return Ok(!std::mem::replace(&mut gathered.stands_in, true));
    }
    ask_at_gap(fed, search, head, event_id, unknown, gathered).await
}

/// The same, whatever is known of the room.
///
/// What is asked for first is the states after the prevs, as other servers do: some have them that haven't got the event yet.
/// Where nobody has one, it is the state before the event itself: whoever has the event has that, also if they came
/// into the room right before it, and it stands for all of its prevs. It is no substitute for what somebody has told that can't
/// be taken.
pub(super) async fn ask_at_gap(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
    unknown: &[OwnedEventId],
    gathered: &mut Gathered,
) -> Result<bool, Error> {
    if gathered.states_before.contains_key(event_id) {
        return Ok(false);
    }
    let (mut came, mut nobody) = (false, false);
    for prev in unknown {
        if gathered.states_after.contains_key(prev) {
            continue;
        }
        if has_enough(gathered) {
            return Ok(came);
        }
        match told_at(fed, search, head, prev, Some(prev)).await? {
            Told::State(state) => {
                gathered.states_after.insert(prev.clone(), state);
                came = true;
            }
            Told::Unfit => {}
            Told::Nobody => nobody = true,
        }
    }
    if nobody
        && !has_enough(gathered)
        && let Told::State(state) = told_at(fed, search, head, event_id, None).await?
    {
        gathered.states_before.insert(event_id.to_owned(), state);
        came = true;
    }
    Ok(came)
}

/// Whether no more states may be told.
fn has_enough(gathered: &Gathered) -> bool {
    let (before, after) = (&gathered.states_before, &gathered.states_after);
    let told = before.values().chain(after.values()).map(StateMap::len);
    told.sum::<usize>() > MAX_TOLD
}

/// What came of asking for a state.
enum Told {
    State(StateMap),
    /// Somebody told one that can't be taken: it hasn't all that it rests on.
    Unfit,
    /// Nobody has it, or the event whose effect is a part of it.
    Nobody,
}

/// The state before an event as another server tells it, or with the event's own `effect` the one after it. That takes
/// the event itself, which is fetched as well.
async fn told_at(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
    effect: Option<&OwnedEventId>,
) -> Result<Told, Error> {
    let request = get_room_state_ids::v1::Request::new(event_id.to_owned(), head.room_id.clone());
    let what = [What::StateIds(event_id.to_owned())];
    let shape = &answer::STATE_IDS;
    let asked = ask(fed, search, Sought::Aside, &request, &what, shape);
    let Some((server, mut answer)) = asked.await else {
        // Who was asked lately isn't asked now.
        let unfit = search.any_lacks(fed, &What::FitState(event_id.to_owned()));
        return Ok(if unfit { Told::Unfit } else { Told::Nobody });
    };
    let (pdu_ids, auth_chain_ids) = (ids_of(answer.take(0)).await, ids_of(answer.take(1)).await);
    // Of the same server, the state itself is asked for next.
    drop(answer);
    let mut wanted: Vec<OwnedEventId> = pdu_ids.iter().chain(&auth_chain_ids).cloned().collect();
    wanted.extend(effect.cloned());
    wanted.sort_unstable();
    wanted.dedup();
    let missing = unknown_of(fed, wanted).await?;
    if missing.len() > SINGLY {
        whole_state(fed, search, head, event_id).await?;
        let rest = unknown_of(fed, missing).await?;
        fetch_with_auth(fed, search, head, rest).await?;
    } else if !missing.is_empty() {
        fetch_with_auth(fed, search, head, missing).await?;
    }
    if let Some(state) = state_of_ids(fed, head, &pdu_ids, event_id, effect.is_some()).await? {
        return Ok(Told::State(state));
    }
    // The next time another server is asked.
    note_lack(fed, &server, &what);
    if effect.is_some_and(|id| search.all_lack(fed, &What::Event(id.clone()))) {
        return Ok(Told::Nobody);
    }
    note_lack(fed, &server, &[What::FitState(event_id.to_owned())]);
    Ok(Told::Unfit)
}

/// Those of these that aren't stored in any way.
pub(super) async fn unknown_of(
    fed: &Federation,
    ids: Vec<OwnedEventId>,
) -> Result<Vec<OwnedEventId>, Error> {
    let mut unknown = Vec::new();
    for part in ids.chunks(TOGETHER) {
        let known = fed.store().known_event_ids(part).await?;
        unknown.extend(part.iter().filter(|id| !known.contains(*id)).cloned());
    }
    Ok(unknown)
}

/// The map of a state that was told as ids, at `event_id`. Entries that can't be had (they don't
/// verify, nobody gives them, they are of another room) are left out; without the create event there is no state.
pub(super) async fn state_of_ids(
    fed: &Federation,
    head: &RoomHead,
    state_ids: &[OwnedEventId],
    event_id: &EventId,
    with_effect: bool,
) -> Result<Option<StateMap>, Error> {
    let mut state = StateMap::new();
    // The events of a large room aren't to be in memory all together.
    for part in state_ids.chunks(TOGETHER) {
        for event in fed.store().events(part).await? {
            add(&mut state, head, &event);
        }
    }
    let left_out = state_ids.len().saturating_sub(state.len());
    if left_out > 0 {
        tracing::info!(at = %event_id, left_out, "a state of another server isn't complete");
    }
    if with_effect {
        let event = fed.store().event(event_id).await?;
        let Some(event) = event.filter(|event| event.room == head.room) else {
            return Ok(None);
        };
        add(&mut state, head, &event);
    }
    Ok(state
        .contains_key(&StateKey::new("m.room.create", ""))
        .then_some(state))
}

/// What an event of the room does to a state.
fn add(state: &mut StateMap, head: &RoomHead, event: &StoredEvent) {
    if event.room == head.room
        && event.status != Status::Rejected
        && let Some(key) = event.pdu.state_key()
    {
        let entry = StateKey::new(event.pdu.kind(), key);
        state.insert(entry, event.pdu.event_id().to_owned());
    }
}

/// The whole state and auth chain in one answer.
async fn whole_state(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
) -> Result<(), Error> {
    let request = get_room_state::v1::Request::new(event_id.to_owned(), head.room_id.clone());
    let what = [What::State(event_id.to_owned())];
    let shape = &answer::STATE;
    let asked = ask(fed, search, Sought::Aside, &request, &what, shape);
    if let Some((_, answer)) = asked.await {
        store_pieces(fed, head, None, answer).await?;
    }
    Ok(())
}

/// Stores the events of an answer that may be large as outliers. Whether there was a new one; `None` if the answer is of no use,
/// as most of it isn't right, or nobody gives the keys. A `giver` is asked for keys that can't be had elsewhere.
pub(super) async fn store_pieces(
    fed: &Federation,
    head: &RoomHead,
    giver: Option<&ServerName>,
    mut answer: Pieces,
) -> Result<Option<bool>, Error> {
    let (events, more) = (answer.take(0), answer.take(1));
    let packed = match verify::pack(fed, head.rules, &head.room_id, giver, events, more).await {
        Ok(packed) => packed,
        Err(error) => {
            tracing::info!(room = %head.room_id, %error, "an answer is of no use");
            return Ok(None);
        }
    };
    let stored = receive::packed_outliers(fed.rooms(), &head.room_id, packed).await?;
    Ok(Some(stored.fresh > 0))
}

/// The event ids among these strings.
pub(super) async fn ids_of(texts: Vec<Bytes>) -> Vec<OwnedEventId> {
    let parse = move || {
        let parsed = texts.iter().map(|text| serde_json::from_slice(text).ok());
        parsed.flatten().collect()
    };
    tokio::task::spawn_blocking(parse).await.unwrap_or_default()
}

pub(super) async fn store_outliers(
    fed: &Federation,
    head: &RoomHead,
    events: Vec<Arc<Pdu>>,
) -> Result<bool, Error> {
    if events.is_empty() {
        return Ok(false);
    }
    let known = fed.store().known_event_ids(&ids(&events)).await?;
    let new: Vec<Arc<Pdu>> = events
        .into_iter()
        .filter(|event| !known.contains(event.event_id()))
        .collect();
    if new.is_empty() {
        return Ok(false);
    }
    let stored = receive::outliers(fed.rooms(), &head.room_id, new).await?;
    Ok(!stored.accepted.is_empty() || !stored.rejected.is_empty())
}
