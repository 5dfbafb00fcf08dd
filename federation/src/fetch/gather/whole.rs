//! The whole state before an event, from one server that is trusted with it: it must come whole, or it isn't taken.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rhizome_protocol::{Pdu, resolve::StateMap};
use rhizome_rooms::{Error, receive::Gathered};
use rhizome_storage::{RoomHead, StoredEvent};
use ruma::{
    EventId, OwnedEventId, ServerName,
    api::{
        OutgoingRequest,
        federation::event::{get_event, get_room_state, get_room_state_ids},
        path_builder::PathBuilder,
    },
};

use super::{
    Haste,
    search::Search,
    state::{SINGLY, ask_at_gap, ids_of, state_of_ids, store_outliers, store_pieces, unknown_of},
};
use crate::{
    Federation,
    fetch::verify,
    outbound::{
        Limits, OutboundError,
        answer::{self, Pieces, Shape},
        encode_canonical,
    },
};

/// How many single events are asked for at the same time.
const PARALLEL: usize = 8;
/// The time limit of an answer that may be large. Nobody waits for it.
const TIME: Duration = Duration::from_mins(5);

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The server can't be asked, or hasn't told all of it.
    #[error("{0}")]
    Untold(String),
    /// The database.
    #[error(transparent)]
    Here(#[from] Error),
}

impl From<OutboundError> for Unfit {
    fn from(error: OutboundError) -> Self {
        Self::Untold(error.to_string())
    }
}

/// Who is asked for a whole state.
pub(crate) struct Source<'a> {
    pub(crate) server: &'a ServerName,
    /// Whether it is asked for keys that can't be had elsewhere.
    pub(crate) is_giver: bool,
    /// Whether it has given events in plenty that weren't here. They are kept, whatever comes of them.
    pub(crate) gave: AtomicBool,
}

/// The state before `event`, as this server tells it: after the one event that it follows, which older servers tell as well,
/// else before itself. Its events are stored.
///
/// # Errors
/// See [`Unfit`].
pub(crate) async fn state_before(
    fed: &Federation,
    source: &Source<'_>,
    head: &RoomHead,
    event: &Pdu,
) -> Result<StateMap, Unfit> {
    if let [prev] = event.prev_events() {
        match told(fed, source, head, (prev, Some(prev))).await {
            Err(Unfit::Untold(why)) => {
                let server = source.server;
                tracing::debug!(%server, room = %head.room_id, why, "no state after what a join follows");
            }
            told => return told,
        }
    }
    told(fed, source, head, (event.event_id(), None)).await
}

/// The state before an event, or with its own effect the one after it.
async fn told(
    fed: &Federation,
    source: &Source<'_>,
    head: &RoomHead,
    (event_id, effect): (&EventId, Option<&OwnedEventId>),
) -> Result<StateMap, Unfit> {
    let server = source.server;
    let request = get_room_state_ids::v1::Request::new(event_id.to_owned(), head.room_id.clone());
    let mut told = ask(fed, server, request, &answer::STATE_IDS).await?;
    let (state, chain) = (ids_of(told.take(0)).await, ids_of(told.take(1)).await);
    drop(told);
    let mut wanted: Vec<OwnedEventId> = state.iter().chain(&chain).cloned().collect();
    drop(chain);
    wanted.extend(effect.cloned());
    wanted.sort_unstable();
    wanted.dedup();
    let mut missing = unknown_of(fed, wanted).await?;
    if missing.len() > SINGLY {
        let request = get_room_state::v1::Request::new(event_id.to_owned(), head.room_id.clone());
        let told = ask(fed, server, request, &answer::STATE).await?;
        let given = told.count();
        let giver = source.is_giver.then_some(server);
        let stored = store_pieces(fed, head, giver, told).await?;
        if stored == Some(true) {
            source.gave.store(true, Ordering::Relaxed);
        }
        missing = unknown_of(fed, missing).await?;
        // A room without its members has none of its bans either.
        if stored.is_none() || given < missing.len() {
            let count = missing.len();
            return Err(Unfit::Untold(format!(
                "{count} events of the state didn't come"
            )));
        }
        // Of the others it is known what is wrong with them.
        missing.retain(|id| Some(id) == effect);
    }
    let events = single_events(fed, server, head, missing).await?;
    store_outliers(fed, head, events).await?;
    let state = state_of_ids(fed, head, &state, event_id, effect.is_some()).await?;
    state.ok_or_else(|| Unfit::Untold("what it told makes no state".to_owned()))
}

async fn ask<R>(
    fed: &Federation,
    server: &ServerName,
    request: R,
    shape: &'static Shape,
) -> Result<Pieces, OutboundError>
where
    R: OutgoingRequest,
    for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
{
    let (method, target, body) = encode_canonical(request)?;
    let outbound = fed.outbound();
    outbound
        .call_for_pieces(server, method, &target, body, shape, Some(TIME))
        .await
}

/// Single events that pass the checks; each must be given.
async fn single_events(
    fed: &Federation,
    server: &ServerName,
    head: &RoomHead,
    wanted: Vec<OwnedEventId>,
) -> Result<Vec<Arc<Pdu>>, Unfit> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let ask = |id: OwnedEventId| {
        Box::pin(async move {
            let limits = Limits {
                max_body: answer::EVENT,
                ..Limits::default()
            };
            let request = get_event::v1::Request::new(id);
            fed.outbound().send_limited(server, request, limits).await
        })
    };
    let mut asked = stream::iter(wanted.clone())
        .map(ask)
        .buffer_unordered(PARALLEL);
    let mut raws = Vec::with_capacity(wanted.len());
    while let Some(answer) = asked.next().await {
        raws.push(answer?.pdu);
    }
    let mut events = verify::batch(fed, head.rules, &head.room_id, raws).await;
    events.retain(|event| wanted.iter().any(|id| id == event.event_id()));
    Ok(events)
}

/// The states after prevs of an event that are unknown here, as far as anybody tells them.
///
/// # Errors
/// The database's.
pub(crate) async fn at_gap_before(
    fed: &Federation,
    head: &RoomHead,
    event: &StoredEvent,
    unknown: &[OwnedEventId],
) -> Result<HashMap<OwnedEventId, StateMap>, Error> {
    let sender = event.pdu.sender().server_name();
    let mut search = Search::new(fed, head, sender, sender, Haste::Patient).await?;
    let mut gathered = Gathered::default();
    let id = event.pdu.event_id();
    ask_at_gap(fed, &mut search, head, id, unknown, &mut gathered).await?;
    let mut states = gathered.states_after;
    // It stands for all of them.
    if let Some(before) = gathered.states_before.remove(id) {
        for prev in unknown {
            states.entry(prev.clone()).or_insert_with(|| before.clone());
        }
    }
    Ok(states)
}
