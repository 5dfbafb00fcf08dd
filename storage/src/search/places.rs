//! Asking the index for the places of messages.
//!
//! It has the room of each message among its words, but the rooms of somebody who has most of what is said cost it far more
//! to go through than the words that are sought: for each place that has these, one of each room is looked for. So SQLite's
//! is asked for the words alone first, and by room for as many as that found elsewhere. PostgreSQL's collects
//! all places that it finds before it orders them, so that fewer are better.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::index::room_scope;
use super::query::{SearchQuery, Term};
use super::said::Part;
use crate::engine::dialect::search::{Phrase, Sought};
use crate::engine::sql::Columns as _;
use crate::{EventNo, Pos, Result, RoomNo, Store};

/// Rooms that the index is asked for by name; of more, it is asked for all and what is elsewhere left out.
const NAMED_ROOMS: usize = 500;

/// Where to search, and how much to give.
#[derive(Debug, Clone, Copy)]
pub struct SearchScope<'a> {
    /// In these rooms, …
    pub rooms: &'a [RoomNo],
    /// … and in each of these up to a position: what came later isn't for who asks, and mustn't stand in the way of what is.
    pub left: &'a [(RoomNo, Pos)],
    /// What of events.
    pub parts: &'a [Part],
    /// What came before this place of the log and the history ([`StoredEvent::order`](crate::StoredEvent::order)).
    pub before: i64,
    /// So many are looked for, …
    pub limit: usize,
    /// … and so many of these, the newest, are looked at: no more are given.
    pub looked_at: usize,
}

/// Where the index has what is sought.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The newest first.
    pub(super) found: Vec<Place>,
    /// Before which place there may be more.
    pub(super) next: Option<i64>,
}

/// Where the index has it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The place of the log and the history.
    pub ord: i64,
    /// Which room's.
    pub room: RoomNo,
    pub(super) no: EventNo,
}

impl SearchScope<'_> {
    /// Up to which place each room is searched.
    pub(super) fn ends(&self) -> HashMap<RoomNo, i64> {
        let whole = self.rooms.iter().map(|room| (*room, i64::MAX));
        let left = self.left.iter().map(|(room, end)| (*room, end.0));
        left.chain(whole).collect()
    }
}

impl Store {
    /// The newest places, at most as many as are looked for.
    pub(super) async fn places(
        &self,
        query: &SearchQuery,
        scope: SearchScope<'_>,
    ) -> Result<Places> {
        let search = Search {
            store: self,
            query,
            scope,
        };
        let mut all = search.piece(scope.rooms, scope.before).await?;
        for (room, end) in scope.left {
            let before = scope.before.min(end.0.saturating_add(1));
            // One room isn't dear.
            let piece = search.ask(&[*room], before, scope.limit).await?;
            all.found.extend(piece.found);
            all.next = all.next.max(piece.next);
        }
        let Places { mut found, next } = all;
        found.sort_unstable_by_key(|place| Reverse(place.ord));
        // Further back some rooms weren't looked at.
        found.retain(|place| next.is_none_or(|next| place.ord >= next));
        let cut = found.len() > scope.limit;
        found.truncate(scope.limit);
        let last = found.last().map(|place| place.ord);
        let next = last.filter(|_| cut).or(next);
        Ok(Places { found, next })
    }
}

struct Search<'a> {
    store: &'a Store,
    query: &'a SearchQuery,
    scope: SearchScope<'a>,
}

impl Search<'_> {
    /// The newest in some of the rooms.
    async fn piece(&self, rooms: &[RoomNo], before: i64) -> Result<Places> {
        if rooms.is_empty() {
            return Ok(Places::default());
        }
        let limit = self.scope.limit;
        let is_named = rooms.len() <= NAMED_ROOMS;
        if is_named && !self.begins_anywhere() {
            return self.ask(rooms, before, limit).await;
        }
        let mut piece = self.ask(&[], before, limit).await?;
        let within: HashSet<RoomNo> = rooms.iter().copied().collect();
        let total = piece.found.len();
        piece.found.retain(|place| within.contains(&place.room));
        let elsewhere = total - piece.found.len();
        let Some(next) = piece.next.filter(|_| is_named && elsewhere > 0) else {
            return Ok(piece);
        };
        let rest = self.ask(rooms, next, limit - piece.found.len()).await?;
        piece.found.extend(rest.found);
        piece.next = rest.next;
        Ok(piece)
    }

    /// Whether to ask for the words alone first. Names and topics are few.
    fn begins_anywhere(&self) -> bool {
        self.store.dialect().search().scopes_are_dear && self.scope.parts.contains(&Part::Body)
    }

    /// The newest in the rooms, or in all if none is named.
    async fn ask(&self, rooms: &[RoomNo], before: i64, limit: usize) -> Result<Places> {
        let (store, dialect) = (self.store, self.store.dialect());
        let sought = dialect.search_expression(&self.sought(rooms));
        let find = store.sql(dialect.search().find);
        let find = find.bind(&sought).bind(before).bind(limit);
        let rows = store.rows(find).await?;
        let (mut found, mut last) = (Vec::with_capacity(rows.len()), None::<i64>);
        for row in &rows {
            let ord = row.get("ord")?;
            last = Some(last.map_or(ord, |last| last.min(ord)));
            if let (Some(no), Some(room)) = (row.get("no")?, row.get("room")?) {
                found.push(Place { ord, room, no });
            }
        }
        let next = last.filter(|_| rows.len() >= limit);
        Ok(Places { found, next })
    }

    fn sought(&self, rooms: &[RoomNo]) -> Sought<'_> {
        let parts = self.scope.parts;
        let mut scopes = Vec::new();
        if !rooms.is_empty() {
            scopes.push(rooms.iter().map(|room| room_scope(*room)).collect());
        }
        // Messages are nearly all there is: what else there is is left out more easily.
        let mut outside = Vec::new();
        if parts.contains(&Part::Body) {
            let others = Part::ALL.iter().filter(|part| !parts.contains(part));
            outside.extend(others.map(|part| part.scope()));
        } else {
            scopes.push(parts.iter().map(|part| part.scope()).collect());
        }
        Sought {
            scopes,
            outside,
            wanted: phrases(&self.query.wanted),
            unwanted: phrases(&self.query.unwanted),
        }
    }
}

fn phrases(terms: &[Term]) -> Vec<Phrase<'_>> {
    let phrases = terms.iter().map(|term| Phrase {
        words: &term.words,
        open: term.open,
    });
    phrases.collect()
}
