//! Finding what was said.

use std::collections::HashSet;
use std::sync::Arc;

use super::SearchQuery;
use super::index::{Message, room_scope};
use super::query::{Match, Term};
use super::said::Part;
use crate::engine::dialect::search::{Phrase, Sought};
use crate::engine::sql::Columns as _;
use crate::{EventNo, Result, RoomNo, Store, StoredEvent};

/// Rooms that the index is asked for by name; of more, it is asked for all and what is elsewhere left out.
const NAMED_ROOMS: usize = 500;
/// Of what isn't in the index yet the newest so many events are looked at.
const NEWEST: usize = 1_000;

/// Where to search, and how much to give.
#[derive(Debug, Clone, Copy)]
pub struct SearchScope<'a> {
    /// In these rooms.
    pub rooms: &'a [RoomNo],
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
        if query.is_empty() || scope.rooms.is_empty() || scope.parts.is_empty() {
            return Ok(Hits::default());
        }
        // In this order: what goes into the index meanwhile is in both.
        let newest = self.not_indexed(scope).await?;
        let indexed = self.indexed(query, scope).await?;
        let more = indexed.len() >= scope.limit;
        // What was edited a moment ago is found by what it says now, wherever it stands.
        let mut events = self.events_by_no(&indexed).await?;
        let last = events.last().and_then(|event| event.order);
        events.extend(newest);
        let (messages, _) = self.messages_of(events).await?;
        let rooms: HashSet<RoomNo> = scope.rooms.iter().copied().collect();
        let mut hits: Vec<Hit> = messages
            .into_iter()
            .filter(|message| rooms.contains(&message.event.room))
            .filter(|message| message.event.order.is_some_and(|ord| ord < scope.before))
            .filter_map(|message| hit(query, scope.parts, &message))
            .collect();
        hits.sort_by_key(|hit| std::cmp::Reverse(hit.event.order));
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
        let rooms: HashSet<RoomNo> = scope.rooms.iter().copied().collect();
        let mut nos = Vec::new();
        for row in self.rows(query).await? {
            if rooms.contains(&row.get("room")?) {
                nos.push(row.get("no")?);
            }
        }
        self.events_by_no(&nos).await
    }

    /// What the index has.
    async fn indexed(&self, query: &SearchQuery, scope: SearchScope<'_>) -> Result<Vec<EventNo>> {
        let named = scope.rooms.len() <= NAMED_ROOMS;
        let sought = self
            .dialect()
            .search_expression(&sought(query, scope, named));
        let statement = self.dialect().search().find;
        let query = self
            .sql(statement)
            .bind(&sought)
            .bind(scope.before)
            .bind(scope.limit);
        let rows = self.rows(query).await?;
        let ords = rows.iter().map(|row| row.get("ord"));
        let ords = ords.collect::<Result<Vec<i64>>>()?;
        let query = self
            .sql("SELECT no FROM event WHERE ord IN NUMBERS($1) ORDER BY ord DESC")
            .numbers(ords);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("no")).collect()
    }
}

fn sought<'a>(query: &'a SearchQuery, scope: SearchScope<'_>, named: bool) -> Sought<'a> {
    let mut scopes = Vec::new();
    if named {
        scopes.push(scope.rooms.iter().map(|room| room_scope(*room)).collect());
    }
    if Part::ALL.iter().any(|part| !scope.parts.contains(part)) {
        scopes.push(scope.parts.iter().map(|part| part.scope()).collect());
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
