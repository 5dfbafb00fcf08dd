//! Whom to ask for what is missing, and what asking may still cost.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use rhizome_protocol::Pdu;
use rhizome_rooms::Error;
use rhizome_storage::RoomHead;
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, api::federation::event::get_event};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::{
    Federation,
    answer::{self, Pieces, Shape},
    client::Limits,
    verify,
};

/// The longest that gathering for one event takes.
const TIME: Duration = Duration::from_mins(2);
/// The most requests for one event.
const MAX_REQUESTS: usize = 2_000;
/// The same for a single event.
const SHORT_TIME: Duration = Duration::from_secs(20);
const SHORT_REQUESTS: usize = 50;
/// How many single events are asked for at the same time.
const PARALLEL: usize = 8;
/// How many other servers are asked when the one that sent the event doesn't help.
const OTHER_SERVERS: usize = 2;

/// What gathering for one event may still cost, and whom it asks.
pub(super) struct Search {
    requests: usize,
    until: Instant,
    servers: Vec<OwnedServerName>,
}

impl Search {
    /// For an event that `origin` gave us and a user of `sender` made.
    pub(super) async fn new(
        fed: &Federation,
        head: &RoomHead,
        origin: &ServerName,
        sender: &ServerName,
    ) -> Result<Self, Error> {
        let servers = servers_to_ask(fed, head, origin, sender).await?;
        Ok(Self {
            requests: MAX_REQUESTS,
            until: Instant::now() + TIME,
            servers,
        })
    }

    /// For a single event that somebody waits for.
    pub(super) async fn short(fed: &Federation, head: &RoomHead) -> Result<Self, Error> {
        let mut servers = fed.store().joined_servers(head.room).await?.to_vec();
        servers.retain(|server| server != fed.server_name());
        servers.truncate(1 + OTHER_SERVERS);
        Ok(Self {
            requests: SHORT_REQUESTS,
            until: Instant::now() + SHORT_TIME,
            servers,
        })
    }

    /// Takes one request from the budget.
    fn take(&mut self) -> bool {
        let left = self.requests > 0 && Instant::now() < self.until;
        self.requests = self.requests.saturating_sub(1);
        left
    }
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

/// Fetches single events, a few at a time; what can't be had or isn't right is absent.
pub(super) async fn single_events(
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
        let limits = Limits {
            max_body: answer::EVENT,
            ..Limits::default()
        };
        let sent = fed.outbound().send_limited(server, request, limits);
        match timeout_at(until, sent).await {
            Ok(Ok(answer)) => return Some(answer.pdu),
            Ok(Err(error)) => {
                tracing::debug!(%server, event = %id, %error, "no event from this server");
            }
            Err(_) => return None,
        }
    }
    None
}

/// Asks one server after the other until one gives something.
pub(super) async fn ask<R>(
    fed: &Federation,
    search: &mut Search,
    request: &R,
    shape: &'static Shape,
) -> Option<Pieces>
where
    R: ruma::api::OutgoingRequest,
    for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
{
    for server in search.servers.clone() {
        if !search.take() {
            return None;
        }
        let sent = fed.outbound().pieces(&server, request.clone(), shape);
        match timeout_at(search.until, sent).await {
            Ok(Ok(answer)) if !answer.is_empty() => return Some(answer),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%server, %error, "a server can't help with missing events");
            }
            Err(_) => return None,
        }
    }
    None
}
