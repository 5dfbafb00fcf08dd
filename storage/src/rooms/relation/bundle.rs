//! What is told of an event's children together with it ("Aggregations of child events"): for many events of many rooms
//! at once, by one question for each kind of relation.

use std::collections::HashMap;

use ruma::{EventId, OwnedEventId};

use crate::engine::sql::{Columns as _, rows};
use crate::{EventNo, Pos, Result, RoomNo, Store, UserNo};

/// References of one event that are told.
const MOST_REFERENCES: usize = 500;
/// References that are told in one answer: fewer of each event where there are many events, but some of each.
const MOST_REFERENCES_IN_ALL: usize = 10_000;
const LEAST_REFERENCES: usize = 10;
/// Edits of one event of the same millisecond that are looked at.
const MOST_EDITS: usize = 20;
/// How far the events of a thread are counted.
const MOST_COUNTED: usize = 10_000;

/// Which part of a room's history a reader surely sees, whatever it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurelySeen {
    /// What came from here on; before it, what was readable for everybody, …
    pub since: Pos,
    /// … and up to here what was shared.
    pub shared_upto: i64,
    /// Nothing after this.
    pub upto: Pos,
}

/// An event whose children are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its room.
    pub room: RoomNo,
    /// The event.
    pub event: &'a EventId,
    /// What the reader sees of the room.
    pub seen: SurelySeen,
}

/// An event whose edits are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Edited<'a> {
    /// The event.
    pub parent: Parent<'a>,
    /// Who sent it: nobody else can edit it.
    pub sender: UserNo,
    /// Its type, which an edit has to have.
    pub kind: &'a str,
}

/// What an event has children of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HasChildren {
    /// It has a thread.
    pub thread: bool,
    /// There are replacements.
    pub edits: bool,
    /// There are references to it.
    pub references: bool,
}

/// What is told of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadSummary {
    /// Its latest event, by its place in the history.
    pub latest: EventNo,
    /// How many there are, as far as they are counted.
    pub count: i64,
    /// Whether the reader has sent one of them.
    pub own: bool,
}

rows! {
    /// An event of which only its children are asked, whoever sees them.
    struct AskedRow<'a> {
        n: usize,
        room: RoomNo,
        parent: &'a EventId,
    }
}

rows! {
    struct ParentRow<'a> {
        n: usize,
        room: RoomNo,
        parent: &'a EventId,
        since: Pos,
        shared: i64,
        upto: Pos,
    }
}

rows! {
    struct EditedRow<'a> {
        n: usize,
        room: RoomNo,
        parent: &'a EventId,
        since: Pos,
        shared: i64,
        upto: Pos,
        sender: UserNo,
        kind: &'a str,
    }
}

impl<'a> ParentRow<'a> {
    fn all(parents: &[Parent<'a>]) -> Vec<Self> {
        let rows = parents.iter().enumerate();
        rows.map(|(n, parent)| Self::of(n, parent)).collect()
    }

    fn of(n: usize, parent: &Parent<'a>) -> Self {
        let Parent { room, event, seen } = *parent;
        Self {
            n,
            room,
            parent: event,
            since: seen.since,
            shared: seen.shared_upto,
            upto: seen.upto,
        }
    }
}

/// That a row `r` relates to the row `x` in a way.
macro_rules! relates {
    ($how:literal) => {
        concat!(
            " FROM relation r WHERE r.room = x.room AND r.parent = x.parent AND ",
            $how
        )
    };
}

/// The same of those that a reader surely sees: before they came by what the history's visibility was then.
macro_rules! relates_visibly {
    ($how:literal) => {
        concat!(
            relates!($how),
            " AND r.ord <= x.upto AND (r.ord >= x.since \
             OR r.visibility <= CASE WHEN r.ord <= x.shared THEN 1 ELSE 0 END)"
        )
    };
}

/// Those of a thread that count, not by whom the reader doesn't hear ($2); what is to redact others says nothing in it.
macro_rules! threaded {
    () => {
        relates_visibly!(
            "r.rel_type = 'm.thread' AND r.kind <> 'm.room.redaction' AND r.sender NOT IN NUMBERS($2)"
        )
    };
}

impl Store {
    /// What these events have children of, one by one, whoever sees them: a look at an index.
    pub async fn have_children(&self, parents: &[Parent<'_>]) -> Result<Vec<HasChildren>> {
        let mut found = vec![HasChildren::default(); parents.len()];
        if parents.is_empty() {
            return Ok(found);
        }
        let rows = parents.iter().enumerate().map(|(n, parent)| AskedRow {
            n,
            room: parent.room,
            parent: parent.event,
        });
        let query = self
            .sql(concat!(
                "WITH found AS MATERIALIZED (SELECT x.n, CAST(CASE WHEN EXISTS (SELECT 1",
                relates!("r.rel_type = 'm.thread'"),
                ") THEN 1 ELSE 0 END AS BIGINT) AS thread, CAST(CASE WHEN EXISTS (SELECT 1",
                relates!("r.rel_type = 'm.replace'"),
                ") THEN 1 ELSE 0 END AS BIGINT) AS edits, CAST(CASE WHEN EXISTS (SELECT 1",
                relates!("r.rel_type = 'm.reference'"),
                ") THEN 1 ELSE 0 END AS BIGINT) AS refs FROM ROWS($1) AS x WHERE EXISTS (SELECT 1",
                // Most have no children of any kind: one look instead of three.
                relates!("r.child > 0"),
                ")) \
                 SELECT n, thread, edits, refs FROM found WHERE thread + edits + refs > 0"
            ))
            .rows(&rows.collect::<Vec<_>>());
        for row in self.rows(query).await? {
            let n: usize = row.get("n")?;
            if let Some(found) = found.get_mut(n) {
                *found = HasChildren {
                    thread: row.get("thread")?,
                    edits: row.get("edits")?,
                    references: row.get("refs")?,
                };
            }
        }
        Ok(found)
    }

    /// What is told of these events' threads, by index; those in which the reader sees nothing are left out.
    pub async fn thread_summaries(
        &self,
        parents: &[Parent<'_>],
        reader: UserNo,
        ignored: &[UserNo],
    ) -> Result<HashMap<usize, ThreadSummary>> {
        let mut found = HashMap::new();
        if parents.is_empty() {
            return Ok(found);
        }
        let query = self
            .sql(concat!(
                "SELECT x.n, (SELECT r.child",
                threaded!(),
                " ORDER BY r.depth DESC, r.ord DESC LIMIT 1) AS latest, \
                 (SELECT COUNT(*) FROM (SELECT 1 AS one",
                threaded!(),
                " LIMIT $4) AS counted) AS total, CAST(CASE WHEN EXISTS (SELECT 1",
                relates!("r.sender = $3 AND r.rel_type = 'm.thread'"),
                ") THEN 1 ELSE 0 END AS BIGINT) AS own FROM ROWS($1) AS x"
            ))
            .rows(&ParentRow::all(parents))
            .numbers(ignored.iter().copied())
            .bind(reader)
            .bind(MOST_COUNTED);
        for row in self.rows(query).await? {
            let latest: Option<EventNo> = row.get("latest")?;
            if let Some(latest) = latest {
                let summary = ThreadSummary {
                    latest,
                    count: row.get("total")?,
                    own: row.get("own")?,
                };
                found.insert(row.get("n")?, summary);
            }
        }
        Ok(found)
    }

    /// The most recent edit of each of these events, by index: by when it says it was made, then by its id. Of very many
    /// of the same millisecond it is one of those that were stored last.
    pub async fn latest_edits(&self, edited: &[Edited<'_>]) -> Result<HashMap<usize, EventNo>> {
        if edited.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = edited.iter().enumerate().map(|(n, edited)| {
            let of = ParentRow::of(n, &edited.parent);
            EditedRow {
                n,
                room: of.room,
                parent: of.parent,
                since: of.since,
                shared: of.shared,
                upto: of.upto,
                sender: edited.sender,
                kind: edited.kind,
            }
        });
        let query = self
            .sql(concat!(
                "WITH edited AS MATERIALIZED (SELECT x.n, x.room, x.parent, x.sender, x.kind, \
                 x.since, x.shared, x.upto, (SELECT r.edited_at",
                relates_visibly!(
                    "r.sender = x.sender AND r.edited_at IS NOT NULL AND r.kind = x.kind"
                ),
                " ORDER BY r.edited_at DESC LIMIT 1) AS latest FROM ROWS($1) AS x), \
                 last AS MATERIALIZED (SELECT x.n, x.room, x.parent, x.sender, x.kind, x.since, x.shared, \
                 x.upto, x.latest, (SELECT r.child",
                relates_visibly!(
                    "r.sender = x.sender AND r.edited_at = x.latest AND r.edited_at IS NOT NULL \
                     AND r.kind = x.kind"
                ),
                " ORDER BY r.child DESC LIMIT 1 OFFSET $2) AS first FROM edited x) \
                 SELECT x.n, c.child, e.event_id FROM last x JOIN relation c ON c.room = x.room AND c.parent = x.parent AND c.sender = x.sender \
                 AND c.edited_at = x.latest AND c.edited_at IS NOT NULL \
                 AND c.child >= COALESCE(x.first, $3) AND c.kind = x.kind AND +c.ord <= x.upto \
                 AND (c.ord >= x.since \
                 OR c.visibility <= CASE WHEN c.ord <= x.shared THEN 1 ELSE 0 END) \
                 JOIN event e ON e.no = c.child"
            ))
            .rows(&rows.collect::<Vec<_>>())
            .bind(MOST_EDITS - 1)
            .bind(i64::MIN);
        let mut found: HashMap<usize, (OwnedEventId, EventNo)> = HashMap::new();
        for row in self.rows(query).await? {
            let new = (row.get("event_id")?, row.get("child")?);
            let best = found.entry(row.get("n")?).or_insert_with(|| new.clone());
            if new.0 > best.0 {
                *best = new;
            }
        }
        Ok(found.into_iter().map(|(n, (_, no))| (n, no)).collect())
    }

    /// The ids of what references each of these events, by index, in the order of the history: the newest, if there are
    /// very many.
    pub async fn references(
        &self,
        parents: &[Parent<'_>],
        ignored: &[UserNo],
    ) -> Result<HashMap<usize, Vec<OwnedEventId>>> {
        let mut found: HashMap<usize, Vec<OwnedEventId>> = HashMap::new();
        if parents.is_empty() {
            return Ok(found);
        }
        let most =
            (MOST_REFERENCES_IN_ALL / parents.len()).clamp(LEAST_REFERENCES, MOST_REFERENCES);
        let query = self
            .sql(concat!(
                "WITH asked AS MATERIALIZED (SELECT x.n, x.room, x.parent, x.since, x.shared, x.upto, \
                 (SELECT r.depth",
                relates!("r.rel_type = 'm.reference' AND r.ord <= x.upto"),
                " ORDER BY r.depth DESC, r.ord DESC LIMIT 1 OFFSET $3) AS depth, (SELECT r.ord",
                relates!("r.rel_type = 'm.reference' AND r.ord <= x.upto"),
                " ORDER BY r.depth DESC, r.ord DESC LIMIT 1 OFFSET $3) AS ord FROM ROWS($1) AS x) \
                 SELECT x.n, e.event_id FROM asked x JOIN relation c ON c.room = x.room \
                 AND c.parent = x.parent AND c.rel_type = 'm.reference' \
                 AND (c.depth, c.ord) >= (COALESCE(x.depth, $4), COALESCE(x.ord, $4)) \
                 AND +c.ord <= x.upto AND c.sender NOT IN NUMBERS($2) \
                 AND (c.ord >= x.since \
                 OR c.visibility <= CASE WHEN c.ord <= x.shared THEN 1 ELSE 0 END) \
                 JOIN event e ON e.no = c.child ORDER BY x.n, c.depth, c.ord"
            ))
            .rows(&ParentRow::all(parents))
            .numbers(ignored.iter().copied())
            .bind(most - 1)
            .bind(i64::MIN);
        for row in self.rows(query).await? {
            let references = found.entry(row.get("n")?).or_default();
            references.push(row.get("event_id")?);
        }
        Ok(found)
    }
}
