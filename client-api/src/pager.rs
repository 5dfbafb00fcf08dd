//! Reading a room on behalf of a user: whether they may, and its history page by page.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::{Membership, visibility::HistoryVisibility};
use rhizome_storage::{Direction, Pos, RoomHead, StoredEvent};
use ruma::{OwnedUserId, RoomId, api::client::filter::RoomEventFilter};

use crate::{
    App, MatrixError, filter,
    history_point::HistoryPoint,
    seen::{self, Seen, Sight, Standing, Viewer},
};

/// A room that a reader asks about, and how the two stand to each other.
pub struct Reading {
    /// Who reads.
    pub viewer: Viewer,
    /// The room.
    pub head: Arc<RoomHead>,
    /// Where the reader stands.
    pub standing: Standing,
}

impl Reading {
    /// Refuses whoever was never in the room, unless anyone may read it.
    pub async fn of(
        app: &App,
        caller: &crate::Caller,
        room_id: &RoomId,
    ) -> Result<Reading, MatrixError> {
        let viewer = Viewer::of(caller);
        app.store.log().refresh().await?;
        let denied = || MatrixError::forbidden("You aren't a member of the room");
        let head = app.store.room(room_id).await?.ok_or_else(denied)?;
        let standing = seen::standing(&app.store, &viewer, head.room).await?;
        let reading = Reading {
            viewer,
            head,
            standing,
        };
        if reading.was_member() || reading.is_world_readable(app).await? {
            Ok(reading)
        } else {
            Err(denied())
        }
    }

    /// Whether the reader is or was joined.
    pub fn was_member(&self) -> bool {
        self.is_member() || self.standing.left_at.is_some()
    }

    /// Whether the reader is joined.
    pub fn is_member(&self) -> bool {
        self.standing.membership == Some(Membership::Join)
    }

    async fn is_world_readable(&self, app: &App) -> Result<bool, MatrixError> {
        let Some(snapshot) = self.head.snapshot else {
            return Ok(false);
        };
        let event = app
            .store
            .state_event(snapshot, "m.room.history_visibility", "")
            .await?;
        let visibility = HistoryVisibility::of(event.as_ref().map(|event| event.pdu.content()));
        Ok(visibility == HistoryVisibility::WorldReadable)
    }

    /// The last position of which the reader may hear.
    pub async fn end(&self, app: &App) -> Result<Pos, MatrixError> {
        let head = app.store.log().head();
        match self.standing.left_at {
            Some(left) if !self.is_member() && !self.is_world_readable(app).await? => {
                Ok(left.min(head))
            }
            _ => Ok(head),
        }
    }
}

/// Events looked through for one page when the filter or the history's visibility hides most.
const MAX_SCAN: usize = 1_000;

/// Events of a page and where the next one begins; `None` when there is no more.
pub struct Page {
    /// In the order of the direction.
    pub events: Vec<Seen>,
    /// Where to go on.
    pub next: Option<HistoryPoint>,
}

/// Pages through one room for one reader.
pub struct Pager<'a> {
    /// The context.
    pub app: &'a App,
    /// Room and reader.
    pub reading: &'a Reading,
    /// What to leave out.
    pub filter: &'a RoomEventFilter,
    /// Whose messages the reader doesn't want.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// The last position of which the reader may hear.
    pub end: Pos,
}

impl Pager<'_> {
    fn wants(&self, event: &StoredEvent) -> bool {
        filter::wants_event(self.filter, event)
            && (event.pdu.state_key().is_some() || !self.ignored.contains(event.pdu.sender()))
    }

    /// A page towards the past. When our own history ends, other servers are asked for theirs.
    pub async fn backward(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
    ) -> Result<Page, MatrixError> {
        let upto = from.upto.min(self.end);
        let mut at = HistoryPoint {
            place: from.place,
            upto,
        };
        let mut sight = Sight::new(&self.app.store, &self.reading.viewer, self.reading.standing);
        let mut events: Vec<Seen> = Vec::new();
        let (mut scanned, mut asked_others) = (0, false);
        let more = loop {
            let size = limit.saturating_sub(events.len()).clamp(10, 100);
            let chunk = self.store_page(at, Direction::Backward, size).await?;
            let ended = chunk.len() < size;
            scanned += chunk.len();
            let mut reached = false;
            for event in chunk {
                if to.is_some_and(|to| to.reaches(&event)) {
                    reached = true;
                    continue;
                }
                if events.len() == limit {
                    // One more than fits: there is a next page.
                    seen::dress(&self.app.store, &mut events).await?;
                    return Ok(Page {
                        events,
                        next: Some(at),
                    });
                }
                at = HistoryPoint::before(&event, upto);
                if self.wants(&event) {
                    events.extend(sight.see(event).await?);
                }
            }
            if reached {
                break false;
            }
            if ended {
                // What others give sorts before what we have, so the page simply goes on.
                let room = to.is_none() && events.len() < limit && !asked_others;
                if room && self.ask_others(limit).await? {
                    asked_others = true;
                    continue;
                }
                // Asked in vain: that's the end. Otherwise the next page asks.
                break to.is_none() && !room && self.is_incomplete().await?;
            }
            if scanned >= MAX_SCAN {
                break true;
            }
        };
        seen::dress(&self.app.store, &mut events).await?;
        Ok(Page {
            events,
            next: more.then_some(at),
        })
    }

    /// A page towards the present.
    pub async fn forward(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
    ) -> Result<Page, MatrixError> {
        let mut at = from;
        let mut sight = Sight::new(&self.app.store, &self.reading.viewer, self.reading.standing);
        let mut events: Vec<Seen> = Vec::new();
        let mut scanned = 0;
        let more = 'pages: loop {
            let size = (limit - events.len()).clamp(10, 100);
            let chunk = self.store_page(at, Direction::Forward, size).await?;
            let ended = chunk.len() < size;
            scanned += chunk.len();
            for event in chunk {
                if to.is_some_and(|to| !to.reaches(&event)) {
                    break 'pages false;
                }
                if events.len() == limit {
                    break 'pages true;
                }
                at = match at.place {
                    // Forward from a position: in the order in which things came here.
                    None => HistoryPoint::at(event.pos().unwrap_or(at.upto)),
                    Some(_) => HistoryPoint::after(&event, Pos(i64::MAX)),
                };
                if self.wants(&event) {
                    events.extend(sight.see(event).await?);
                }
            }
            if ended {
                break false;
            }
            if scanned >= MAX_SCAN {
                break true;
            }
        };
        seen::dress(&self.app.store, &mut events).await?;
        Ok(Page {
            events,
            next: more.then_some(at),
        })
    }

    async fn store_page(
        &self,
        at: HistoryPoint,
        direction: Direction,
        size: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let (store, room) = (&self.app.store, self.reading.head.room);
        Ok(match (direction, at.place) {
            (Direction::Forward, None) => store.live_after(room, at.upto, self.end, size).await?,
            (Direction::Forward, Some(_)) => {
                store
                    .history(room, at.token(), direction, size, self.end)
                    .await?
            }
            (Direction::Backward, _) => {
                store
                    .history(room, at.token(), direction, size, at.upto)
                    .await?
            }
        })
    }

    /// Asks other servers for what came before our history, if something did. Whether there is more
    /// now.
    async fn ask_others(&self, limit: usize) -> Result<bool, MatrixError> {
        if !self.is_incomplete().await? {
            return Ok(false);
        }
        rhizome_federation::backfill::before(
            &self.app.federation,
            &self.reading.head.room_id,
            limit,
        )
        .await
    }

    /// Whether something came before our history that others may give.
    async fn is_incomplete(&self) -> Result<bool, MatrixError> {
        let missing = self
            .app
            .store
            .missing_prev_events(self.reading.head.room, 1);
        Ok(self.reading.is_member() && !missing.await?.is_empty())
    }

    /// With lazy loading: the members who sent these events, as they were at their first event here.
    pub async fn lazy_members(&self, events: &[Seen]) -> Result<Vec<Seen>, MatrixError> {
        if filter::lazy_members(self.filter).is_none() {
            return Ok(Vec::new());
        }
        let (mut done, mut nos) = (HashSet::new(), Vec::new());
        for seen in events {
            let sender = seen.event.pdu.sender();
            let (true, Some(before)) = (done.insert(sender), seen.event.state_before) else {
                continue;
            };
            nos.extend(
                self.app
                    .store
                    .state_entry(before, "m.room.member", sender.as_str())
                    .await?,
            );
        }
        let members = self.app.store.events_by_no(&nos).await?;
        seen::as_state(&self.app.store, members).await
    }
}
