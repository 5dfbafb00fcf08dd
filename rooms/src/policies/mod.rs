//! Moderation policy lists (client-server API, "Moderation policy lists"): what a room's current state recommends about
//! users, servers and rooms. Any room can be a list, and what it says binds nobody.
//!
//! Whoever may set state in the room writes the rules, so each is bounded, and so is how many are read.

mod entity;
mod pattern;

use std::collections::HashMap;

use rhizome_protocol::Pdu;
use rhizome_storage::{RoomNo, Store};
use ruma::{OwnedEventId, OwnedUserId};
use serde_json::Value;

use crate::error::Result;

pub use entity::Entity;
use pattern::Pattern;

/// The types of rules, and whom they are about. Those of before the specification stand behind its own, as lists still
/// have them; whichever comes first counts, where several have one state key.
const TYPES: [(&str, Subject); 9] = [
    ("m.policy.rule.user", Subject::User),
    ("m.policy.rule.server", Subject::Server),
    ("m.policy.rule.room", Subject::Room),
    ("m.room.rule.user", Subject::User),
    ("m.room.rule.server", Subject::Server),
    ("m.room.rule.room", Subject::Room),
    ("org.matrix.mjolnir.rule.user", Subject::User),
    ("org.matrix.mjolnir.rule.server", Subject::Server),
    ("org.matrix.mjolnir.rule.room", Subject::Room),
];

/// What `m.ban` was called before it was specified.
const OLD_BAN: &str = "org.matrix.mjolnir.ban";

/// The most rules of a list that are read: the newest.
const MAX_RULES: usize = 50_000;
/// How many events are loaded at once.
const CHUNK: usize = 500;
/// The most bytes of a recommendation.
const MAX_NAME: usize = 255;
/// As many bytes of a reason are kept.
const MAX_REASON: usize = 512;

/// Whom or what a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Users, by their ids.
    User,
    /// Servers, by their names.
    Server,
    /// Rooms, by their ids or aliases.
    Room,
}

impl Subject {
    /// As the types of rules end.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Server => "server",
            Self::Room => "room",
        }
    }
}

/// What a rule recommends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recommendation {
    /// `m.ban`: to keep it out where possible.
    Ban,
    /// Something that isn't specified.
    Other(String),
}

impl Recommendation {
    /// As rules write it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ban => "m.ban",
            Self::Other(name) => name,
        }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom or what it is about.
    pub subject: Subject,
    /// Which of them: a name, or a pattern with `*` and `?`.
    pub entity: String,
    /// What is to be done.
    pub recommendation: Recommendation,
    /// Why, in somebody's words; its beginning, if it is long.
    pub reason: Option<String>,
    /// Who wrote the rule.
    pub sender: OwnedUserId,
    /// The event that is the rule.
    pub event_id: OwnedEventId,
    pattern: Pattern,
}

/// What became of an event that is a rule by its type.
enum Found {
    Rule(Box<Rule>),
    /// It was taken back.
    Nothing,
    /// It is none that could be kept to.
    Malformed,
}

/// The rules of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// By whom they are about, then by entity.
    pub rules: Vec<Rule>,
    /// How many there are that say nothing: malformed, or too long.
    pub malformed: usize,
    /// Whether there are more than are read.
    pub is_cut: bool,
}

/// Policies in the making: by whom a rule is about and by its state key, with the place of its type.
#[derive(Default)]
struct Making(HashMap<(Subject, String), (usize, Found)>);

impl Rule {
    fn read(event: &Pdu, subject: Subject) -> Found {
        let content = event.content();
        if content.is_empty() {
            return Found::Nothing;
        }
        let text = |key: &str| content.get(key).and_then(Value::as_str);
        let named = |key| text(key).filter(|text| !text.is_empty());
        let (Some(entity), Some(name)) = (named("entity"), named("recommendation")) else {
            return Found::Malformed;
        };
        let pattern = Pattern::parse(subject, entity).filter(|_| name.len() <= MAX_NAME);
        let Some(pattern) = pattern else {
            return Found::Malformed;
        };
        let reason = text("reason").map(|reason| {
            let kept = reason.floor_char_boundary(MAX_REASON);
            reason[..kept].to_owned()
        });
        Found::Rule(Box::new(Self {
            subject,
            entity: entity.to_owned(),
            recommendation: match name {
                "m.ban" | OLD_BAN => Recommendation::Ban,
                other => Recommendation::Other(other.to_owned()),
            },
            reason: reason.filter(|reason| !reason.is_empty()),
            sender: event.sender().to_owned(),
            event_id: event.event_id().to_owned(),
            pattern,
        }))
    }
}

impl Making {
    /// Looks at an event of the room's current state.
    fn take(&mut self, event: &Pdu) {
        let place = TYPES.iter().position(|(kind, _)| *kind == event.kind());
        let (Some(place), Some(key)) = (place, event.state_key()) else {
            return;
        };
        let subject = TYPES[place].1;
        let key = (subject, key.to_owned());
        if self.0.get(&key).is_none_or(|(known, _)| place < *known) {
            self.0.insert(key, (place, Rule::read(event, subject)));
        }
    }

    fn done(self, is_cut: bool) -> Policies {
        let mut policies = Policies {
            is_cut,
            ..Policies::default()
        };
        for (_, found) in self.0.into_values() {
            match found {
                Found::Rule(rule) => policies.rules.push(*rule),
                Found::Nothing => {}
                Found::Malformed => policies.malformed += 1,
            }
        }
        let order = |rule: &Rule| (rule.subject, rule.entity.clone(), rule.event_id.clone());
        policies.rules.sort_by_cached_key(order);
        policies
    }
}

impl Policies {
    /// Those of a room's state, whose other events are passed over.
    pub fn read<'a>(events: impl IntoIterator<Item = &'a Pdu>) -> Self {
        let mut making = Making::default();
        for event in events {
            making.take(event);
        }
        making.done(false)
    }

    /// Those of a room as it is now.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn of(store: &Store, room: RoomNo) -> Result<Self> {
        let kinds = TYPES.map(|(kind, _)| kind);
        let found = store.current_of_kinds(room, &kinds, MAX_RULES + 1);
        let found = found.await?;
        let mut making = Making::default();
        // Events may be large, and little of each is kept.
        for part in found[..found.len().min(MAX_RULES)].chunks(CHUNK) {
            for event in store.events_by_no(part).await? {
                making.take(&event.pdu);
            }
        }
        Ok(making.done(found.len() > MAX_RULES))
    }

    /// The rules that are about somebody or something, whatever they recommend. A user is meant by rules about their
    /// server, too.
    pub fn about(&self, entity: &Entity) -> Vec<&Rule> {
        let names = entity.names();
        let meant = |rule: &&Rule| {
            let mut named = names.iter().filter(|name| name.subject == rule.subject);
            named.any(|name| rule.pattern.matches(name))
        };
        self.rules.iter().filter(meant).collect()
    }
}

#[cfg(test)]
mod tests;
