//! Rows of relations, and how they are written and deleted.

use rhizome_protocol::{Object, Pdu};
use ruma::{OwnedEventId, UserId};
use serde_json::Value;

use super::Relation;
use crate::engine::sql::rows;
use crate::{EventNo, Result, RoomNo, Store, UserNo};

rows! {
    /// An event that relates to another.
    pub(crate) struct RelationRow {
        child: EventNo,
        room: RoomNo,
        parent: OwnedEventId,
        rel_type: String,
        kind: String,
        sender: UserNo,
        annotation: Option<String>,
        edited_at: Option<i64>,
    }
}

/// What the row of an event is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child<'a> {
    pub(crate) kind: &'a str,
    pub(crate) content: &'a Object,
    pub(crate) is_state: bool,
    pub(crate) ts: i64,
}

impl<'a> From<&'a Pdu> for Child<'a> {
    fn from(pdu: &'a Pdu) -> Self {
        Self {
            kind: pdu.kind(),
            content: pdu.content(),
            is_state: pdu.state_key().is_some(),
            ts: pdu.origin_server_ts(),
        }
    }
}

impl Child<'_> {
    /// When it was made, if it may be an edit as far as it tells itself.
    fn edited_at(&self, rel_type: &str) -> Option<i64> {
        let new = self.content.get("m.new_content");
        let has_new = || new.is_some_and(Value::is_object);
        // What an encrypted one says is for clients to see.
        let is_edit = rel_type == "m.replace"
            && !self.is_state
            && (self.kind == "m.room.encrypted" || has_new());
        is_edit.then_some(self.ts)
    }
}

impl RelationRow {
    /// An event's row; its `sender` is to be said. `None` if it relates to nothing.
    pub(crate) fn new(no: EventNo, room: RoomNo, child: &Child<'_>) -> Option<Self> {
        let relation = Relation::of(child.content)?;
        Some(Self {
            child: no,
            room,
            parent: relation.parent.to_owned(),
            rel_type: relation.rel_type.to_owned(),
            kind: child.kind.to_owned(),
            sender: UserNo::default(),
            annotation: relation.annotation.map(str::to_owned),
            edited_at: child.edited_at(relation.rel_type),
        })
    }

    /// Says who sent the events of some rows, one by one.
    pub(crate) async fn sent_by(
        rows: &mut [Self],
        store: &Store,
        senders: &[&UserId],
    ) -> Result<()> {
        let numbers = store.user_nos(senders).await?;
        for (row, sender) in rows.iter_mut().zip(numbers) {
            row.sender = sender;
        }
        Ok(())
    }

    /// Whether the event is in a thread.
    pub(crate) fn is_threaded(&self) -> bool {
        self.rel_type == "m.thread"
    }
}

/// Writes the rows (`$1`) of those that are in the history and not redacted, once the events' own are as they shall be.
pub(crate) const INSERT: &str = "\
    INSERT INTO relation (child, room, parent, rel_type, kind, sender, depth, ord, annotation, edited_at, visibility) \
    SELECT x.child, x.room, x.parent, x.rel_type, x.kind, x.sender, e.depth, e.ord, x.annotation, x.edited_at, COALESCE(e.visibility, 1) \
    FROM ROWS($1) AS x JOIN event e ON e.no = x.child \
    WHERE e.ord IS NOT NULL AND e.redacted_by IS NULL \
    ON CONFLICT (child) DO UPDATE SET edited_at = excluded.edited_at, visibility = excluded.visibility";

/// Writes down that their threads have the events of these rows (`$1`), which have been [written](INSERT).
pub(crate) const IN_THREADS: &str = "\
    INSERT INTO thread (room, root, latest) \
    SELECT r.room, r.parent, MAX(r.ord) FROM ROWS($1) AS x JOIN relation r ON r.child = x.child \
    WHERE r.rel_type = 'm.thread' GROUP BY r.room, r.parent \
    ON CONFLICT (room, root) DO UPDATE SET latest = excluded.latest \
    WHERE thread.latest IS NULL OR thread.latest < excluded.latest";

/// The threads of the events that are redacted (`$1`, by `target`) end with what else is in them. To be done before
/// what they relate to is [deleted](DELETE). Room and root are asked for one by one: of pairs SQLite makes a walk through all
/// threads. What is met by that without need is set to what it is.
pub(crate) const OUT_OF_THREADS: &str = "\
    UPDATE thread SET latest = (SELECT MAX(r.ord) FROM relation r WHERE r.room = thread.room \
    AND r.parent = thread.root AND r.rel_type = 'm.thread' \
    AND r.child NOT IN (SELECT target FROM ROWS($1) AS x)) \
    WHERE room IN (SELECT t.room FROM relation t \
    WHERE t.rel_type = 'm.thread' AND t.child IN (SELECT target FROM ROWS($1) AS y)) \
    AND root IN (SELECT u.parent FROM relation u \
    WHERE u.rel_type = 'm.thread' AND u.child IN (SELECT target FROM ROWS($1) AS z))";

/// What is redacted (`$1`, by `target`) relates to nothing any more.
pub(crate) const DELETE: &str =
    "DELETE FROM relation WHERE child IN (SELECT target FROM ROWS($1) AS x)";
