//! The graph of auth events, by numbers: down to what an event rests on, and up to what rests on it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ruma::OwnedEventId;

use crate::engine::db::{Columns as _, json_numbers, signed};
use crate::{EventNo, Result, Store, StoredEvent};

impl Store {
    /// Everything that the events' auth events lead to, in no particular order; `of` itself only if it
    /// can be reached from another of them. Follows what is stored.
    pub async fn auth_chain(&self, of: &[OwnedEventId]) -> Result<Vec<OwnedEventId>> {
        let mut first = HashSet::new();
        for event in self.events(of).await? {
            first.extend(event.pdu.auth_events().iter().cloned());
        }
        let first: Vec<_> = first.into_iter().collect();
        let first: Vec<_> = self.event_nos(&first).await?.into_values().collect();
        let edges = self.auth_graph(&first).await?;
        let nos: Vec<_> = reach(&first, &edges).into_iter().collect();
        let ids = self.event_ids(&nos).await?;
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// What the auth events of the state events `of` lead to, by number; `of` itself only if it can be
    /// reached from another of them.
    pub async fn auth_chain_nos(&self, of: &[EventNo]) -> Result<HashSet<EventNo>> {
        let edges = self.auth_graph(of).await?;
        let first: Vec<_> = of
            .iter()
            .flat_map(|no| {
                edges
                    .get(no)
                    .into_iter()
                    .flat_map(|auth| auth.iter().copied())
            })
            .collect();
        Ok(reach(&first, &edges))
    }

    /// The auth events, by number, of these state events; of one that has none, nothing.
    pub async fn auth_events_of(&self, of: &[EventNo]) -> Result<HashMap<EventNo, Arc<[EventNo]>>> {
        let mut edges = HashMap::with_capacity(of.len());
        let mut unknown = Vec::new();
        for no in of {
            match self.core.caches.auth.get(no) {
                Some(auth) => drop(edges.insert(*no, auth)),
                None => unknown.push(no.0),
            }
        }
        if unknown.is_empty() {
            return Ok(edges);
        }
        let query = self
            .sql(
                "SELECT event, auth FROM event_auth WHERE event IN \
                 (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
            )
            .bind(json_numbers(unknown));
        let mut found: HashMap<EventNo, Vec<EventNo>> = HashMap::new();
        for row in self.rows(query).await? {
            let auth = found.entry(EventNo(row.int(0)?)).or_default();
            auth.push(EventNo(row.int(1)?));
        }
        for (no, auth) in found {
            let auth: Arc<[EventNo]> = auth.into();
            self.core.caches.auth.insert(no, auth.clone());
            edges.insert(no, auth);
        }
        Ok(edges)
    }

    /// State events that have this one among their auth events: at most `limit`, those with the greatest
    /// numbers first, only such with numbers below `before`.
    pub async fn auth_children(
        &self,
        of: EventNo,
        before: Option<EventNo>,
        limit: usize,
    ) -> Result<Vec<EventNo>> {
        let query = self
            .sql(
                "SELECT event FROM event_auth WHERE auth = $1 AND event < $2 \
                 ORDER BY event DESC LIMIT $3",
            )
            .bind(of.0)
            .bind(before.map_or(i64::MAX, |before| before.0))
            .bind(signed(limit));
        let rows = self.rows(query).await?;
        rows.iter().map(|row| Ok(EventNo(row.int(0)?))).collect()
    }

    /// The same for many events at once: of each those with the greatest numbers, at most `limit`.
    pub async fn auth_children_of(
        &self,
        of: &[EventNo],
        limit: usize,
    ) -> Result<HashMap<EventNo, Vec<EventNo>>> {
        let query = self
            .sql(
                "SELECT x.no, a.event FROM \
                 (SELECT CAST(value ->> 0 AS BIGINT) AS no FROM EACH($1)) AS x \
                 JOIN event_auth a ON a.auth = x.no AND a.event >= COALESCE((\
                 SELECT b.event FROM event_auth b WHERE b.auth = x.no \
                 ORDER BY b.event DESC LIMIT 1 OFFSET $2), 0) \
                 ORDER BY a.event DESC",
            )
            .bind(json_numbers(of.iter().map(|no| no.0)))
            .bind(signed(limit.saturating_sub(1)));
        let mut children: HashMap<EventNo, Vec<EventNo>> = HashMap::new();
        for row in self.rows(query).await? {
            let of_event = children.entry(EventNo(row.int(0)?)).or_default();
            of_event.push(EventNo(row.int(1)?));
        }
        Ok(children)
    }

    /// The state events that are in the full auth chains (each with its own start) of some of the sets,
    /// not of all: the auth difference of state resolution.
    pub async fn auth_difference(&self, sets: &[Vec<EventNo>]) -> Result<Vec<EventNo>> {
        let all: Vec<_> = sets.iter().flatten().copied().collect();
        let edges = self.auth_graph(&all).await?;
        let mut seen: HashMap<EventNo, usize> = HashMap::new();
        for set in sets {
            for no in reach(set, &edges) {
                *seen.entry(no).or_default() += 1;
            }
        }
        let differ = seen.into_iter().filter(|(_, count)| *count < sets.len());
        Ok(differ.map(|(no, _)| no).collect())
    }

    /// The auth events, by number, of everything that can be reached from `of`.
    pub async fn auth_graph(&self, of: &[EventNo]) -> Result<HashMap<EventNo, Arc<[EventNo]>>> {
        let mut edges: HashMap<EventNo, Arc<[EventNo]>> = HashMap::new();
        let mut left = of.to_vec();
        let mut unknown = Vec::new();
        let mut seen: HashSet<EventNo> = of.iter().copied().collect();
        while let Some(no) = left.pop() {
            match self.core.caches.auth.get(&no) {
                Some(auth) => {
                    left.extend(auth.iter().filter(|no| seen.insert(**no)));
                    edges.insert(no, auth);
                }
                None => unknown.push(no.0),
            }
        }
        if unknown.is_empty() {
            return Ok(edges);
        }
        // One question for all that is below what the cache doesn't know.
        let query = self
            .sql(
                "WITH RECURSIVE chain (no) AS (\
                 SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1) \
                 UNION SELECT a.auth FROM chain JOIN event_auth a ON a.event = chain.no) \
                 SELECT chain.no, a.auth FROM chain LEFT JOIN event_auth a ON a.event = chain.no",
            )
            .bind(json_numbers(unknown));
        let mut found: HashMap<EventNo, Vec<EventNo>> = HashMap::new();
        for row in self.rows(query).await? {
            let auth = found.entry(EventNo(row.int(0)?)).or_default();
            auth.extend(row.int_opt(1)?.map(EventNo));
        }
        for (no, auth) in found {
            let auth: Arc<[EventNo]> = auth.into();
            // Without edges it is a create event, or one whose auth events may still come.
            let names_none = |event: Arc<StoredEvent>| event.pdu.auth_events().is_empty();
            if !auth.is_empty() || self.remembered_event(no).is_some_and(names_none) {
                self.core.caches.auth.insert(no, auth.clone());
            }
            edges.insert(no, auth);
        }
        Ok(edges)
    }
}

fn reach(from: &[EventNo], edges: &HashMap<EventNo, Arc<[EventNo]>>) -> HashSet<EventNo> {
    let mut seen: HashSet<_> = from.iter().copied().collect();
    let mut left: Vec<_> = seen.iter().copied().collect();
    while let Some(no) = left.pop() {
        let auth = edges.get(&no).into_iter().flat_map(|auth| auth.iter());
        left.extend(auth.filter(|no| seen.insert(**no)));
    }
    seen
}
