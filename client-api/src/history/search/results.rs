//! A page of results: what was found, as far as the reader may see it.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use rhizome_rooms::access::{EventAccess, Verdict, standing};
use rhizome_storage::{Hit, Part, Place, RoomNo, SearchQuery, SearchScope, StoredEvent};
use ruma::OwnedUserId;

use super::{
    asked::Order,
    batch::{After, Batch, Within},
    rooms::Searched,
};
use crate::{
    App, Caller, MatrixError,
    view::{
        filter::{self, EventFilter},
        reading::Reading,
        seen::{Seen, reader},
    },
};

/// Messages that have what is searched for and are looked at: for one page, and together.
const LOOKED_AT: usize = 1_000;
const TOGETHER: usize = 200;

/// What is searched, for whom.
pub struct Search<'a> {
    pub app: &'a App,
    pub who: &'a Caller,
    pub query: &'a SearchQuery,
    pub parts: &'a [Part],
    pub rooms: &'a Searched,
    pub filter: &'a EventFilter,
    pub ignored: &'a HashSet<OwnedUserId>,
    pub order: Order,
    pub limit: usize,
}

/// A result.
pub struct Found {
    pub seen: Seen,
    pub rank: f64,
    pub highlights: Vec<String>,
    place: i64,
}

impl Found {
    /// Where to go on after it, in the order in which its page does.
    pub fn after(&self, page: Option<After>) -> After {
        match page {
            Some(After::Rank { upto, .. }) => After::Rank {
                rank: self.rank,
                place: self.place,
                upto,
            },
            _ => After::Place(self.place),
        }
    }
}

/// Some of what was found.
struct Piece {
    found: Vec<Found>,
    /// What wasn't looked at.
    further: Vec<Place>,
    /// Before which place to go on.
    next: Option<i64>,
}

/// A page of them.
#[derive(Default)]
pub struct Results {
    pub found: Vec<Found>,
    pub count: usize,
    /// Where the next page begins, if there may be one.
    pub next: Option<After>,
    /// The rooms in which something was found, as the reader may read them.
    pub readings: HashMap<RoomNo, Option<Reading>>,
}

impl Search<'_> {
    /// The page that begins where an earlier one said.
    pub async fn page(&self, from: Option<&Batch>) -> Result<Results, MatrixError> {
        match self.order {
            Order::Recent => self.by_time(from).await,
            Order::Rank => self.by_rank(from).await,
        }
    }

    async fn by_time(&self, from: Option<&Batch>) -> Result<Results, MatrixError> {
        let mut results = Results::default();
        let mut before = match from.map(|batch| batch.after) {
            Some(After::Place(place)) => Some(place),
            _ => Some(i64::MAX),
        };
        // How many there are is said on the first page alone.
        let counts = from.is_none();
        let mut piece = if counts && !filter::wants_all(self.filter) {
            TOGETHER
        } else {
            TOGETHER.min(self.limit * 2)
        };
        let (mut looked_at, mut count) = (0, 0);
        while let Some(place) = before.filter(|_| looked_at < LOOKED_AT) {
            let some = self.some(place, piece, from, &mut results).await?;
            looked_at += piece;
            before = some.next;
            count += some.found.len();
            results.found.extend(some.found);
            if results.found.len() >= self.limit {
                if counts {
                    count += self.count(&some.further, &mut results).await?;
                }
                break;
            }
            piece = TOGETHER;
        }
        results.found.truncate(self.limit);
        results.count = from.map_or(count, |batch| batch.count);
        let last = results.found.last().map(|found| After::Place(found.place));
        results.next = last.or(before.map(After::Place));
        Ok(results)
    }

    /// The best of the newest.
    async fn by_rank(&self, from: Option<&Batch>) -> Result<Results, MatrixError> {
        let mut results = Results::default();
        let (after, upto) = match from.map(|batch| batch.after) {
            Some(After::Rank { rank, place, upto }) => (Some((rank, place)), upto),
            _ => (None, self.app.store.log().head().0.saturating_add(1)),
        };
        let (mut looked_at, mut before) = (0, Some(upto));
        let mut all = Vec::new();
        while let Some(place) = before.filter(|_| looked_at < LOOKED_AT) {
            let some = self.some(place, TOGETHER, from, &mut results).await?;
            looked_at += TOGETHER;
            before = some.next;
            all.extend(some.found);
        }
        results.count = from.map_or(all.len(), |batch| batch.count);
        let key = |rank: f64, place: i64| (Reverse(rank.to_bits()), Reverse(place));
        // Ranks are above 0: their bits are in their order.
        all.sort_by_key(|found| key(found.rank, found.place));
        if let Some((rank, place)) = after {
            all.retain(|found| key(found.rank, found.place) > key(rank, place));
        }
        all.truncate(self.limit);
        results.next = all.last().map(|last| After::Rank {
            rank: last.rank,
            place: last.place,
            upto,
        });
        results.found = all;
        Ok(results)
    }

    /// How many of the places the reader sees. They are looked at, unless that is sure of all: outside the reader's stays
    /// what is there may be hidden, erased, or edited to something that is hidden, and even how many there are tells of it.
    async fn count(&self, places: &[Place], results: &mut Results) -> Result<usize, MatrixError> {
        if self.ignored.is_empty() && self.all_within_stays(places).await? {
            return Ok(places.len());
        }
        let scope = self.scope(i64::MAX, TOGETHER);
        let hits = self.app.store.look_at(self.query, scope, places).await?;
        Ok(self.shown(hits, None, results).await?.len())
    }

    /// Whether all lie within the reader's present stays.
    async fn all_within_stays(&self, places: &[Place]) -> Result<bool, MatrixError> {
        let mut standings = HashMap::new();
        for place in places {
            let standing = match standings.entry(place.room) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let store = &self.app.store;
                    *new.insert(standing(store, reader(self.who), place.room).await?)
                }
            };
            if !standing.covers_place(place.ord) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn scope(&self, before: i64, looked_at: usize) -> SearchScope<'_> {
        SearchScope {
            rooms: &self.rooms.whole,
            left: &self.rooms.left,
            parts: self.parts,
            before,
            limit: TOGETHER,
            looked_at,
        }
    }

    /// What was found before a place and is to be shown, looking at so many.
    async fn some(
        &self,
        before: i64,
        looked_at: usize,
        from: Option<&Batch>,
        results: &mut Results,
    ) -> Result<Piece, MatrixError> {
        let group = from.and_then(|batch| batch.group.as_ref());
        let scope = self.scope(before, looked_at);
        let found = self.app.store.search(self.query, scope).await?;
        Ok(Piece {
            found: self.shown(found.hits, group, results).await?,
            further: found.further,
            next: found.next,
        })
    }

    /// Those that are to be shown, the newest first.
    async fn shown(
        &self,
        hits: Vec<Hit>,
        group: Option<&Within>,
        results: &mut Results,
    ) -> Result<Vec<Found>, MatrixError> {
        let mut by_room: HashMap<RoomNo, Vec<Hit>> = HashMap::new();
        for hit in hits {
            if self.wants(&hit.event, group) {
                by_room.entry(hit.event.room).or_default().push(hit);
            }
        }
        let mut shown = Vec::new();
        for (room, hits) in by_room {
            if let Some(reading) = self.reading(room, &hits, results).await? {
                shown.extend(self.seen(reading, hits).await?);
            }
        }
        shown.sort_by_key(|found| Reverse(found.place));
        Ok(shown)
    }

    fn wants(&self, event: &StoredEvent, group: Option<&Within>) -> bool {
        let in_group = match group {
            None => true,
            Some(Within::Room(id)) => event.pdu.room_id() == id,
            Some(Within::Sender(id)) => event.pdu.sender() == id,
        };
        let ignored = event.pdu.state_key().is_none() && self.ignored.contains(event.pdu.sender());
        in_group && !ignored && filter::wants_event(self.filter, event)
    }

    /// The room, if it is the reader's to read.
    async fn reading<'r>(
        &self,
        room: RoomNo,
        hits: &[Hit],
        results: &'r mut Results,
    ) -> Result<Option<&'r Reading>, MatrixError> {
        let entry = match results.readings.entry(room) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Some(hit) = hits.first() else {
                    return Ok(None);
                };
                let reading = Reading::of(self.app, self.who, hit.event.pdu.room_id()).await;
                new.insert(match reading {
                    Ok(reading) => Some(reading),
                    Err(error) if error.errcode == "M_FORBIDDEN" => None,
                    Err(error) => return Err(error),
                })
            }
        };
        Ok(entry.as_ref())
    }

    /// What of a room's hits the reader may see.
    async fn seen(&self, reading: &Reading, hits: Vec<Hit>) -> Result<Vec<Found>, MatrixError> {
        let store = &self.app.store;
        let mut access = EventAccess::new(store, &reading.viewer.user_id, reading.room.standing);
        let said = hits
            .iter()
            .flat_map(|hit| hit.edit.iter().chain([&hit.event]));
        let said: Vec<&Arc<StoredEvent>> = said.collect();
        access.load(said).await?;
        let asking = filter::Asking {
            store,
            ignored: self.ignored,
            upto: reading.room.end(store),
        };
        let events: Vec<&Arc<StoredEvent>> = hits.iter().map(|hit| &hit.event).collect();
        let unrelated = asking
            .unrelated(&self.filter.related, events.into_iter())
            .await?;
        let hits = hits
            .into_iter()
            .filter(|hit| !unrelated.contains(&hit.event.no));
        Ok(hits.filter_map(|hit| found(&access, hit)).collect())
    }
}

fn found(access: &EventAccess<'_>, hit: Hit) -> Option<Found> {
    let place = hit.event.order?;
    let is_whole = |event: &StoredEvent| {
        let verdict = access.judge(event);
        matches!(verdict, Verdict::Shown { whole: true, .. })
    };
    // What is shown without its content, or in another form, doesn't have it.
    if !is_whole(&hit.event) || !hit.edit.as_deref().is_none_or(is_whole) {
        return None;
    }
    let verdict = access.judge(&hit.event);
    Some(Found {
        seen: Seen::of(hit.event, verdict)?,
        rank: hit.found.rank,
        highlights: hit.found.highlights,
        place,
    })
}
