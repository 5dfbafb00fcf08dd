//! What relates to an event, page by page.

use std::{collections::HashSet, sync::Arc};

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use rhizome_storage::{Along, Children, Direction, Pos, Store, StoredEvent};
use ruma::{
    EventId, OwnedEventId, OwnedUserId, UInt,
    api::{
        Direction as Asked,
        client::relations::{
            get_relating_events::v1 as all, get_relating_events_with_rel_type::v1 as of_type,
            get_relating_events_with_rel_type_and_event_type::v1 as of_kind,
        },
    },
};

use crate::{
    App, Caller, MatrixError, Ruma,
    content::pairs,
    history::{
        event::{hidden, visible_event},
        pager::{
            Page,
            course::{Future, Past, Stored},
        },
    },
    limits::Kind,
    place::point::{HistoryPoint, point},
    view::{
        bundle::Bundler,
        filter::EventFilter,
        ignored,
        json::Json,
        reading::Reading,
        scan::{Budget, Ends, Scan, Stop, Wanted},
        seen::write_list,
    },
};

/// Events of a page if the client doesn't say, and the most.
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 500;

/// How far indirect relations are followed: 1 is what relates to the event itself.
const DEPTH: usize = 3;

/// Events on the way whose children are looked for, at each step.
const MOST_PARENTS: usize = 1_000;

/// What the three forms of the request ask alike: they have the same fields, but no type in common.
macro_rules! question {
    ($req:ident, $recurses:ident, $rel_type:expr, $kind:expr) => {
        Question {
            event: &$req.event_id,
            rel_type: $rel_type,
            kind: $kind,
            from: $req.from.as_deref(),
            to: $req.to.as_deref(),
            limit: $req.limit,
            dir: $req.dir,
            recurse: $recurses.then_some($req.recurse),
        }
    };
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
pub async fn all(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<all::Request>>,
) -> Result<RawJson, MatrixError> {
    let recurses = says_recurse(req.query.as_deref());
    let req = req.decode()?;
    let question = question!(req, recurses, None, None);
    question.answer(&app, &who, &req.room_id).await
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
pub async fn of_type(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<of_type::Request>>,
) -> Result<RawJson, MatrixError> {
    let recurses = says_recurse(req.query.as_deref());
    let req = req.decode()?;
    let question = question!(req, recurses, Some(req.rel_type.as_str()), None);
    question.answer(&app, &who, &req.room_id).await
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
pub async fn of_kind(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<of_kind::Request>>,
) -> Result<RawJson, MatrixError> {
    let recurses = says_recurse(req.query.as_deref());
    let req = req.decode()?;
    let kind = req.event_type.to_string();
    let question = question!(req, recurses, Some(req.rel_type.as_str()), Some(&kind));
    question.answer(&app, &who, &req.room_id).await
}

/// Whether the client speaks of recursion at all: only then it is told how deep it went.
fn says_recurse(query: Option<&str>) -> bool {
    let query = query.filter(|query| query.contains("recurse"));
    query.is_some_and(|query| pairs(query).iter().any(|(name, _)| name == "recurse"))
}

/// What is asked.
struct Question<'a> {
    event: &'a EventId,
    rel_type: Option<&'a str>,
    kind: Option<&'a str>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    limit: Option<UInt>,
    dir: Asked,
    /// `None`: nothing was said of it.
    recurse: Option<bool>,
}

impl Question<'_> {
    async fn answer(
        self,
        app: &App,
        who: &Caller,
        room_id: &ruma::RoomId,
    ) -> Result<RawJson, MatrixError> {
        if self.recurse == Some(true) {
            // It costs more than a page.
            let now = app.now_monotonic_ms();
            let taken = app.limits.take_user(Kind::Other, who, now);
            taken.map_err(MatrixError::limit_exceeded)?;
        }
        let reading = Reading::of(app, who, room_id).await.map_err(hidden)?;
        let parent = visible_event(app, &reading, self.event).await?;
        let end = reading.room.end(&app.store);
        let from = match (self.from, self.dir) {
            (Some(text), _) => point(text)?,
            (None, Asked::Backward) => HistoryPoint::at(end),
            (None, Asked::Forward) => HistoryPoint::START,
        };
        let to = self.to.map(point).transpose()?;
        let limit = self.limit.map_or(DEFAULT_LIMIT, u64::from).min(MAX_LIMIT);
        if limit == 0 {
            return Err(MatrixError::invalid_param("`limit` must be positive"));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let ignored = ignored::read(&app.store, reading.viewer.user).await?;
        let (parents, depth) = self.parents(&app.store, &reading, end).await?;
        let family = Family {
            app,
            reading: &reading,
            ignored: &ignored,
            end,
            of: Children {
                room: parent.event.room,
                parents: &parents,
                rel_type: self.rel_type,
                kind: self.kind,
            },
        };
        let mut page = family.page(from, to, limit, self.dir).await?;
        let budget = Budget::with(app.config.max_timeline_bytes, &page.events);
        let bundler = Bundler {
            store: &app.store,
            viewer: &reading.viewer,
            ignored: &ignored,
            budget: &budget,
        };
        bundler.in_room(&reading, end, &mut page.events).await?;
        let now = app.store.clock().now_ms();
        let mut json = Json::with_capacity(512 * page.events.len() + 256);
        json.open();
        write_list(&mut json, "chunk", &page.events, &reading.viewer, now);
        if let Some(next) = page.next {
            json.key("next_batch").string(&next.to_string());
        }
        if self.from.is_some() {
            json.key("prev_batch").string(&from.to_string());
        }
        if self.recurse.is_some() {
            json.key("recursion_depth").number(depth);
        }
        json.close();
        Ok(RawJson(json.finish().into()))
    }

    /// The events whose children are on the page, and how deep that goes.
    async fn parents(
        &self,
        store: &Store,
        reading: &Reading,
        end: Pos,
    ) -> Result<(Vec<OwnedEventId>, i64), MatrixError> {
        let mut parents = vec![self.event.to_owned()];
        if self.recurse != Some(true) {
            return Ok((parents, 1));
        }
        let mut known: HashSet<OwnedEventId> = parents.iter().cloned().collect();
        let mut last = parents.clone();
        for _ in 1..DEPTH {
            let of = Children {
                room: reading.room.head.room,
                parents: &last,
                rel_type: self.rel_type,
                kind: self.kind,
            };
            let found = store.children_with_children(of, end, MOST_PARENTS).await?;
            last = found;
            // Where event ids are chosen by who sends, they may go in circles.
            last.retain(|event| known.insert(event.clone()));
            if last.is_empty() {
                break;
            }
            parents.extend(last.iter().cloned());
        }
        Ok((parents, i64::try_from(DEPTH).unwrap_or(i64::MAX)))
    }
}

/// Children of events, for one reader.
struct Family<'a> {
    app: &'a App,
    reading: &'a Reading,
    ignored: &'a HashSet<OwnedUserId>,
    end: Pos,
    of: Children<'a>,
}

impl Family<'_> {
    async fn page(
        &self,
        from: HistoryPoint,
        to: Option<HistoryPoint>,
        limit: usize,
        dir: Asked,
    ) -> Result<Page, MatrixError> {
        let filter = EventFilter::default();
        let wanted = Wanted {
            filter: &filter,
            ignored: self.ignored,
            upto: self.end,
        };
        let budget = Budget::new(self.app.config.max_timeline_bytes);
        let Reading { viewer, room } = self.reading;
        let (store, bounds) = (&self.app.store, (limit, &budget));
        let mut scan = Scan::new(store, viewer, room.standing, wanted, Ends::Nothing, bounds);
        let (stop, at) = match dir {
            Asked::Backward => {
                let at = HistoryPoint {
                    place: from.place,
                    upto: from.upto.min(self.end),
                };
                let mut course = Past::new(self, at, to);
                (scan.run(&mut course).await?, course.at)
            }
            Asked::Forward => {
                let mut course = Future::new(self, from, to);
                (scan.run(&mut course).await?, course.at)
            }
        };
        let more = !matches!(stop, Stop::Over | Stop::Ended);
        Ok(Page {
            events: scan.finish().await?,
            next: more.then_some(at),
        })
    }
}

impl Stored for Family<'_> {
    async fn stored(
        &self,
        at: HistoryPoint,
        direction: Direction,
        size: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let along = match (direction, at.place) {
            (Direction::Forward, None) => Along::Arrival(at.upto, self.end),
            (Direction::Forward, Some(_)) => Along::History(at.token(), direction, self.end),
            (Direction::Backward, _) => Along::History(at.token(), direction, at.upto),
        };
        Ok(self.app.store.children(self.of, along, size).await?)
    }
}
