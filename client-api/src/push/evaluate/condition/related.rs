//! Conditions on the event that an event relates to
//! ([MSC3664](https://github.com/matrix-org/matrix-spec-proposals/pull/3664)).

use rhizome_protocol::Pdu;
use ruma::UserId;
use serde_json::{Map, Value};

use super::{
    super::{
        Known, Missing,
        seen::{LOOKED_AT, Seen},
    },
    Condition, Holds,
};

/// What replies are as a relation.
const REPLY: &str = "m.in_reply_to";

/// An event of the same room that others relate to.
#[derive(Debug, Clone, Copy)]
pub struct Related<'a> {
    /// The event.
    pub event: &'a Pdu,
    /// Where it stands; what is history from before we were there has no place.
    pub pos: Option<i64>,
}

/// What a related event must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelatedMatch {
    /// The relation's type.
    rel_type: Box<str>,
    /// Whether a reply counts that is only there for clients that don't know threads.
    fallbacks: bool,
    /// What the related event has; without it the relation alone is enough.
    wanted: Option<Condition>,
}

/// A relation that an event says of itself.
struct Relation<'a> {
    to: &'a str,
    is_fallback: bool,
}

impl RelatedMatch {
    /// Reads a condition; `None` if it is none.
    pub fn of(data: &Map<String, Value>, user: &UserId) -> Option<Self> {
        let text = |key: &str| data.get(key).and_then(Value::as_str);
        let wanted = match (data.contains_key("key"), data.contains_key("pattern")) {
            (false, false) => None,
            _ => Some(Condition::pattern(text("key")?, text("pattern")?, user)),
        };
        let fallbacks = data.get("include_fallbacks").and_then(Value::as_bool);
        Some(Self {
            rel_type: text("rel_type")?.into(),
            fallbacks: fallbacks.unwrap_or(false),
            wanted,
        })
    }

    /// Whether it holds for an event. What a user may not have seen matches nothing: rules would tell them of it.
    pub fn holds(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Holds {
        let Some(relation) = relation(seen.event, &self.rel_type) else {
            return Holds::No;
        };
        if relation.is_fallback && !self.fallbacks {
            return Holds::No;
        }
        let Some(wanted) = &self.wanted else {
            return Holds::Yes;
        };
        let Some(related) = known.related else {
            return Holds::Open(Missing::Related);
        };
        let mut related = related.iter();
        let Some(to) = related.find(|one| one.event.event_id() == relation.to) else {
            return Holds::No;
        };
        let Some(user) = &known.user else {
            return Holds::Open(Missing::User);
        };
        let was_there = to.pos.is_some_and(|pos| pos > user.since);
        // Its text counts like the event's own.
        let may = (was_there || user.id == Some(to.event.sender()))
            && seen.affords(to.event.json().len().min(LOOKED_AT));
        if !may {
            return Holds::No;
        }
        wanted.holds(&mut Seen::new(to.event), known)
    }
}

/// The ids of the events that an event relates to, at most two.
pub fn related_to(event: &Pdu) -> impl Iterator<Item = &str> {
    let relates_to = event.content_field("m.relates_to");
    let by_type = relates_to.and_then(|to| to.get("event_id"));
    let reply = relates_to.and_then(|to| to.get(REPLY)?.get("event_id"));
    by_type.into_iter().chain(reply).filter_map(Value::as_str)
}

fn relation<'a>(event: &'a Pdu, rel_type: &str) -> Option<Relation<'a>> {
    let relates_to = event.content_field("m.relates_to")?;
    if relates_to.get("rel_type").and_then(Value::as_str) == Some(rel_type) {
        return Some(Relation {
            to: relates_to.get("event_id")?.as_str()?,
            is_fallback: false,
        });
    }
    if rel_type != REPLY {
        return None;
    }
    let falling_back = relates_to.get("is_falling_back").and_then(Value::as_bool);
    Some(Relation {
        to: relates_to.get(REPLY)?.get("event_id")?.as_str()?,
        is_fallback: falling_back.unwrap_or(false),
    })
}
