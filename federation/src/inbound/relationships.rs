//! Threads by `m.relationship` for other servers ([MSC2836]).
//!
//! [MSC2836]: https://github.com/matrix-org/matrix-spec-proposals/pull/2836

use std::{collections::HashSet, sync::Arc};

use axum::extract::State;
use rhizome_edge::{Body, RawJson};
use rhizome_rooms::access;
use rhizome_storage::{EventNo, StoredEvent};
use ruma::{OwnedEventId, ServerName, api::federation::authentication::ServerSignatures, metadata};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{guard, wire};
use crate::{
    Federation, MatrixError, Ruma,
    fetch::relationships::{self, Question, Seer},
};

/// The most events in what an answer's events rest on.
const MAX_AUTH: usize = 2_000;

/// `POST /_matrix/federation/unstable/event_relationships`
pub struct EventRelationships;
metadata! {
    @for EventRelationships,
    method: POST,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/unstable/event_relationships",
}

/// What a server may see.
struct Server<'a> {
    fed: &'a Federation,
    name: &'a ServerName,
}

impl Seer for Server<'_> {
    async fn seen(
        &self,
        mut events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        // Whether what stands nowhere is theirs to see isn't known.
        events.retain(|event| event.is_history());
        let seen = access::events_for_server(self.fed.store(), self.name, &events).await?;
        let seen = events.into_iter().zip(seen);
        Ok(seen
            .filter(|(_, seen)| *seen)
            .map(|(event, _)| event)
            .collect())
    }

    /// A server is in the room, but what was for members only before it came isn't its to count.
    fn counts_all(&self) -> bool {
        false
    }
}

/// What is answered.
#[derive(Serialize)]
struct Answer {
    events: Vec<Box<RawValue>>,
    limited: bool,
    auth_chain: Vec<Box<RawValue>>,
}

/// `POST /_matrix/federation/unstable/event_relationships`
pub(super) async fn relationships(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<Body<EventRelationships, Question>>,
) -> Result<RawJson, MatrixError> {
    let question = req.body;
    let _turn = fed.budgets().turn_of(&who).await?;
    let absent = || MatrixError::not_found("There is no such event here");
    let event = fed.store().event(&question.event_id).await?;
    let event = event.ok_or_else(absent)?;
    let head = guard::resident(&fed, &who, event.pdu.room_id()).await?;
    let server = Server {
        fed: &fed,
        name: &who,
    };
    let found = relationships::answer(&fed, &head, &question, &server, 0).await?;
    let events = found.events.iter();
    let events = events
        .map(|(event, children)| children.told_in(event.pdu.json()))
        .collect::<Result<_, MatrixError>>()?;
    let told = found.events.iter().map(|(event, _)| &**event);
    let auth_chain = auth_chain(&fed, told).await?;
    RawJson::of(&Answer {
        events,
        limited: found.limited,
        auth_chain,
    })
}

/// What the events rest on.
async fn auth_chain<'e>(
    fed: &Federation,
    events: impl Iterator<Item = &'e StoredEvent>,
) -> Result<Vec<Box<RawValue>>, MatrixError> {
    let named = events.flat_map(|event| event.pdu.auth_events());
    let named: HashSet<OwnedEventId> = named.cloned().collect();
    let named: Vec<OwnedEventId> = named.into_iter().collect();
    let first: Vec<EventNo> = (fed.store().event_nos(&named).await?)
        .into_values()
        .collect();
    let mut chain = fed.store().auth_chain_nos(&first).await?;
    chain.extend(first);
    let mut chain: Vec<EventNo> = chain.into_iter().collect();
    chain.sort_unstable();
    chain.truncate(MAX_AUTH);
    let events = fed.store().events_by_no(&chain).await?;
    let events = events.iter().filter(|event| access::is_given(event));
    events.map(|event| wire::raw(&event.pdu)).collect()
}
