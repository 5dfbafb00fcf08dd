//! Finding what was said.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::SearchQuery;
use super::index::{Message, room_scope};
use super::query::{Match, Term};
use super::said::Part;
use crate::engine::dialect::search::{Phrase, Sought};
use crate::engine::sql::Columns as _;
use crate::{Pos, Result, RoomNo, Store, StoredEvent};

/// Rooms that the index is asked for by name; of more, it is asked for all and what is elsewhere left out.
const NAMED_ROOMS: usize = 500;
/// Of what isn't in the index yet the newest so many events are looked at.
const NEWEST: usize = 1_000;

/// Where to search, and how much to give.
#[derive(Debug, Clone, Copy)]
pub struct SearchScope<'a> {
    /// In these rooms, …
    pub rooms: &'a [RoomNo],
    /// … and in each of these up to a position: what came later isn't for who asks, and mustn't stand in the way of what is.
    pub left: &'a [(RoomNo, Pos)],
    /// What of events.
    pub parts: &'a [Part],
    /// What came before this place of the log and the history ([`StoredEvent::order`]).
    pub before: i64,
    /// So many are looked at; as many may be given.
    pub limit: usize,
}

/// A message that has what is searched for.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The message as it was sent first, …
    pub event: Arc<StoredEvent>,
    /// … and the edit by which it has it: who may not see that may not know of it.
    pub edit: Option<Arc<StoredEvent>>,
    /// How well.
    pub found: Match,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Hits {
    /// The newest first.
    pub hits: Vec<Hit>,
    /// Before which place to go on; `None` if there is no more.
    pub next: Option<i64>,
}

impl Store {
    /// The newest messages that have what is searched for, whoever may see them. Redacted ones don't have it, edited
    /// ones by what they say now.
    pub async fn search(&self, query: &SearchQuery, scope: SearchScope<'_>) -> Result<Hits> {
        let nowhere = scope.rooms.is_empty() && scope.left.is_empty();
        if query.is_empty() || nowhere || scope.parts.is_empty() {
            return Ok(Hits::default());
        }
        // In this order: what goes into the index meanwhile is in both.
        let newest = self.not_indexed(scope).await?;
        let mut events = self.indexed(query, scope).await?;
        let more = events.len() >= scope.limit;
        // What was edited a moment ago is found by what it says now, wherever it stands.
        let last = events.last().and_then(|event| event.order);
        events.extend(newest);
        let (messages, _) = self.messages_of(events).await?;
        let ends = scope.ends();
        let is_within = |event: &StoredEvent| {
            let ends = (event.order, ends.get(&event.room));
            matches!(ends, (Some(ord), Some(end)) if ord < scope.before && ord <= *end)
        };
        let mut hits: Vec<Hit> = messages
            .into_iter()
            .filter(|message| is_within(&message.event))
            .filter_map(|message| hit(query, scope.parts, &message))
            .collect();
        hits.sort_by_key(|hit| Reverse(hit.event.order));
        // Those further back come with the next ones, which the index has by then or not.
        let next = last.filter(|_| more);
        hits.retain(|hit| next.is_none_or(|next| hit.event.order >= Some(next)));
        Ok(Hits { hits, next })
    }

    /// The newest events of the rooms that aren't in the index.
    async fn not_indexed(&self, scope: SearchScope<'_>) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self
            .sql(
                "SELECT no, room FROM event WHERE ord IS NOT NULL \
                 AND ord > (SELECT live FROM search_upto WHERE id = 1) ORDER BY ord DESC LIMIT $1",
            )
            .bind(NEWEST);
        let ends = scope.ends();
        let mut nos = Vec::new();
        for row in self.rows(query).await? {
            if ends.contains_key(&row.get("room")?) {
                nos.push(row.get("no")?);
            }
        }
        self.events_by_no(&nos).await
    }

    /// What the index has.
    async fn indexed(
        &self,
        query: &SearchQuery,
        scope: SearchScope<'_>,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let mut ords = self.places(query, scope, scope.rooms, scope.before).await?;
        for (room, end) in scope.left {
            let before = scope.before.min(end.0.saturating_add(1));
            ords.extend(self.places(query, scope, &[*room], before).await?);
        }
        ords.sort_unstable_by_key(|ord| Reverse(*ord));
        ords.truncate(scope.limit);
        let query = self
            .sql("SELECT no FROM event WHERE ord IN NUMBERS($1) ORDER BY ord DESC")
            .numbers(ords);
        self.listed(query).await
    }

    /// The newest places of the index in some of the rooms.
    async fn places(
        &self,
        query: &SearchQuery,
        scope: SearchScope<'_>,
        rooms: &[RoomNo],
        before: i64,
    ) -> Result<Vec<i64>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let sought = sought(query, scope.parts, rooms);
        let sought = self.dialect().search_expression(&sought);
        let query = self
            .sql(self.dialect().search().find)
            .bind(&sought)
            .bind(before)
            .bind(scope.limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("ord")).collect()
    }
}

impl SearchScope<'_> {
    /// Up to which place each room is searched.
    fn ends(&self) -> HashMap<RoomNo, i64> {
        let whole = self.rooms.iter().map(|room| (*room, i64::MAX));
        let left = self.left.iter().map(|(room, end)| (*room, end.0));
        left.chain(whole).collect()
    }
}

fn sought<'a>(query: &'a SearchQuery, parts: &[Part], rooms: &[RoomNo]) -> Sought<'a> {
    let mut scopes = Vec::new();
    if rooms.len() <= NAMED_ROOMS {
        scopes.push(rooms.iter().map(|room| room_scope(*room)).collect());
    }
    if Part::ALL.iter().any(|part| !parts.contains(part)) {
        scopes.push(parts.iter().map(|part| part.scope()).collect());
    }
    let phrases = |terms: &'a [Term]| {
        let phrase = |term: &'a Term| Phrase {
            words: &term.words,
            open: term.open,
        };
        terms.iter().map(phrase).collect()
    };
    Sought {
        scopes,
        wanted: phrases(&query.wanted),
        unwanted: phrases(&query.unwanted),
    }
}

/// What the index says may be over since: the message itself decides.
fn hit(query: &SearchQuery, parts: &[Part], message: &Message) -> Option<Hit> {
    let (part, text) = message.said()?;
    let found = parts.contains(&part).then(|| query.find(&text))??;
    Some(Hit {
        event: message.event.clone(),
        edit: message.edit.clone(),
        found,
    })
}
