//! The event that is nearest to a moment.

use std::{collections::HashSet, sync::Arc};

use axum::extract::State;
use http::StatusCode;
use rhizome_federation::fetch::moment::{self, Moment};
use rhizome_rooms::access::{EventAccess, Verdict};
use rhizome_storage::{Direction, EventNo, Pos, StoredEvent, TimeToken};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedUserId, UInt,
    api::{Direction as Asked, client::room::get_event_by_timestamp::v1},
};

use crate::{
    App, MatrixError, Ruma,
    view::{ignored, reading::Reading},
};

/// How many events are looked at, and how many of them at once.
const MAX_EVENTS: usize = 1_000;
const PIECE: usize = 50;
/// How many events at a moment are looked at for gaps before them: of some, the times aren't in the history's order.
const MAX_FOLLOWERS: usize = 10;
/// How many events from before there was an index get into it for one request.
const MAX_FILLED: usize = 20_000;

/// `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
pub async fn timestamp_to_event(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v1::Request>,
) -> Result<v1::Response, MatrixError> {
    let reading = Reading::of(&app, &who, &req.room_id).await?;
    let moment = Moment {
        ts: i64::try_from(u64::from(req.ts.0)).unwrap_or(i64::MAX),
        forward: req.dir == Asked::Forward,
    };
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    let event = nearest(&app, &reading, &ignored, moment).await?;
    let ts = u64::try_from(event.pdu.origin_server_ts()).unwrap_or(0);
    let ts = MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts));
    Ok(v1::Response::new(event.pdu.event_id().to_owned(), ts))
}

/// The event that is nearest to a moment on one side of it, of those that the reader may see.
///
/// # Errors
/// 404 `M_NOT_FOUND`: there is none; 503: the room's history is being looked through.
pub async fn nearest(
    app: &App,
    reading: &Reading,
    ignored: &HashSet<OwnedUserId>,
    moment: Moment,
) -> Result<Arc<StoredEvent>, MatrixError> {
    if !app
        .store
        .fill_times(reading.room.head.room, MAX_FILLED)
        .await?
    {
        return Err(MatrixError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "M_UNKNOWN",
            "The room's history is being looked through for this: try again",
        ));
    }
    let search = Search {
        app,
        reading,
        ignored,
        end: reading.room.end(&app.store),
        moment,
    };
    let mut found = search.nearest().await?;
    if search.is_nearer_elsewhere(found.as_deref()).await? {
        found = search.nearest().await?;
    }
    found.ok_or_else(|| {
        MatrixError::not_found("There is no event on this side of the moment that you may see")
    })
}

/// Looks for a moment on behalf of a reader.
struct Search<'a> {
    app: &'a App,
    reading: &'a Reading,
    ignored: &'a HashSet<OwnedUserId>,
    /// The last position of which the reader may hear.
    end: Pos,
    moment: Moment,
}

impl Search<'_> {
    async fn events(
        &self,
        from: TimeToken,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let room = self.reading.room.head.room;
        let store = &self.app.store;
        Ok(store
            .events_by_time(room, from, direction, limit, self.end)
            .await?)
    }

    /// The nearest event that is here and that the reader may see.
    async fn nearest(&self) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let direction = if self.moment.forward {
            Direction::Forward
        } else {
            Direction::Backward
        };
        let Reading { viewer, room } = self.reading;
        let mut access = EventAccess::new(&self.app.store, &viewer.user_id, room.standing);
        let mut at = Some(TimeToken::at(self.moment.ts, direction));
        for _ in 0..MAX_EVENTS / PIECE {
            let Some(from) = at else { break };
            let events = self.events(from, direction, PIECE).await?;
            access.load(&events).await?;
            let is_shown = |event: &&Arc<StoredEvent>| {
                let pdu = &event.pdu;
                let is_ignored = pdu.state_key().is_none() && self.ignored.contains(pdu.sender());
                !is_ignored && matches!(access.judge(event), Verdict::Shown { .. })
            };
            if let Some(found) = events.iter().find(is_shown) {
                return Ok(Some(found.clone()));
            }
            at = events
                .last()
                .filter(|_| events.len() == PIECE)
                .and_then(|last| TimeToken::beyond(last, direction));
        }
        Ok(None)
    }

    /// Whether others had something nearer in a gap of ours, which has come now. Only members have it fetched.
    async fn is_nearer_elsewhere(&self, ours: Option<&StoredEvent>) -> Result<bool, MatrixError> {
        let Reading { room, .. } = self.reading;
        if !room.standing.is_member() || room.standing.is_operator() {
            return Ok(false);
        }
        let Some(follower) = self.follower_of_gap().await? else {
            return Ok(false);
        };
        let (in_vain, clock) = (&self.app.in_vain, self.app.store.clock());
        if in_vain.pause(room.head.room, clock.monotonic()).is_some() {
            return Ok(false);
        }
        let ours = ours.map(|event| event.pdu.origin_server_ts());
        // Boxed: mostly all is here.
        let fetching = moment::fetch(
            &self.app.federation,
            &room.head,
            self.moment,
            ours,
            &follower,
        );
        Box::pin(fetching).await
    }

    /// One of the first events after the moment before which our history has a gap: what lies in there may be from
    /// around the moment. Where what follows it is whole, nothing is nearer than what we have.
    async fn follower_of_gap(&self) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let after = if self.moment.forward {
            TimeToken::at(self.moment.ts, Direction::Forward)
        } else {
            TimeToken::at(self.moment.ts, Direction::Backward)
        };
        let events = self
            .events(after, Direction::Forward, MAX_FOLLOWERS)
            .await?;
        let nos: Vec<EventNo> = events.iter().map(|event| event.no).collect();
        let room = self.reading.room.head.room;
        let gaps = self.app.store.gaps_before(room, &nos).await?;
        Ok(events
            .into_iter()
            .find(|event| gaps.contains_key(&event.no)))
    }
}
