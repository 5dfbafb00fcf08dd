//! Fetching what a received event needs before it can be decided: missing prev events, the state where
//! the gap stays open, missing auth events. Bounded in requests, events and time; no lock is held.
//!
//! 1. [`rhizome_rooms::receive::receive`] is asked. It decides, or says what it [`Need`]s.
//! 2. Missing auth events: `/event_auth`, then `/event` for what is still missing.
//! 3. Missing prev events: `/get_missing_events` once; what comes is received in order, each by 1–4.
//! 4. Prevs that are missing even so stay a gap: the state after each comes by `/state_ids` and `/event`
//!    (or `/state`, when most of it is unknown), as outliers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use rhizome_protocol::{Pdu, RoomRules, StateKey, resolve::StateMap};
use rhizome_rooms::{
    Error,
    receive::{self, Gathered, Need, Received},
};
use rhizome_storage::{RoomHead, Status};
use ruma::{
    EventId, OwnedEventId, OwnedServerName, RoomId, ServerName, UInt,
    api::federation::{
        authorization::get_event_authorization,
        event::{get_event, get_missing_events, get_room_state, get_room_state_ids},
    },
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::{Federation, client::Limits, order::parents_first, verify};

/// The longest that gathering for one event takes.
const TIME: Duration = Duration::from_mins(2);
/// The most requests for one event.
const MAX_REQUESTS: usize = 2_000;
/// How many missing events are asked for at once.
const MISSING_LIMIT: u32 = 50;
/// How many single events are asked for at the same time.
const PARALLEL: usize = 8;
/// More missing events of a state than this, and the whole state is asked for in one answer.
const SINGLY: usize = 100;
/// The most bytes of an answer that holds a whole state.
const STATE_BODY: usize = 128 << 20;
/// How many other servers are asked when the one that sent the event doesn't help.
const OTHER_SERVERS: usize = 2;
/// How often the core is asked again after something came.
const MAX_ROUNDS: usize = 6;

/// What came of an event.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is decided, whichever way.
    Decided(Received),
    /// What it needs can't be had now.
    Undecided(Need),
}

/// What gathering for one event may still cost, and whom it asks.
struct Search {
    requests: usize,
    until: Instant,
    servers: Vec<OwnedServerName>,
}

impl Search {
    /// Takes one request from the budget.
    fn take(&mut self) -> bool {
        let left = self.requests > 0 && Instant::now() < self.until;
        self.requests = self.requests.saturating_sub(1);
        left
    }
}

/// Decides a checked event that `origin` gave us, fetching what is missing.
///
/// # Errors
/// Those of the database, and [`Error::UnknownRoom`]. What other servers fail to give is no error.
pub(crate) async fn receive(
    fed: &Federation,
    origin: &ServerName,
    pdu: Arc<Pdu>,
) -> Result<Outcome, Error> {
    let head = fed
        .store()
        .room(pdu.room_id())
        .await?
        .ok_or_else(|| Error::UnknownRoom(pdu.room_id().to_owned()))?;
    let mut search = Search {
        requests: MAX_REQUESTS,
        until: Instant::now() + TIME,
        servers: servers_to_ask(fed, &head, origin, pdu.sender().server_name()).await?,
    };
    settle(fed, &mut search, &head, pdu, true).await
}

/// The origin first, then the sender's server, then others of the room.
async fn servers_to_ask(
    fed: &Federation,
    head: &RoomHead,
    origin: &ServerName,
    sender: &ServerName,
) -> Result<Vec<OwnedServerName>, Error> {
    let in_room = fed.store().joined_servers(head.room).await?;
    let others = in_room
        .iter()
        .filter(|server| **server != *origin && **server != *sender);
    let mut servers = vec![origin.to_owned()];
    if sender != origin {
        servers.push(sender.to_owned());
    }
    servers.extend(others.take(OTHER_SERVERS).cloned());
    servers.retain(|server| server != fed.server_name());
    Ok(servers)
}

/// The procedure of this module for one event. `chase`: whether missing prevs may be asked for; those
/// that are fetched themselves get the state at the gap instead, so that this doesn't go on for ever.
async fn settle(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    pdu: Arc<Pdu>,
    chase: bool,
) -> Result<Outcome, Error> {
    let mut gathered = Gathered::default();
    let mut chase = chase;
    let mut need = Need::default();
    for _ in 0..MAX_ROUNDS {
        need = match receive::receive(fed.rooms(), Arc::clone(&pdu), &gathered).await? {
            Received::Need(need) => need,
            decided => return Ok(Outcome::Decided(decided)),
        };
        let mut came = false;
        if !need.auth.is_empty() {
            came |= auth_events(fed, search, head, pdu.event_id(), &need.auth).await?;
        }
        if !need.prev.is_empty() {
            if chase {
                chase = false;
                missing_events(fed, search, head, &pdu).await?;
                // The core says which prevs are missing even so.
                continue;
            }
            for prev in need
                .prev
                .iter()
                .filter(|prev| !gathered.states_after.contains_key(*prev))
                .cloned()
                .collect::<Vec<_>>()
            {
                if let Some(state) = state_after(fed, search, head, &prev).await? {
                    gathered.states_after.insert(prev, state);
                    came = true;
                }
            }
        }
        if !came {
            break;
        }
    }
    Ok(Outcome::Undecided(need))
}

/// Step 3: what lies between our newest events and this one.
async fn missing_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    pdu: &Pdu,
) -> Result<(), Error> {
    // The head as it is now: what was fetched before may have moved it.
    let now = fed.store().room_by_no(head.room).await?;
    let earliest: Vec<OwnedEventId> = now
        .iter()
        .flat_map(|head| head.extremities.iter())
        .map(|extremity| extremity.event_id.clone())
        .take(20)
        .collect();
    let mut request = get_missing_events::v1::Request::new(
        head.room_id.clone(),
        earliest,
        vec![pdu.event_id().to_owned()],
    );
    request.limit = UInt::from(MISSING_LIMIT);
    let Some(answer) = ask(fed, search, &request, |answer| !answer.events.is_empty()).await else {
        return Ok(());
    };
    let raws = answer
        .events
        .into_iter()
        .take(MISSING_LIMIT as usize)
        .collect();
    let events = verify::batch(fed, head.rules, &head.room_id, raws).await;
    let known = fed.store().known_event_ids(&ids(&events)).await?;
    let events = parents_first(
        events,
        |event| event.event_id(),
        |event| event.depth(),
        |event| event.prev_events().to_vec(),
    );
    for event in events {
        if event.event_id() == pdu.event_id() || is_placed(fed, &known, event.event_id()).await? {
            continue;
        }
        let id = event.event_id().to_owned();
        match Box::pin(settle(fed, search, head, event, false)).await? {
            Outcome::Decided(outcome) => {
                tracing::debug!(event = %id, ?outcome, "fetched a missing event");
            }
            Outcome::Undecided(_) => {
                tracing::info!(event = %id, "a missing event can't be decided");
            }
        }
    }
    Ok(())
}

/// Whether we have the event as part of the room's history, not just as an outlier.
async fn is_placed(
    fed: &Federation,
    known: &HashSet<OwnedEventId>,
    id: &EventId,
) -> Result<bool, Error> {
    if !known.contains(id) {
        return Ok(false);
    }
    let event = fed.store().event(id).await?;
    Ok(event.is_some_and(|event| event.placement != rhizome_storage::Placement::Outlier))
}

/// Step 2: the auth events that we lack, with theirs. Whether anything came.
async fn auth_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
    missing: &[OwnedEventId],
) -> Result<bool, Error> {
    let request =
        get_event_authorization::v1::Request::new(head.room_id.clone(), event_id.to_owned());
    let mut came = false;
    if let Some(answer) = ask(fed, search, &request, |answer| {
        !answer.auth_chain.is_empty()
    })
    .await
    {
        let events = verify::batch(fed, head.rules, &head.room_id, answer.auth_chain).await;
        came |= store_outliers(fed, head, events).await?;
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
async fn fetch_with_auth(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    mut missing: Vec<OwnedEventId>,
) -> Result<bool, Error> {
    let mut tried: HashSet<OwnedEventId> = HashSet::new();
    let mut fetched: Vec<Arc<Pdu>> = Vec::new();
    // Each wave is a step down the auth chain, which is short.
    for _ in 0..MAX_ROUNDS {
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

/// Step 4: the state after an event that stays unknown to the room's graph. `None` if it can't be had.
///
/// The event itself is fetched as well, as an outlier: its own effect on the state counts.
pub(crate) async fn state_after_unknown(
    fed: &Federation,
    head: &RoomHead,
    origin: &ServerName,
    event_id: &EventId,
) -> Result<Option<StateMap>, Error> {
    let mut search = Search {
        requests: MAX_REQUESTS,
        until: Instant::now() + TIME,
        servers: servers_to_ask(fed, head, origin, origin).await?,
    };
    state_after(fed, &mut search, head, event_id).await
}

/// Fetches missing auth events of an event, for whoever doesn't come by [`receive`].
pub(crate) async fn auth_of(
    fed: &Federation,
    head: &RoomHead,
    origin: &ServerName,
    event_id: &EventId,
    missing: &[OwnedEventId],
) -> Result<bool, Error> {
    let mut search = Search {
        requests: MAX_REQUESTS,
        until: Instant::now() + TIME,
        servers: servers_to_ask(fed, head, origin, origin).await?,
    };
    auth_events(fed, &mut search, head, event_id, missing).await
}

async fn state_after(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    event_id: &EventId,
) -> Result<Option<StateMap>, Error> {
    let request = get_room_state_ids::v1::Request::new(event_id.to_owned(), head.room_id.clone());
    let Some(answer) = ask(fed, search, &request, |answer| !answer.pdu_ids.is_empty()).await else {
        return Ok(None);
    };
    let mut wanted: Vec<OwnedEventId> = answer
        .pdu_ids
        .iter()
        .chain(&answer.auth_chain_ids)
        .cloned()
        .collect();
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
    state_of_ids(fed, head.rules, &answer.pdu_ids, event_id).await
}

/// The map of a state that was told as ids, after `event_id`. Entries that can't be had (they don't
/// verify, nobody gives them) are left out; without the create event there is no state.
async fn state_of_ids(
    fed: &Federation,
    rules: &'static RoomRules,
    state_ids: &[OwnedEventId],
    event_id: &EventId,
) -> Result<Option<StateMap>, Error> {
    let mut state = StateMap::new();
    for event in fed.store().events(state_ids).await? {
        if event.status != Status::Rejected
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
    let Some(event) = fed.store().event(event_id).await? else {
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
    debug_assert!(rules == event.pdu.rules());
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
    if let Some(answer) = ask(fed, search, &request, |answer| !answer.pdus.is_empty()).await {
        let raws = answer.auth_chain.into_iter().chain(answer.pdus).collect();
        let events = verify::batch(fed, head.rules, &head.room_id, raws).await;
        store_outliers(fed, head, events).await?;
    }
    Ok(())
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

/// Fetches single events, a few at a time; what can't be had or isn't right is absent.
async fn single_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    wanted: &[OwnedEventId],
) -> Vec<Arc<Pdu>> {
    let affordable: Vec<OwnedEventId> = wanted
        .iter()
        .take_while(|_| search.take())
        .cloned()
        .collect();
    let (until, servers) = (search.until, &search.servers);
    let raws: Vec<Box<RawValue>> = stream::iter(affordable)
        .map(|id| single_event(fed, servers, until, id))
        .buffer_unordered(PARALLEL)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let wanted: HashSet<&EventId> = wanted.iter().map(AsRef::as_ref).collect();
    let mut events = verify::batch(fed, head.rules, &head.room_id, raws).await;
    events.retain(|event| wanted.contains(event.event_id()));
    events
}

async fn single_event(
    fed: &Federation,
    servers: &[OwnedServerName],
    until: Instant,
    id: OwnedEventId,
) -> Option<Box<RawValue>> {
    for server in servers {
        let request = get_event::v1::Request::new(id.clone());
        match timeout_at(until, fed.outbound().send(server, request)).await {
            Ok(Ok(answer)) => return Some(answer.pdu),
            Ok(Err(error)) => {
                tracing::debug!(%server, event = %id, %error, "no event from this server");
            }
            Err(_) => return None,
        }
    }
    None
}

/// Asks one server after the other until one gives something useful.
async fn ask<R>(
    fed: &Federation,
    search: &mut Search,
    request: &R,
    useful: impl Fn(&R::IncomingResponse) -> bool,
) -> Option<R::IncomingResponse>
where
    R: ruma::api::OutgoingRequest,
    for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
{
    let limits = Limits {
        max_body: STATE_BODY,
        ..Limits::default()
    };
    for server in search.servers.clone() {
        if !search.take() {
            return None;
        }
        let sent = fed
            .outbound()
            .send_limited(&server, request.clone(), limits);
        match timeout_at(search.until, sent).await {
            Ok(Ok(answer)) if useful(&answer) => return Some(answer),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%server, %error, "a server can't help with missing events");
            }
            Err(_) => return None,
        }
    }
    None
}

/// One event by its id from the servers of the room, checked and stored as an outlier (or found stored).
///
/// # Errors
/// Those of the database. An event that nobody gives is `Ok(false)`.
pub async fn fetch_event(
    fed: &Federation,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<bool, Error> {
    if !fed
        .store()
        .known_event_ids(&[event_id.to_owned()])
        .await?
        .is_empty()
    {
        return Ok(true);
    }
    let Some(head) = fed.store().room(room_id).await? else {
        return Ok(false);
    };
    let servers = fed.store().joined_servers(head.room).await?;
    let servers: Vec<OwnedServerName> = servers
        .iter()
        .filter(|server| *server != fed.server_name())
        .take(1 + OTHER_SERVERS)
        .cloned()
        .collect();
    let mut search = Search {
        requests: 50,
        until: Instant::now() + Duration::from_secs(20),
        servers,
    };
    fetch_with_auth(fed, &mut search, &head, vec![event_id.to_owned()]).await?;
    Ok(!fed
        .store()
        .known_event_ids(&[event_id.to_owned()])
        .await?
        .is_empty())
}

fn ids(events: &[Arc<Pdu>]) -> Vec<OwnedEventId> {
    events
        .iter()
        .map(|event| event.event_id().to_owned())
        .collect()
}
