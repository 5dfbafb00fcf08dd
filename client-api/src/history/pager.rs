//! Reading a room on behalf of a user: whether they may, and its history page by page.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rhizome_protocol::{Membership, visibility::HistoryVisibility};
use rhizome_storage::{Direction, EventNo, Pos, RoomHead, StoredEvent};
use ruma::{OwnedEventId, OwnedUserId, RoomId, api::client::filter::RoomEventFilter};
use tokio::time::Instant;

use crate::{
    App, MatrixError,
    history::point::HistoryPoint,
    view::{
        filter,
        seen::{self, Seen, Standing, Viewer},
        sight::Sight,
    },
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

    /// Whether more may come after `end`, the last position of which the reader may hear.
    fn goes_on(&self, end: Pos) -> bool {
        self.is_member() || self.standing.left_at.is_none_or(|left| left < end)
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

/// Events asked of other servers where the history that we have has a gap, however few a page holds: each
/// time costs about the same.
const BACKFILL: usize = 100;

/// Events looked through for one page when the filter or the history's visibility hides most.
const MAX_SCAN: usize = 1_000;

/// Events of a page and where the next one begins; `None` when there is no more.
pub struct Page {
    /// In the order of the direction.
    pub events: Vec<Seen>,
    /// Where to go on.
    pub next: Option<HistoryPoint>,
}

/// How often other servers are asked for one page, and for how long a first answer may have taken. Each
/// page asks once, so that paging gets on.
const MAX_ASKED: usize = 3;
const ASKING: Duration = Duration::from_secs(10);

/// How much was asked of other servers for one page.
#[derive(Default)]
struct Asking {
    times: usize,
    begun: Option<Instant>,
}

impl Asking {
    /// Whether they may be asked once more; if not, the next page does it.
    fn may_go_on(&mut self) -> bool {
        self.times += 1;
        let begun = *self.begun.get_or_insert_with(Instant::now);
        self.times == 1 || (self.times <= MAX_ASKED && begun.elapsed() < ASKING)
    }
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

    /// A page towards the past. Where our own history has a gap, other servers are asked for what
    /// belongs there.
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
        let (mut events, mut bytes): (Vec<Seen>, usize) = (Vec::new(), 0);
        let mut scanned = 0;
        let most = self.app.config.max_timeline_bytes;
        let mut asking = Asking::default();
        // What was read before may have ended right at a gap.
        let mut holes = self.holes_at(at).await?;
        let more = 'pages: loop {
            if !holes.is_empty() {
                if !asking.may_go_on() {
                    break true;
                }
                let nothing_yet = scanned == 0;
                self.ask_others(&std::mem::take(&mut holes), nothing_yet)
                    .await?;
            }
            let size = limit.saturating_sub(events.len()).clamp(10, 100);
            let chunk = self.store_page(at, Direction::Backward, size).await?;
            let ended = chunk.len() < size;
            scanned += chunk.len();
            let mut gaps = self.gaps_before(&chunk).await?;
            let mut reached = false;
            for event in chunk {
                reached |= to.and_then(|to| to.reaches(&event)) == Some(true);
                if to.is_some_and(|to| to.reaches(&event).unwrap_or(reached)) {
                    continue;
                }
                if events.len() == limit || bytes > most {
                    // One more than fits: there is a next page.
                    break 'pages true;
                }
                at = HistoryPoint::before(&event, upto);
                let no = event.no;
                if self.wants(&event)
                    && let Some(seen) = sight.see(event).await?
                {
                    bytes += seen.event.pdu.json().len();
                    events.push(seen);
                }
                if let Some(found) = gaps.remove(&no).filter(|_| !reached) {
                    if events.len() == limit {
                        break 'pages true;
                    }
                    holes = found;
                    continue 'pages;
                }
            }
            if reached {
                break false;
            }
            if ended {
                break self.may_be_more_before(at, &mut sight).await?;
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

    /// A page towards the present. Where it ends, more may come: only when nothing has is there no more.
    pub async fn forward(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
    ) -> Result<Page, MatrixError> {
        let mut at = from;
        let mut sight = Sight::new(&self.app.store, &self.reading.viewer, self.reading.standing);
        let (mut events, mut bytes): (Vec<Seen>, usize) = (Vec::new(), 0);
        let mut scanned = 0;
        let most = self.app.config.max_timeline_bytes;
        let more = 'pages: loop {
            let size = (limit - events.len()).clamp(10, 100);
            let chunk = self.store_page(at, Direction::Forward, size).await?;
            let ended = chunk.len() < size;
            scanned += chunk.len();
            for event in chunk {
                if to.and_then(|to| to.reaches(&event)) == Some(false) {
                    break 'pages false;
                }
                if events.len() == limit || bytes > most {
                    break 'pages true;
                }
                at = match at.place {
                    // Forward from a position: in the order in which things came here.
                    None => HistoryPoint::at(event.pos().unwrap_or(at.upto)),
                    Some(_) => HistoryPoint::after(&event, Pos(i64::MAX)),
                };
                if self.wants(&event)
                    && let Some(seen) = sight.see(event).await?
                {
                    bytes += seen.event.pdu.json().len();
                    events.push(seen);
                }
            }
            if ended {
                break scanned > 0 && self.reading.goes_on(self.end);
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

    /// What is missing right before the event that follows a place.
    async fn holes_at(&self, at: HistoryPoint) -> Result<Vec<OwnedEventId>, MatrixError> {
        let gaps = self.gaps_before(&self.following(at).await?).await?;
        Ok(gaps.into_values().flatten().collect())
    }

    /// The event that follows a place, if there is one.
    async fn following(&self, at: HistoryPoint) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        match at.place {
            None if at.upto >= self.end => Ok(Vec::new()),
            None => {
                let room = self.reading.head.room;
                let after = self.app.store.live_after(room, at.upto, self.end, 1);
                Ok(after.await?)
            }
            Some(_) => self.store_page(at, Direction::Forward, 1).await,
        }
    }

    /// Whether more may be found one day before a place where our own history begins: unless it is the room's
    /// beginning, or what lies there isn't the reader's to see.
    async fn may_be_more_before(
        &self,
        at: HistoryPoint,
        sight: &mut Sight<'_>,
    ) -> Result<bool, MatrixError> {
        let first = self.following(at).await?;
        let gaps = self.gaps_before(&first).await?;
        match first.first() {
            Some(first) if !gaps.is_empty() => sight.sees_before(first).await,
            _ => Ok(false),
        }
    }

    /// The gaps before some events that others may fill.
    async fn gaps_before(
        &self,
        events: &[Arc<StoredEvent>],
    ) -> Result<HashMap<EventNo, Vec<OwnedEventId>>, MatrixError> {
        if self.reading.is_member() {
            seen::gaps_before(&self.app.store, &self.reading.viewer, events).await
        } else {
            Ok(HashMap::new())
        }
    }

    /// Asks other servers for what belongs into a gap. If it is in vain, the page goes on without it. Where
    /// that was so a moment ago, a page waits that has nothing else to tell.
    async fn ask_others(
        &self,
        holes: &[OwnedEventId],
        nothing_yet: bool,
    ) -> Result<(), MatrixError> {
        let head = &self.reading.head;
        let (in_vain, clock) = (&self.app.in_vain, self.app.store.clock());
        if let Some(pause) = in_vain.pause(head.room, clock.monotonic()) {
            if nothing_yet {
                tokio::select! {
                    () = clock.sleep(pause) => {}
                    () = self.app.shutdown.cancelled() => {}
                }
            }
            // Somebody else may have asked in the meantime.
            if in_vain.pause(head.room, clock.monotonic()).is_some() {
                return Ok(());
            }
        }
        // Boxed: most pages are all here.
        let fed = &self.app.federation;
        let helped = Box::pin(rhizome_federation::fetch::backfill::before(
            fed,
            &head.room_id,
            holes,
            BACKFILL,
        ))
        .await?;
        in_vain.note(head.room, clock.monotonic(), helped);
        Ok(())
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
