//! History from other servers, when a client pages to where ours has a gap
//! (<https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>).

use std::{collections::HashSet, sync::Arc, time::Duration};

use rhizome_protocol::Pdu;
use rhizome_rooms::receive::{self, Gathered};
use rhizome_storage::RoomHead;
use ruma::{
    OwnedEventId, OwnedServerName, RoomId, ServerName, UInt,
    api::federation::backfill::get_backfill,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Federation, MatrixError,
    fetch::{gather, verify},
    outbound::answer,
};

/// The longest that a client waits for other servers.
const TIME: Duration = Duration::from_secs(25);
/// How many servers are asked.
const MAX_SERVERS: usize = 4;
/// How many events are asked for at most.
const MAX_EVENTS: usize = 100;
/// How many holes are named in one request.
const MAX_HOLES: usize = 20;
/// How often the core is asked again after something came.
const MAX_ROUNDS: usize = 3;

/// Fetches about `limit` events that end with these `holes`: events that we lack, though later ones of the
/// room name them as their prevs. Whether something was stored that wasn't there.
///
/// # Errors
/// The database's. That no other server helps is `Ok(false)`.
pub async fn before(
    fed: &Federation,
    room_id: &RoomId,
    holes: &[OwnedEventId],
    limit: usize,
) -> Result<bool, MatrixError> {
    let Some(head) = fed.store().room(room_id).await? else {
        return Ok(false);
    };
    // Who comes second finds the first one's events.
    let _only = fed.fetching().backfills.lock(room_id.to_owned()).await;
    let stored = fed.store().events(holes).await?;
    if stored.iter().any(|event| event.order.is_some()) {
        return Ok(true);
    }
    let holes = &holes[..holes.len().min(MAX_HOLES)];
    if holes.is_empty() {
        return Ok(false);
    }
    let until = Instant::now() + TIME;
    for server in servers(fed, &head).await? {
        if Instant::now() >= until {
            break;
        }
        // Cut short between two commits, it leaves whole events behind.
        match timeout_at(until, from(fed, &server, &head, holes, limit)).await {
            Ok(Ok(true)) => return Ok(true),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => tracing::info!(%server, room = %room_id, "backfill took too long"),
        }
    }
    Ok(false)
}

/// Other servers in the room; first the one whose name the room's id has, as it has been there longest.
pub(super) async fn servers(
    fed: &Federation,
    head: &RoomHead,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let mut servers: Vec<OwnedServerName> = fed.store().joined_servers(head.room).await?.to_vec();
    servers.retain(|server| server != fed.server_name());
    servers.sort_by_key(|server| Some(server.as_ref()) != head.room_id.server_name());
    servers.truncate(MAX_SERVERS);
    Ok(servers)
}

async fn from(
    fed: &Federation,
    server: &ServerName,
    head: &RoomHead,
    holes: &[OwnedEventId],
    limit: usize,
) -> Result<bool, MatrixError> {
    let limit = UInt::try_from(limit.clamp(1, MAX_EVENTS)).unwrap_or_default();
    let request = get_backfill::v1::Request::new(head.room_id.clone(), holes.to_vec(), limit);
    let sent = fed.outbound().pieces(server, request, &answer::BACKFILL);
    let mut answer = match sent.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::info!(%server, room = %head.room_id, %error, "no history from this server");
            return Ok(false);
        }
    };
    let mut texts = answer.take(0);
    texts.truncate(2 * MAX_EVENTS);
    let events = verify::texts(fed, head.rules, &head.room_id, texts).await;
    // More may be asked for while these are stored.
    drop(answer);
    store(fed, server, head, events).await
}

/// Stores a page of history, fetching the state before its oldest events.
async fn store(
    fed: &Federation,
    server: &ServerName,
    head: &RoomHead,
    events: Vec<Arc<Pdu>>,
) -> Result<bool, MatrixError> {
    let in_page: HashSet<OwnedEventId> = events
        .iter()
        .map(|event| event.event_id().to_owned())
        .collect();
    let mut search = gather::for_history(fed, head, server).await?;
    let mut gathered = Gathered::default();
    let mut got = false;
    // Held until what was fetched for them has its place.
    let (mut waited, mut alone) = (HashSet::new(), Vec::new());
    for _ in 0..MAX_ROUNDS {
        let report =
            receive::backfilled(fed.rooms(), &head.room_id, events.clone(), &gathered).await?;
        got |= !report.accepted.is_empty();
        let mut came = false;
        for (event_id, need) in &report.needs {
            if !need.auth.is_empty() {
                let auth = &need.auth;
                came |= gather::auth_events(fed, &mut search, head, event_id, auth).await?;
            }
            let mut outside = need.prev.clone();
            outside.retain(|prev| !in_page.contains(prev));
            if outside.is_empty() {
                continue;
            }
            if waited.insert(event_id.clone()) {
                alone.push(search.alone(fed, event_id).await);
            }
            if gather::is_placed(fed, event_id).await? {
                came = true;
                continue;
            }
            let told = gather::at_gap(fed, &mut search, head, event_id, &outside, &mut gathered);
            came |= Box::pin(told).await?;
        }
        if report.needs.is_empty() || !came {
            break;
        }
    }
    Ok(got)
}
