//! Finding what was said.

use std::cmp::Reverse;
use std::sync::Arc;

use super::SearchQuery;
use super::index::Message;
use super::places::{Place, Places, SearchScope};
use super::query::Match;
use super::said::Part;
use crate::engine::sql::Columns as _;
use crate::{Result, Store, StoredEvent};

/// Of what isn't in the index yet the newest so many events are looked at.
const NEWEST: usize = 1_000;

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
    /// What is further back and has it as well, if it hasn't changed a moment ago: what wasn't looked at.
    pub further: Vec<Place>,
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
        let Places { mut found, next } = self.places(query, scope).await?;
        let further = found.split_off(found.len().min(scope.looked_at));
        let next = match (found.last(), further.is_empty()) {
            (Some(last), false) => Some(last.ord),
            _ => next,
        };
        let nos: Vec<_> = found.iter().map(|place| place.no).collect();
        let mut events = self.events_by_no(&nos).await?;
        // What was edited a moment ago is found by what it says now, wherever it stands.
        events.extend(newest);
        let mut hits = self.look_at_events(query, scope, events).await?;
        hits.sort_by_key(|hit| Reverse(hit.event.order));
        // Those further back come with the next ones, which the index has by then or not.
        hits.retain(|hit| next.is_none_or(|next| hit.event.order >= Some(next)));
        Ok(Hits {
            hits,
            further,
            next,
        })
    }

    /// Those of some of the places of a search ([`Hits::further`]) that have what is searched for, in no order.
    pub async fn look_at(
        &self,
        query: &SearchQuery,
        scope: SearchScope<'_>,
        places: &[Place],
    ) -> Result<Vec<Hit>> {
        let nos: Vec<_> = places.iter().map(|place| place.no).collect();
        let events = self.events_by_no(&nos).await?;
        self.look_at_events(query, scope, events).await
    }

    async fn look_at_events(
        &self,
        query: &SearchQuery,
        scope: SearchScope<'_>,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Hit>> {
        let (messages, _) = self.messages_of(events).await?;
        let ends = scope.ends();
        let is_within = |event: &StoredEvent| {
            let ends = (event.order, ends.get(&event.room));
            matches!(ends, (Some(ord), Some(end)) if ord < scope.before && ord <= *end)
        };
        Ok(messages
            .into_iter()
            .filter(|message| is_within(&message.event))
            .filter_map(|message| hit(query, scope.parts, &message))
            .collect())
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
