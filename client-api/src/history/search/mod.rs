//! Searching what was said (client-server API, "Server Side Search").

mod around;
mod asked;
mod batch;
mod results;
mod rooms;

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use rhizome_rooms::state;
use rhizome_storage::RoomNo;
use ruma::api::client::search::search_events::v3;

use self::{
    around::{Context, contexts},
    asked::{Asked, Criteria, Group},
    batch::{After, Batch, Within},
    results::{Found, Results, Search},
};
use crate::{
    App, Caller, MatrixError, Ruma,
    content::pairs,
    view::{
        bundle::{Bundler, Piece},
        dress, ignored,
        json::Json,
        reading::Reading,
        scan::Budget,
        seen::{Seen, Style, Viewer, write_list},
    },
};

/// `POST /_matrix/client/v3/search`
pub async fn search(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let asked: Asked =
        serde_json::from_slice(&body).map_err(|error| MatrixError::of_json(&error))?;
    let mut json = Json::with_capacity(16_384);
    json.open().key("search_categories").open();
    if let Some(criteria) = asked.search_categories.room_events {
        json.key("room_events");
        let query = req.query.as_deref().unwrap_or_default();
        room_events(&app, &who, (&criteria, query), &mut json).await?;
    }
    json.close().close();
    Ok(RawJson(json.finish().into()))
}

async fn room_events(
    app: &App,
    who: &Caller,
    (criteria, query): (&Criteria, &str),
    json: &mut Json,
) -> Result<(), MatrixError> {
    let viewer = Viewer::of(who);
    let from = begins_at(criteria, query)?;
    let query = criteria.query()?;
    let ignored = ignored::read(&app.store, who.user).await?;
    let search = Search {
        app,
        who,
        query: &query,
        parts: &criteria.parts(),
        rooms: &rooms::searched(app, who, &criteria.filter).await?,
        filter: &criteria.filter,
        ignored: &ignored,
        order: criteria.order_by,
        limit: criteria.limit(),
    };
    let mut results = search.page(from.as_ref()).await?;
    let told = results.found.iter().map(|found| &found.seen);
    let budget = Budget::with(app.config.max_timeline_bytes, told);
    let around = match criteria.around(results.found.len()) {
        Some(wanted) => {
            let (found, readings) = (&results.found, &results.readings);
            contexts(app, found, readings, &ignored, &budget, wanted).await?
        }
        None => Vec::new(),
    };
    let bundler = Bundler {
        store: &app.store,
        viewer: &viewer,
        ignored: &ignored,
        budget: &budget,
    };
    let around = tell_all(&bundler, &mut results, around).await?;
    let state = if criteria.include_state {
        states(app, &results).await?
    } else {
        Vec::new()
    };
    let answer = Answer {
        criteria,
        results: &results,
        around: &around,
        state: &state,
        from: from.as_ref(),
        now: app.store.clock().now_ms(),
    };
    answer.write(json);
    Ok(())
}

fn begins_at(criteria: &Criteria, query: &str) -> Result<Option<Batch>, MatrixError> {
    let pairs = pairs(query);
    let text = pairs.into_iter().find(|(name, _)| name == "next_batch");
    let Some((_, text)) = text.filter(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    let batch = Batch::parse(&text, criteria.order_by);
    let refused = || MatrixError::invalid_param("next_batch isn't one of this search");
    Ok(Some(batch.ok_or_else(refused)?))
}

/// Adds to results and what stands around them what readers are told beside an event.
async fn tell_all(
    bundler: &Bundler<'_>,
    results: &mut Results,
    mut around: Vec<Context>,
) -> Result<Vec<Context>, MatrixError> {
    let readings = &results.readings;
    let reading = |room: RoomNo| readings.get(&room).and_then(Option::as_ref);
    let mut seen: Vec<Seen> = results
        .found
        .iter()
        .map(|found| found.seen.clone())
        .collect();
    dress::dress(bundler.store, &mut seen).await?;
    let mut pieces = Vec::new();
    for one in &mut seen {
        if let Some(reading) = reading(one.event.room) {
            pieces.push(piece(bundler, reading, std::slice::from_mut(one)));
        }
    }
    for (context, found) in around.iter_mut().zip(&results.found) {
        if let Some(reading) = reading(found.seen.event.room) {
            pieces.push(piece(bundler, reading, &mut context.before));
            pieces.push(piece(bundler, reading, &mut context.after));
        }
    }
    bundler.bundle(pieces).await?;
    for (found, seen) in results.found.iter_mut().zip(seen) {
        found.seen = seen;
    }
    Ok(around)
}

fn piece<'e>(bundler: &Bundler<'_>, reading: &Reading, events: &'e mut [Seen]) -> Piece<'e> {
    Piece {
        standing: reading.room.standing,
        upto: reading.room.end(bundler.store),
        events,
    }
}

/// The state of each room in which something was found, as the reader may see it.
async fn states(app: &App, results: &Results) -> Result<Vec<(RoomNo, Vec<Seen>)>, MatrixError> {
    let mut rooms: Vec<RoomNo> = results
        .found
        .iter()
        .map(|one| one.seen.event.room)
        .collect();
    rooms.sort_unstable();
    rooms.dedup();
    let mut states = Vec::new();
    for room in rooms {
        let Some(reading) = results.readings.get(&room).and_then(Option::as_ref) else {
            continue;
        };
        let events = state::events_at(&app.rooms, reading.room.state).await?;
        states.push((room, dress::as_state(&app.store, events).await?));
    }
    Ok(states)
}

/// All that is told.
struct Answer<'a> {
    criteria: &'a Criteria,
    results: &'a Results,
    around: &'a [Context],
    state: &'a [(RoomNo, Vec<Seen>)],
    from: Option<&'a Batch>,
    now: i64,
}

impl Answer<'_> {
    fn write(&self, json: &mut Json) {
        let results = self.results;
        json.open();
        json.key("count")
            .number(i64::try_from(results.count).unwrap_or(i64::MAX));
        json.key("highlights").open_list();
        for word in self.highlights() {
            json.string(word);
        }
        json.close_list().key("results").open_list();
        for (n, found) in results.found.iter().enumerate() {
            self.write_result(json, found, self.around.get(n));
        }
        json.close_list();
        if self.criteria.include_state {
            self.write_state(json);
        }
        self.write_groups(json);
        if let Some(after) = results.next {
            let group = self.from.and_then(|batch| batch.group.clone());
            json.key("next_batch").string(&self.batch(after, group));
        }
        json.close();
    }

    fn reading(&self, room: RoomNo) -> Option<&Reading> {
        self.results.readings.get(&room)?.as_ref()
    }

    fn write_result(&self, json: &mut Json, found: &Found, context: Option<&Context>) {
        let Some(reading) = self.reading(found.seen.event.room) else {
            return;
        };
        json.open().key("rank").raw(&found.rank.to_string());
        json.key("result");
        found
            .seen
            .write(json, &reading.viewer, self.now, &Style::ROOM);
        if let Some(context) = context {
            json.key("context");
            context.write(json, reading, self.now);
        }
        json.close();
    }

    fn write_state(&self, json: &mut Json) {
        json.key("state").open();
        for (room, events) in self.state {
            if let Some(reading) = self.reading(*room) {
                let id = reading.room.head.room_id.as_str();
                write_list(json, id, events, &reading.viewer, self.now);
            }
        }
        json.close();
    }

    /// What was found, by room or sender. Each group goes on by itself.
    fn write_groups(&self, json: &mut Json) {
        let wanted = self.criteria.groups();
        if wanted.is_empty() {
            return;
        }
        json.key("groups").open();
        for by in wanted {
            json.key(by.key()).open();
            for (order, (value, members)) in (1..).zip(self.grouped(by)) {
                json.key(&value).open().key("results").open_list();
                for found in &members {
                    json.string(found.seen.event.pdu.event_id().as_str());
                }
                json.close_list().key("order").number(order);
                if let Some(last) = members.last() {
                    let after = last.after(self.results.next);
                    let batch = self.batch(after, Some(by.within(last)));
                    json.key("next_batch").string(&batch);
                }
                json.close();
            }
            json.close();
        }
        json.close();
    }

    /// The groups, by the place of their first result.
    fn grouped(&self, by: Group) -> Vec<(String, Vec<&Found>)> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut groups: Vec<(String, Vec<&Found>)> = Vec::new();
        for found in &self.results.found {
            let value = by.value(found);
            let at = *places.entry(value.clone()).or_insert(groups.len());
            match groups.get_mut(at) {
                Some((_, members)) => members.push(found),
                None => groups.push((value, vec![found])),
            }
        }
        groups
    }

    fn batch(&self, after: After, group: Option<Within>) -> String {
        Batch {
            count: self.results.count,
            after,
            group,
        }
        .to_string()
    }

    /// Words that were found, each once.
    fn highlights(&self) -> impl Iterator<Item = &String> {
        let all = self
            .results
            .found
            .iter()
            .flat_map(|found| &found.highlights);
        let mut each: BTreeMap<String, &String> = BTreeMap::new();
        for word in all {
            each.entry(word.to_lowercase()).or_insert(word);
        }
        each.into_values().take(MOST_HIGHLIGHTS)
    }
}

/// Words to highlight in an answer.
const MOST_HIGHLIGHTS: usize = 100;

impl Group {
    fn key(self) -> &'static str {
        match self {
            Self::RoomId => "room_id",
            Self::Sender => "sender",
        }
    }

    fn value(self, found: &Found) -> String {
        let pdu = &found.seen.event.pdu;
        match self {
            Self::RoomId => pdu.room_id().to_string(),
            Self::Sender => pdu.sender().to_string(),
        }
    }

    fn within(self, found: &Found) -> Within {
        let pdu = &found.seen.event.pdu;
        match self {
            Self::RoomId => Within::Room(pdu.room_id().to_owned()),
            Self::Sender => Within::Sender(pdu.sender().to_owned()),
        }
    }
}
