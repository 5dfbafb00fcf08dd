//! Which events relate to which (client-server API, "Forming relationships between events").
//!
//! What an event relates to is written in the commit that takes it into its room's history, and in the one that gives
//! it back its content; a redaction, which takes the relation out of the event, deletes it. A commit without such events
//! does nothing for it. Events from before there was a table are looked through once ([`fill`]).

pub(crate) mod annotation;
pub(crate) mod bundle;
pub(crate) mod children;
pub mod fill;
pub(crate) mod redaction;
pub(crate) mod rows;
pub(crate) mod threads;

use std::collections::HashSet;

use rhizome_protocol::Object;
use ruma::{EventId, OwnedEventId};

use crate::engine::sql::{Columns as _, rows};
use crate::{Pos, Result, RoomNo, Store, UserNo};

/// The most bytes of a relation's type and of its event's id, and of an annotation's key that is kept.
const LONGEST: usize = 255;

/// What an event relates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relation<'a> {
    pub(crate) parent: &'a EventId,
    pub(crate) rel_type: &'a str,
    /// The `key` of an annotation.
    pub(crate) annotation: Option<&'a str>,
}

impl<'a> Relation<'a> {
    /// What an event with this content relates to, if it is something that an event may relate to.
    pub(crate) fn of(content: &'a Object) -> Option<Self> {
        let said = content.get("m.relates_to")?;
        let text = |field: &str| said.get(field)?.as_str();
        let rel_type = text("rel_type").filter(|text| text.len() <= LONGEST)?;
        // PostgreSQL has no room for longer ones in an index: the event's commit would fail.
        let parent = text("event_id").filter(|text| text.len() <= LONGEST)?;
        let parent = <&EventId>::try_from(parent).ok()?;
        let key = text("key").filter(|key| key.len() <= LONGEST);
        Some(Self {
            parent,
            rel_type,
            annotation: key.filter(|_| rel_type == "m.annotation"),
        })
    }
}

/// Which relations count.
#[derive(Debug, Clone, Copy)]
pub struct Relating<'a> {
    /// Of events by these users; `None`: by anybody.
    pub senders: Option<&'a [UserNo]>,
    /// Of these types; `None`: of any.
    pub rel_types: Option<&'a [String]>,
    /// Not of events by these users.
    pub ignored: &'a [UserNo],
    /// Not of events that came after this position.
    pub upto: Pos,
}

rows! {
    struct Parent<'a> {
        parent: &'a EventId,
    }
}

/// The question of [`Store::related`], with what is asked of senders and types. The first that is found is enough: an
/// event may have very many children.
macro_rules! related {
    ($senders:literal, $types:literal) => {
        concat!(
            "SELECT x.parent FROM ROWS($1) AS x WHERE EXISTS (\
             SELECT 1 FROM relation r WHERE r.room = $2 AND r.parent = x.parent AND r.ord <= $3 \
             AND r.sender NOT IN NUMBERS($4)",
            $senders,
            $types,
            ")"
        )
    };
}

impl Store {
    /// Those of these events of a room that an event of the room relates to in one of these ways, by one question.
    pub async fn related(
        &self,
        room: RoomNo,
        events: &[&EventId],
        ways: Relating<'_>,
    ) -> Result<HashSet<OwnedEventId>> {
        let nobody = ways.senders.is_some_and(<[_]>::is_empty);
        let nothing = ways.rel_types.is_some_and(<[_]>::is_empty);
        if events.is_empty() || nobody || nothing {
            return Ok(HashSet::new());
        }
        let parents = events.iter().map(|parent| Parent { parent });
        let query = match (ways.senders, ways.rel_types) {
            (None, None) => self.sql(related!("", "")),
            (Some(_), None) => self.sql(related!(" AND r.sender IN NUMBERS($5)", "")),
            (None, Some(_)) => self.sql(related!("", " AND r.rel_type IN TEXTS($5)")),
            (Some(_), Some(_)) => self.sql(related!(
                " AND r.sender IN NUMBERS($5)",
                " AND r.rel_type IN TEXTS($6)"
            )),
        };
        let mut query = query
            .rows(&parents.collect::<Vec<_>>())
            .bind(room)
            .bind(ways.upto)
            .numbers(ways.ignored.iter().copied());
        if let Some(senders) = ways.senders {
            query = query.numbers(senders.iter().copied());
        }
        if let Some(rel_types) = ways.rel_types {
            query = query.texts(rel_types);
        }
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("parent")).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(relates_to: &serde_json::Value) -> Option<(String, String, Option<String>)> {
        let content = json!({ "m.relates_to": relates_to });
        let found = Relation::of(content.as_object().unwrap())?;
        let annotation = found.annotation.map(str::to_owned);
        Some((
            found.parent.to_string(),
            found.rel_type.to_owned(),
            annotation,
        ))
    }

    #[test]
    fn what_relates_and_what_does_not() {
        let thread = says(&json!({"rel_type": "m.thread", "event_id": "$a", "key": "k"}));
        assert_eq!(thread, Some(("$a".into(), "m.thread".into(), None)));
        let reaction = says(&json!({"rel_type": "m.annotation", "event_id": "$a", "key": "k"}));
        assert_eq!(
            reaction,
            Some(("$a".into(), "m.annotation".into(), Some("k".into())))
        );
        let long = "x".repeat(256);
        let reaction = says(&json!({"rel_type": "m.annotation", "event_id": "$a", "key": long}));
        assert_eq!(reaction, Some(("$a".into(), "m.annotation".into(), None)));
        for nothing in [
            json!({"event_id": "$a"}),
            json!({"rel_type": "m.thread"}),
            json!({"rel_type": 1, "event_id": "$a"}),
            json!({"rel_type": "m.thread", "event_id": ["$a"]}),
            json!({"rel_type": "m.thread", "event_id": "a"}),
            json!({"rel_type": long, "event_id": "$a"}),
            json!({"rel_type": "m.thread", "event_id": format!("${long}")}),
            json!({"m.in_reply_to": {"event_id": "$a"}}),
            json!("m.thread"),
            json!(null),
        ] {
            assert_eq!(says(&nothing), None, "{nothing}");
        }
    }
}
