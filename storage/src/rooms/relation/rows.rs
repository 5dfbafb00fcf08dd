//! Rows of relations, and how they are written and deleted.

use rhizome_protocol::Object;
use ruma::{OwnedEventId, UserId};

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
    }
}

impl RelationRow {
    /// The row of an event with this content; its `sender` is to be said. `None` if it relates to nothing.
    pub(crate) fn new(child: EventNo, room: RoomNo, kind: &str, content: &Object) -> Option<Self> {
        let relation = Relation::of(content)?;
        Some(Self {
            child,
            room,
            parent: relation.parent.to_owned(),
            rel_type: relation.rel_type.to_owned(),
            kind: kind.to_owned(),
            sender: UserNo::default(),
            annotation: relation.annotation.map(str::to_owned),
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
}

/// Writes the rows (`$1`) of those that are in the history and not redacted, once the events' own are as they shall be.
pub(crate) const INSERT: &str = "\
    INSERT INTO relation (child, room, parent, rel_type, kind, sender, depth, ord, annotation) \
    SELECT x.child, x.room, x.parent, x.rel_type, x.kind, x.sender, e.depth, e.ord, x.annotation \
    FROM ROWS($1) AS x JOIN event e ON e.no = x.child \
    WHERE e.ord IS NOT NULL AND e.redacted_by IS NULL ON CONFLICT (child) DO NOTHING";
