//! Paging through a room's history.

use std::{collections::HashSet, fmt, sync::Arc};

use axum::extract::State;
use rhizome_federation::RawJson;
use rhizome_protocol::{Membership, visibility::HistoryVisibility};
use rhizome_storage::{Direction, HistoryToken, Pos, RoomHead, StoredEvent};
use ruma::{
    OwnedUserId, RoomId,
    api::{
        Direction as Asked,
        client::{filter::RoomEventFilter, message::get_message_events::v3},
    },
};

use crate::{
    App, MatrixError, Ruma,
    filter::{self, MAX_TIMELINE},
    json::Json,
    seen::{self, Seen, Sight, Standing, Style, Viewer},
    sync::{ignored, token::Token},
};

/// Events looked through for one page when the filter or the history's visibility hides most.
const MAX_SCAN: usize = 1_000;

/// A place in a room's history, opaque to clients: `p<position>`, `t<depth>_<order>_<position>`, or
/// any sync token.
///
/// A position splits history into what had happened by then (and everything backfilled) and what
/// came later; so paging back from a timeline's start neither repeats nor leaves out an event,
/// whatever depth other servers' events claim to have. A place within that history is a
/// `(depth, order)` beside the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPoint {
    /// The place among the events of `upto`; `None`: after all of them.
    place: Option<HistoryToken>,
    /// Live events after it don't count when paging back.
    upto: Pos,
}

impl HistoryPoint {
    /// Right after everything up to a log position.
    pub fn at(pos: Pos) -> HistoryPoint {
        HistoryPoint {
            place: None,
            upto: pos,
        }
    }

    /// Before everything.
    pub const START: HistoryPoint = HistoryPoint {
        place: Some(HistoryToken::START),
        upto: Pos(i64::MAX),
    };

    /// Right after an event.
    pub fn after(event: &StoredEvent, upto: Pos) -> HistoryPoint {
        let place = HistoryToken::after(event).unwrap_or(HistoryToken::START);
        HistoryPoint {
            place: Some(place),
            upto,
        }
    }

    /// Right before an event.
    pub fn before(event: &StoredEvent, upto: Pos) -> HistoryPoint {
        let place = HistoryToken::before(event).unwrap_or(HistoryToken::START);
        HistoryPoint {
            place: Some(place),
            upto,
        }
    }

    /// Right before an event, in the same view of history.
    #[must_use]
    pub fn just_before(&self, event: &StoredEvent) -> HistoryPoint {
        HistoryPoint::before(event, self.upto)
    }

    /// The log position that it stands for, if it does.
    pub fn position(&self) -> Option<Pos> {
        self.place.is_none().then_some(self.upto)
    }

    /// Reads a token. `None` if it was never one of ours.
    pub fn parse(text: &str) -> Option<HistoryPoint> {
        let number = |text: &str| -> Option<i64> {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse().ok() } else { None }
        };
        if let Some(pos) = text.strip_prefix('p') {
            return number(pos)
                .filter(|pos| *pos >= 0)
                .map(|pos| HistoryPoint::at(Pos(pos)));
        }
        if let Some(rest) = text.strip_prefix('t') {
            let mut parts = rest.split('_');
            let (depth, order, upto) = (
                number(parts.next()?)?,
                number(parts.next()?)?,
                number(parts.next()?)?,
            );
            return parts.next().is_none().then_some(HistoryPoint {
                place: Some(HistoryToken { depth, order }),
                upto: Pos(upto),
            });
        }
        Token::parse(text)
            .ok()
            .map(|token| HistoryPoint::at(token.pos))
    }

    fn token(&self) -> HistoryToken {
        self.place.unwrap_or(HistoryToken::END)
    }

    /// Whether an event lies at or before this place.
    fn reaches(&self, event: &StoredEvent) -> bool {
        let Some(order) = event.order else {
            return true;
        };
        match self.place {
            None => Pos(order) <= self.upto,
            Some(place) => HistoryToken::after(event).is_none_or(|at| at <= place),
        }
    }
}

impl fmt::Display for HistoryPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            None => write!(f, "p{}", self.upto.0),
            Some(place) => write!(f, "t{}_{}_{}", place.depth, place.order, self.upto.0),
        }
    }
}

/// Reads a `from`, `to` or `at`.
pub fn point(text: &str) -> Result<HistoryPoint, MatrixError> {
    HistoryPoint::parse(text)
        .ok_or_else(|| MatrixError::invalid_param("This is not a token of this server"))
}

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

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
pub async fn messages(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v3::Request>,
) -> Result<RawJson, MatrixError> {
    let reading = Reading::of(&app, &who, &req.room_id).await?;
    let end = reading.end(&app).await?;
    let from = match (&req.from, req.dir) {
        (Some(text), _) => point(text)?,
        (None, Asked::Backward) => HistoryPoint::at(end),
        (None, Asked::Forward) => HistoryPoint::START,
    };
    let to = req.to.as_deref().map(point).transpose()?;
    let asked = u64::from(req.limit).min(MAX_TIMELINE as u64);
    let limit = usize::try_from(asked)
        .unwrap_or(MAX_TIMELINE)
        .min(filter::limit(&req.filter, MAX_TIMELINE));
    let ignored = ignored::read(&app.store, reading.viewer.user).await?;
    let pager = Pager {
        app: &app,
        reading: &reading,
        filter: &req.filter,
        ignored: &ignored,
        end,
    };
    let page = match req.dir {
        Asked::Backward => pager.backward(from, to, limit).await?,
        Asked::Forward => pager.forward(from, to, limit).await?,
    };
    let state = pager.lazy_members(&page.events).await?;
    let now = app.store.clock().now_ms();
    let mut json = Json::with_capacity(512 * page.events.len() + 256);
    json.open().key("start").string(&from.to_string());
    if let Some(end) = page.next {
        json.key("end").string(&end.to_string());
    }
    write_list(&mut json, "chunk", &page.events, &reading.viewer, now);
    if !state.is_empty() {
        write_list(&mut json, "state", &state, &reading.viewer, now);
    }
    json.close();
    Ok(RawJson(json.finish().into()))
}

/// Writes a member that is a list of events.
pub fn write_list(json: &mut Json, key: &str, events: &[Seen], viewer: &Viewer, now_ms: i64) {
    json.key(key).open_list();
    for event in events {
        event.write(json, viewer, now_ms, &Style::ROOM);
    }
    json.close_list();
}

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
                if to.is_none()
                    && !asked_others
                    && events.len() < limit
                    && self.ask_others(limit).await?
                {
                    asked_others = true;
                    continue;
                }
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
        if !self.reading.is_member() {
            return Ok(false);
        }
        let missing = self
            .app
            .store
            .missing_prev_events(self.reading.head.room, 1)
            .await?;
        if missing.is_empty() {
            return Ok(false);
        }
        rhizome_federation::backfill::before(
            &self.app.federation,
            &self.reading.head.room_id,
            limit,
        )
        .await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_as_themselves() {
        let places = [
            HistoryPoint::at(Pos(7)),
            HistoryPoint::START,
            HistoryPoint {
                place: Some(HistoryToken {
                    depth: 3,
                    order: -4,
                }),
                upto: Pos(9),
            },
        ];
        for place in places {
            assert_eq!(HistoryPoint::parse(&place.to_string()), Some(place));
        }
        assert_eq!(
            HistoryPoint::parse("sab_7_3"),
            Some(HistoryPoint::at(Pos(7)))
        );
    }

    #[test]
    fn what_is_not_a_place_is_told_apart() {
        for text in [
            "", "p", "p-1", "p1_2", "t1_2", "t1_2_3_4", "t_1_2", "t1_+2_3", "x7", "p\u{0}", "s1_2",
        ] {
            assert_eq!(HistoryPoint::parse(text), None, "{text:?}");
        }
    }
}
