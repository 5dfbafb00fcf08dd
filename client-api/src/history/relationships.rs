//! Threads by `m.relationship` ([MSC2836]).
//!
//! [MSC2836]: https://github.com/matrix-org/matrix-spec-proposals/pull/2836

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::extract::State;
use rhizome_edge::{Body, RawJson};
use rhizome_federation::fetch::relationships::{self, Children, Question, Seer};
use rhizome_rooms::access::EventAccess;
use rhizome_storage::{EventNo, StoredEvent, UserNo};
use ruma::{OwnedRoomId, OwnedUserId, api::auth_scheme::AccessToken, metadata};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    App, MatrixError, Ruma,
    history::event::{absent, hidden},
    view::{
        dress, ignored,
        json::Json,
        reading::Reading,
        seen::{Seen, Style},
    },
};

/// Other servers that may be asked for one answer.
const MOST_ASKED: usize = 3;

/// `POST /_matrix/client/unstable/event_relationships`
pub struct EventRelationships;
metadata! {
    @for EventRelationships,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/event_relationships",
}

/// What a user may see of a room.
struct Reader<'a> {
    app: &'a App,
    reading: &'a Reading,
    ignored: &'a HashSet<OwnedUserId>,
    /// Beyond this depth they may see what we have without its place.
    unplaced: Option<i64>,
}

impl Seer for Reader<'_> {
    async fn seen(
        &self,
        mut events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let joined = self.joined(&events).await?;
        let end = self.reading.room.end(&self.app.store);
        events.retain(|event| {
            let sender = event.pdu.sender();
            let placed = || event.is_history() && event.pos().is_none_or(|pos| pos <= end);
            let unplaced = || {
                let is_open = self.unplaced.is_some_and(|depth| event.depth > depth);
                is_open && !event.is_history() && joined.contains(sender)
            };
            !self.ignored.contains(sender) && (placed() || unplaced())
        });
        let (store, user) = (&self.app.store, &self.reading.viewer.user_id);
        let mut access = EventAccess::new(store, user, self.reading.room.standing);
        access.load(&events).await?;
        let seen = events.into_iter().filter_map(|event| {
            let verdict = access.judge(&event);
            Seen::of(event, verdict)
        });
        Ok(seen.map(|seen| seen.event).collect())
    }

    fn counts_all(&self) -> bool {
        self.reading.room.standing.is_member()
    }
}

impl Reader<'_> {
    /// Who of the senders of events without a place is in the room. Where such an event belongs is known by what it says
    /// itself alone: who was banned could go on writing here, into the past.
    async fn joined(
        &self,
        events: &[Arc<StoredEvent>],
    ) -> Result<HashSet<OwnedUserId>, MatrixError> {
        let store = &self.app.store;
        let unplaced = events.iter().filter(|event| !event.is_history());
        let senders: HashSet<OwnedUserId> = unplaced
            .map(|event| event.pdu.sender().to_owned())
            .collect();
        if senders.is_empty() || self.unplaced.is_none() {
            return Ok(HashSet::new());
        }
        let senders: Vec<OwnedUserId> = senders.into_iter().collect();
        let numbers = store.known_users(&senders).await?;
        let room = self.reading.room.head.room;
        let asked: Vec<_> = numbers.values().map(|user| (room, *user)).collect();
        let joined = store.joined_among(&asked).await?;
        let joined: HashSet<UserNo> = joined.iter().map(|(_, member)| member.user).collect();
        let joined = (numbers.into_iter()).filter(|(_, number)| joined.contains(number));
        Ok(joined.map(|(user, _)| user).collect())
    }
}

/// `POST /_matrix/client/unstable/event_relationships`
pub async fn relationships(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<EventRelationships, Question>>,
) -> Result<RawJson, MatrixError> {
    let question = req.body;
    let event = app.store.event(&question.event_id).await?;
    let room: OwnedRoomId = match (&event, &question.room_id) {
        (Some(event), _) => event.pdu.room_id().to_owned(),
        (None, Some(room)) => room.clone(),
        (None, None) => return Err(absent()),
    };
    let reading = Reading::of(&app, &who, &room).await.map_err(hidden)?;
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    let reader = Reader {
        app: &app,
        reading: &reading,
        ignored: &ignored,
        unplaced: reading.room.unplaced_from(&app.store).await?,
    };
    // Others are asked for members alone.
    let asks = if reading.room.standing.is_member() {
        MOST_ASKED
    } else {
        0
    };
    let (fed, head) = (&app.federation, &reading.room.head);
    let answer = relationships::answer(fed, head, &question, &reader, asks);
    let found = Box::pin(answer).await?;
    let events: Vec<_> = found
        .events
        .iter()
        .map(|(event, _)| event.clone())
        .collect();
    let seen = dress::visible(&app.store, &reading.viewer, &reading.room.standing, events).await?;
    let children = found.events.iter();
    let children = children
        .map(|(event, children)| (event.no, children))
        .collect();
    let events = told(&app, &reading, &seen, &children)?;
    let limited = found.limited;
    RawJson::of(&Answer { events, limited })
}

/// What is answered.
#[derive(Serialize)]
struct Answer {
    events: Vec<Box<RawValue>>,
    limited: bool,
}

/// The events, each with what is known of its children.
fn told(
    app: &App,
    reading: &Reading,
    seen: &[Seen],
    children: &HashMap<EventNo, &Children>,
) -> Result<Vec<Box<RawValue>>, MatrixError> {
    let now = app.store.clock().now_ms();
    let none = Children::default();
    let write = |seen: &Seen| {
        let mut json = Json::default();
        seen.write(&mut json, &reading.viewer, now, &Style::ROOM);
        let known = children.get(&seen.event.no).copied();
        known.unwrap_or(&none).told_in(&json.finish())
    };
    seen.iter().map(write).collect()
}
