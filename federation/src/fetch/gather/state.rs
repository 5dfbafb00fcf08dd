//! What an event rests on: auth events, and the state after prevs that stay unknown.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use rhizome_protocol::{Pdu, StateKey, resolve::StateMap};
use rhizome_rooms::{Error, receive};
use rhizome_storage::{RoomHead, Status};
use ruma::{
    EventId, OwnedEventId,
    api::federation::{
        authorization::get_event_authorization,
        event::{get_room_state, get_room_state_ids},
    },
};

use super::{
    ids,
    search::{Search, Sought, ask, single_events},
};
use crate::{
    Federation,
    fetch::verify,
    outbound::answer::{self, Pieces},
};

/// More missing events of a state than this, and the whole state is asked for in one answer.
const SINGLY: usize = 100;
/// How many steps down the auth chain single events are followed.
const MAX_STEPS: usize = 6;

/// Step 2: the auth events that we lack, with theirs. Whether anything came.
pub(super) async fn auth_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
    missing: &[OwnedEventId],
) -> Result<bool, Error> {
    let request =
        get_event_authorization::v1::Request::new(head.room_id.clone(), event_id.to_owned());
    let mut came = false;
    let shape = &answer::EVENT_AUTH;
    if let Some(answer) = ask(fed, search, Sought::Aside, &request, shape).await {
        came |= store_pieces(fed, head, answer).await?;
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

pub(super) async fn state_after(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
) -> Result<Option<StateMap>, Error> {
    let request = get_room_state_ids::v1::Request::new(event_id.to_owned(), head.room_id.clone());
    let shape = &answer::STATE_IDS;
    let Some(mut answer) = ask(fed, search, Sought::Aside, &request, shape).await else {
        return Ok(None);
    };
    let (pdu_ids, auth_chain_ids) = (ids_of(answer.take(0)).await, ids_of(answer.take(1)).await);
    // Of the same server, the state itself is asked for next.
    drop(answer);
    let mut wanted: Vec<OwnedEventId> = pdu_ids.iter().chain(&auth_chain_ids).cloned().collect();
    wanted.push(event_id.to_owned());
    let known = fed.store().known_event_ids(&wanted).await?;
    let missing: Vec<OwnedEventId> = wanted
        .into_iter()
        .filter(|id| !known.contains(id))
        .collect();
    if missing.len() > SINGLY {
        whole_state(fed, search, head, event_id).await?;
        let known = fed.store().known_event_ids(&missing).await?;
        let rest = missing
            .into_iter()
            .filter(|id| !known.contains(id))
            .collect();
        fetch_with_auth(fed, search, head, rest).await?;
    } else if !missing.is_empty() {
        fetch_with_auth(fed, search, head, missing).await?;
    }
    state_of_ids(fed, head, &pdu_ids, event_id).await
}

/// The map of a state that was told as ids, after `event_id`. Entries that can't be had (they don't
/// verify, nobody gives them, they are of another room) are left out; without the create event there is no state.
async fn state_of_ids(
    fed: &Federation,
    head: &RoomHead,
    state_ids: &[OwnedEventId],
    event_id: &EventId,
) -> Result<Option<StateMap>, Error> {
    let mut state = StateMap::new();
    for event in fed.store().events(state_ids).await? {
        if event.room == head.room
            && event.status != Status::Rejected
            && let Some(key) = event.pdu.state_key()
        {
            state.insert(
                StateKey::new(event.pdu.kind(), key),
                event.pdu.event_id().to_owned(),
            );
        }
    }
    let left_out = state_ids.len().saturating_sub(state.len());
    if left_out > 0 {
        tracing::info!(at = %event_id, left_out, "a state of another server isn't complete");
    }
    let event = fed.store().event(event_id).await?;
    let Some(event) = event.filter(|event| event.room == head.room) else {
        return Ok(None);
    };
    if event.status != Status::Rejected
        && let Some(key) = event.pdu.state_key()
    {
        state.insert(
            StateKey::new(event.pdu.kind(), key),
            event.pdu.event_id().to_owned(),
        );
    }
    Ok(state
        .contains_key(&StateKey::new("m.room.create", ""))
        .then_some(state))
}

/// The whole state and auth chain in one answer.
async fn whole_state(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
) -> Result<(), Error> {
    let request = get_room_state::v1::Request::new(event_id.to_owned(), head.room_id.clone());
    let shape = &answer::STATE;
    if let Some(answer) = ask(fed, search, Sought::Aside, &request, shape).await {
        store_pieces(fed, head, answer).await?;
    }
    Ok(())
}

/// Stores the events of an answer that may be large as outliers. Whether there was a new one.
async fn store_pieces(
    fed: &Federation,
    head: &RoomHead,
    mut answer: Pieces,
) -> Result<bool, Error> {
    let (events, more) = (answer.take(0), answer.take(1));
    let packed = match verify::pack(fed, head.rules, &head.room_id, None, events, more).await {
        Ok(packed) => packed,
        Err(error) => {
            tracing::info!(room = %head.room_id, %error, "an answer is of no use");
            return Ok(false);
        }
    };
    let stored = receive::packed_outliers(fed.rooms(), &head.room_id, packed).await?;
    Ok(stored.fresh > 0)
}

/// The event ids among these strings.
async fn ids_of(texts: Vec<Bytes>) -> Vec<OwnedEventId> {
    let parse = move || {
        let parsed = texts.iter().map(|text| serde_json::from_slice(text).ok());
        parsed.flatten().collect()
    };
    tokio::task::spawn_blocking(parse).await.unwrap_or_default()
}

async fn store_outliers(
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
