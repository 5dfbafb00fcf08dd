//! What is to be redacted with an event because it relates to it ([MSC3912]).
//!
//! [MSC3912]: https://github.com/matrix-org/matrix-spec-proposals/pull/3912

use ruma::{EventId, OwnedEventId};

use crate::engine::sql::{Columns as _, rows};
use crate::{Result, RoomNo, Store, UserNo};

/// The name of any type of relation.
const ANY: &str = "*";

/// What somebody wants redacted with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedRedaction {
    /// The event's room.
    pub room: RoomNo,
    /// The event.
    pub target: OwnedEventId,
    /// Who wants it.
    pub sender: UserNo,
    /// What relates to the event so; `*`: anyhow.
    pub rel_type: String,
    /// Why.
    pub reason: Option<String>,
}

impl RelatedRedaction {
    /// The type of relation; `None`: any.
    pub fn rel_type(&self) -> Option<&str> {
        (self.rel_type != ANY).then_some(&*self.rel_type)
    }
}

rows! {
    struct RedactionRow<'a> {
        room: RoomNo,
        target: &'a EventId,
        sender: UserNo,
        rel_type: &'a str,
        reason: Option<&'a str>,
    }
}

rows! {
    struct TargetRow<'a> {
        room: RoomNo,
        target: &'a EventId,
    }
}

impl Store {
    /// Writes down what is to be redacted with events, once these are. What is written down already stays as it is.
    pub async fn want_redacted(&self, wanted: &[RelatedRedaction]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let rows = wanted.iter().map(|one| RedactionRow {
            room: one.room,
            target: &one.target,
            sender: one.sender,
            rel_type: &one.rel_type,
            reason: one.reason.as_deref(),
        });
        let query = self
            .sql(
                "INSERT INTO related_redaction (room, target, sender, rel_type, reason) \
                 SELECT x.room, x.target, x.sender, x.rel_type, x.reason FROM ROWS($1) AS x \
                 WHERE true ON CONFLICT (room, target, sender, rel_type) DO NOTHING",
            )
            .rows(&rows.collect::<Vec<_>>());
        self.execute(query).await?;
        Ok(())
    }

    /// Nothing is to be redacted on somebody's behalf because it relates to an event.
    pub async fn no_more_redacted(
        &self,
        room: RoomNo,
        target: &EventId,
        sender: UserNo,
    ) -> Result<()> {
        let query = self
            .sql("DELETE FROM related_redaction WHERE room = $1 AND target = $2 AND sender = $3")
            .bind(room)
            .bind(target)
            .bind(sender);
        self.execute(query).await?;
        Ok(())
    }

    /// What is to be redacted with these events of rooms.
    pub async fn wanted_redacted(
        &self,
        targets: &[(RoomNo, &EventId)],
    ) -> Result<Vec<RelatedRedaction>> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let rows = targets.iter().map(|(room, target)| TargetRow {
            room: *room,
            target,
        });
        let query = self
            .sql(
                "SELECT r.room, r.target, r.sender, r.rel_type, r.reason FROM ROWS($1) AS x \
                 JOIN related_redaction r ON r.room = x.room AND r.target = x.target \
                 ORDER BY r.room, r.target, r.sender, r.rel_type",
            )
            .rows(&rows.collect::<Vec<_>>());
        let rows = self.rows(query).await?;
        let wanted = rows.iter().map(|row| {
            Ok(RelatedRedaction {
                room: row.get("room")?,
                target: row.get("target")?,
                sender: row.get("sender")?,
                rel_type: row.get("rel_type")?,
                reason: row.get("reason")?,
            })
        });
        wanted.collect()
    }
}
