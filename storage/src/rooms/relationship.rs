//! What events say of their parents by `m.relationship`, and what other servers say of theirs ([MSC2836]).
//!
//! [MSC2836]: https://github.com/matrix-org/matrix-spec-proposals/pull/2836

use std::collections::HashMap;

use rhizome_protocol::Pdu;
use ruma::{EventId, OwnedEventId};

use crate::engine::sql::{Columns as _, rows};
use crate::{EventNo, Result, RoomNo, Store};

/// The most bytes of a relation's type and of an event's id.
const LONGEST: usize = 255;

rows! {
    /// An event and its parent.
    pub(crate) struct RelationshipRow {
        child: EventNo,
        room: RoomNo,
        parent: OwnedEventId,
        rel_type: String,
        ts: i64,
    }
}

impl RelationshipRow {
    /// The row of an event that has a parent.
    pub(crate) fn new(child: EventNo, room: RoomNo, pdu: &Pdu) -> Option<Self> {
        let said = pdu.content().get("m.relationship")?;
        let text = |field: &str| {
            said.get(field)?
                .as_str()
                .filter(|text| text.len() <= LONGEST)
        };
        let parent = OwnedEventId::try_from(text("event_id")?).ok()?;
        (parent != pdu.event_id()).then_some(())?;
        Some(Self {
            child,
            room,
            parent,
            rel_type: text("rel_type")?.to_owned(),
            ts: pdu.origin_server_ts(),
        })
    }
}

/// Writes the rows.
pub(crate) const INSERT: &str = "\
    INSERT INTO relationship (child, room, parent, rel_type, ts) \
    SELECT child, room, parent, rel_type, ts FROM ROWS($1) AS x WHERE true \
    ON CONFLICT (child) DO NOTHING";

/// A child of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedChild {
    /// Of which event.
    pub parent: OwnedEventId,
    /// Its number.
    pub no: EventNo,
    /// Its id.
    pub event: OwnedEventId,
    /// How it relates.
    pub rel_type: String,
    /// When it says it was sent.
    pub ts: i64,
}

/// What other servers say of an event's children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldChildren {
    /// Of which event.
    pub parent: OwnedEventId,
    /// How many there are.
    pub total: i64,
    /// By type, as a JSON object.
    pub children: String,
    /// Of their ids.
    pub hash: String,
    /// The hash about which another server was asked.
    pub explored: Option<String>,
}

rows! {
    struct ParentRow<'a> {
        parent: &'a EventId,
    }
}

rows! {
    struct ToldRow<'a> {
        room: RoomNo,
        parent: &'a EventId,
        total: i64,
        children: &'a str,
        hash: &'a str,
    }
}

impl Store {
    /// The parent of a stored event, and how it relates; what is redacted keeps it.
    pub async fn relationship_of(&self, child: EventNo) -> Result<Option<(OwnedEventId, String)>> {
        let query = self
            .sql("SELECT parent, rel_type FROM relationship WHERE child = $1")
            .bind(child);
        let row = self.row(query).await?;
        row.map(|row| Ok((row.get("parent")?, row.get("rel_type")?)))
            .transpose()
    }

    /// Children of these events, newest first, at most `limit`, and of each at most `each`.
    pub async fn relationship_children(
        &self,
        room: RoomNo,
        parents: &[&EventId],
        (each, limit): (usize, usize),
    ) -> Result<Vec<RelatedChild>> {
        if parents.is_empty() || each == 0 {
            return Ok(Vec::new());
        }
        let rows = parents.iter().map(|parent| ParentRow { parent });
        // Where the last that is wanted of each lies is told by the index.
        let query = self
            .sql(
                "WITH asked AS MATERIALIZED (SELECT x.parent, \
                 (SELECT r.ts FROM relationship r WHERE r.room = $2 AND r.parent = x.parent \
                 ORDER BY r.ts DESC, r.child DESC LIMIT 1 OFFSET $3) AS ts, \
                 (SELECT r.child FROM relationship r WHERE r.room = $2 AND r.parent = x.parent \
                 ORDER BY r.ts DESC, r.child DESC LIMIT 1 OFFSET $3) AS child FROM ROWS($1) AS x), \
                 found AS MATERIALIZED (SELECT c.parent, c.child, c.rel_type, c.ts FROM asked x \
                 JOIN relationship c ON c.room = $2 AND c.parent = x.parent \
                 AND (c.ts, c.child) >= (COALESCE(x.ts, $4), COALESCE(x.child, $4)) \
                 ORDER BY c.ts DESC, c.child DESC LIMIT $5) \
                 SELECT f.parent, f.child, e.event_id, f.rel_type, f.ts FROM found f \
                 JOIN event e ON e.no = f.child ORDER BY f.ts DESC, f.child DESC",
            )
            .rows(&rows.collect::<Vec<_>>())
            .bind(room)
            .bind(each - 1)
            .bind(i64::MIN)
            .bind(limit);
        let rows = self.rows(query).await?;
        let children = rows.iter().map(|row| {
            Ok(RelatedChild {
                parent: row.get("parent")?,
                no: row.get("child")?,
                event: row.get("event_id")?,
                rel_type: row.get("rel_type")?,
                ts: row.get("ts")?,
            })
        });
        children.collect()
    }

    /// What other servers have said of the children of these events.
    pub async fn told_children(
        &self,
        room: RoomNo,
        parents: &[&EventId],
    ) -> Result<HashMap<OwnedEventId, ToldChildren>> {
        if parents.is_empty() {
            return Ok(HashMap::new());
        }
        let query = self
            .sql(
                "SELECT parent, total, children, hash, explored FROM relationship_told \
                 WHERE room = $1 AND parent IN TEXTS($2)",
            )
            .bind(room)
            .texts(parents.iter().map(|parent| parent.as_str()));
        let rows = self.rows(query).await?;
        let told = rows.iter().map(|row| {
            let parent: OwnedEventId = row.get("parent")?;
            let told = ToldChildren {
                parent: parent.clone(),
                total: row.get("total")?,
                children: row.get("children")?,
                hash: row.get("hash")?,
                explored: row.get("explored")?,
            };
            Ok((parent, told))
        });
        told.collect()
    }

    /// Notes what another server says of events' children; who says that there are most is believed.
    pub async fn tell_children(&self, room: RoomNo, told: &[ToldChildren]) -> Result<()> {
        if told.is_empty() {
            return Ok(());
        }
        let rows = told.iter().map(|told| ToldRow {
            room,
            parent: &told.parent,
            total: told.total,
            children: &told.children,
            hash: &told.hash,
        });
        let query = self
            .sql(
                "INSERT INTO relationship_told (room, parent, total, children, hash) \
                 SELECT x.room, x.parent, x.total, x.children, x.hash FROM ROWS($1) AS x WHERE true \
                 ON CONFLICT (room, parent) DO UPDATE SET total = excluded.total, \
                 children = excluded.children, hash = excluded.hash \
                 WHERE excluded.total > relationship_told.total",
            )
            .rows(&rows.collect::<Vec<_>>());
        self.execute(query).await?;
        Ok(())
    }

    /// Another server was asked about an event's children: not again, unless more are told of.
    pub async fn explored_children(&self, room: RoomNo, parent: &EventId) -> Result<()> {
        let query = self
            .sql("UPDATE relationship_told SET explored = hash WHERE room = $1 AND parent = $2")
            .bind(room)
            .bind(parent);
        self.execute(query).await?;
        Ok(())
    }
}
