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
use rhizome_storage::{EventNo, StoredEvent};
use ruma::{OwnedRoomId, OwnedUserId, api::auth_scheme::AccessToken, metadata};
use serde_json::{Value, json};

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
        events.retain(|event| {
            let unplaced = || self.unplaced.is_some_and(|depth| event.depth > depth);
            let wanted = !self.ignored.contains(event.pdu.sender());
            wanted && (event.is_history() || unplaced())
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
    let events = told(&app, &reading, &seen, &children);
    RawJson::of(&json!({ "events": events, "limited": found.limited }))
}

/// The events, each with what is known of its children.
fn told(
    app: &App,
    reading: &Reading,
    seen: &[Seen],
    children: &HashMap<EventNo, &Children>,
) -> Vec<Value> {
    let now = app.store.clock().now_ms();
    let write = |seen: &Seen| {
        let mut json = Json::default();
        seen.write(&mut json, &reading.viewer, now, &Style::ROOM);
        // Our own output: it parses.
        let mut event: Value = serde_json::from_str(&json.finish()).unwrap_or_default();
        if let Some(children) = children.get(&seen.event.no) {
            event["unsigned"]["children"] = json!(children.counts);
            event["unsigned"]["children_hash"] = json!(children.hash);
        }
        event
    };
    seen.iter().map(write).collect()
}
