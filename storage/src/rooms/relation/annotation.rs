//! Whether an annotation has been made before.

use ruma::EventId;

use super::LONGEST;
use crate::{Result, RoomNo, Store, UserNo};

/// Annotations of somebody that are looked at whose keys aren't in the table: very long ones.
const MOST: usize = 100;

/// Somebody's annotation of an event.
#[derive(Debug, Clone, Copy)]
pub struct Annotation<'a> {
    /// The event's room.
    pub room: RoomNo,
    /// The event.
    pub parent: &'a EventId,
    /// Whose.
    pub sender: UserNo,
    /// The annotation's type.
    pub kind: &'a str,
    /// What it says.
    pub key: &'a str,
}

impl Store {
    /// Whether there is one like this.
    pub async fn is_annotated(&self, annotation: Annotation<'_>) -> Result<bool> {
        let Annotation {
            room,
            parent,
            sender,
            kind,
            key,
        } = annotation;
        if key.len() <= LONGEST {
            let query = self
                .sql(
                    "SELECT 1 AS one FROM relation WHERE room = $1 AND parent = $2 AND sender = $3 \
                     AND rel_type = 'm.annotation' AND kind = $4 AND annotation = $5 LIMIT 1",
                )
                .bind(room)
                .bind(parent)
                .bind(sender)
                .bind(kind)
                .bind(key);
            return Ok(self.row(query).await?.is_some());
        }
        let query = self
            .sql(
                "SELECT child AS no FROM relation WHERE room = $1 AND parent = $2 AND sender = $3 \
                 AND rel_type = 'm.annotation' AND kind = $4 AND annotation IS NULL LIMIT $5",
            )
            .bind(room)
            .bind(parent)
            .bind(sender)
            .bind(kind)
            .bind(MOST);
        let events = self.listed(query).await?;
        Ok(events.iter().any(|event| {
            let relation = event.pdu.content_field("m.relates_to");
            relation.and_then(|relation| relation.get("key")?.as_str()) == Some(key)
        }))
    }
}
