//! Conditions of push rules (client-server API, "Conditions").

mod related;

use rhizome_protocol::power::Level;
use ruma::{
    UserId,
    push::{ComparisonOperator, PushCondition},
};
use serde_json::Value;

use self::related::RelatedMatch;
pub use self::related::{Related, related_to};
use super::{
    Known, Missing,
    glob::{Glob, LONGEST_TEXT},
    property::{Path, Property, Scalar},
    seen::Seen,
};
use crate::push::rules::RELATED;

/// The kind of condition on what a user does with a thread
/// ([MSC4306](https://github.com/matrix-org/matrix-spec-proposals/pull/4306)).
const THREAD_SUBSCRIPTION: &str = "io.element.msc4306.thread_subscription";

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The string at the path matches, as a whole.
    Matches(Path, Glob),
    /// Something in the body does that stands between the boundaries of words.
    HasWords(Path, Glob),
    /// The property is that.
    Is(Path, Scalar),
    /// The list has that in it.
    Contains(Path, Scalar),
    /// The string is the id of the user whose rule it is, in whatever case.
    MatchesUser(Path),
    /// The string is the id of the user whose rule it is.
    IsUser(Path),
    /// The list has the id of the user whose rule it is.
    ContainsUser(Path),
    /// The body names the user.
    NamesUser(Path),
    /// The room has so many members.
    Members(Compared, u64),
    /// The sender has the power to notify with this key.
    SenderMay(Box<str>),
    /// The event is in a thread, which the user follows or doesn't.
    Follows(bool),
    /// The event relates to one that is as wanted.
    Related(Box<RelatedMatch>),
    /// What nobody knows holds for no event.
    Unknown,
}

/// How numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compared {
    /// `==`
    Equal,
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It doesn't.
    No,
    /// That depends on something.
    Open(Missing),
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Condition {
    /// The condition as one of `user`'s. What names them becomes the same for everybody.
    pub fn of(condition: &PushCondition, user: &UserId) -> Self {
        match condition {
            PushCondition::EventMatch(data) => Self::pattern(&data.key, &data.pattern, user),
            PushCondition::EventPropertyIs(data) => {
                let path = Path::parse(&data.key);
                match data.value.as_str() {
                    Some(text) if text == user.as_str() => Self::IsUser(path),
                    _ => Self::Is(path, (&data.value).into()),
                }
            }
            PushCondition::EventPropertyContains(data) => {
                let path = Path::parse(&data.key);
                match data.value.as_str() {
                    Some(text) if text == user.as_str() => Self::ContainsUser(path),
                    _ => Self::Contains(path, (&data.value).into()),
                }
            }
            PushCondition::RoomMemberCount(data) => {
                let compared = match data.is.prefix {
                    ComparisonOperator::Eq => Compared::Equal,
                    ComparisonOperator::Lt => Compared::Less,
                    ComparisonOperator::Gt => Compared::Greater,
                    ComparisonOperator::Ge => Compared::AtLeast,
                    ComparisonOperator::Le => Compared::AtMost,
                };
                Self::Members(compared, data.is.count.into())
            }
            PushCondition::SenderNotificationPermission(data) => {
                Self::SenderMay(data.key.as_str().into())
            }
            other => Self::of_other(other, user).unwrap_or(Self::Unknown),
        }
    }

    /// Conditions for which `ruma` has no type, or one that is to go.
    fn of_other(condition: &PushCondition, user: &UserId) -> Option<Self> {
        match condition.kind() {
            "contains_display_name" => Some(Self::NamesUser(Path::parse("content.body"))),
            THREAD_SUBSCRIPTION => {
                let subscribed = condition.data().get("subscribed")?.as_bool()?;
                Some(Self::Follows(subscribed))
            }
            RELATED => {
                let related = RelatedMatch::of(&condition.data(), user)?;
                Some(Self::Related(Box::new(related)))
            }
            _ => None,
        }
    }

    /// `event_match`, also as content rules have it.
    pub fn pattern(key: &str, pattern: &str, user: &UserId) -> Self {
        let path = Path::parse(key);
        if path.is_body() {
            return Self::HasWords(path, Glob::parse(pattern));
        }
        if pattern == user.as_str() && !pattern.contains(['*', '?']) {
            return Self::MatchesUser(path);
        }
        Self::Matches(path, Glob::parse(pattern))
    }

    /// How many bytes of a user's own text a condition has.
    pub fn size_of(condition: &PushCondition) -> usize {
        match condition {
            PushCondition::EventMatch(data) => data.key.len() + data.pattern.len(),
            PushCondition::EventPropertyIs(data) => {
                data.key.len() + data.value.as_str().map_or(0, str::len)
            }
            PushCondition::EventPropertyContains(data) => {
                data.key.len() + data.value.as_str().map_or(0, str::len)
            }
            PushCondition::SenderNotificationPermission(data) => data.key.as_str().len(),
            other if other.kind() == RELATED => {
                let texts = ["rel_type", "key", "pattern"].map(|key| {
                    let data = other.data();
                    data.get(key).and_then(Value::as_str).map_or(0, str::len)
                });
                texts.iter().sum()
            }
            _ => 0,
        }
    }

    /// What is asked first: what an event says by itself, then what others have to say.
    pub fn effort(&self) -> u8 {
        match self {
            Self::Is(..) | Self::Unknown => 0,
            Self::Matches(..) | Self::Contains(..) => 1,
            Self::HasWords(..) => 2,
            Self::Members(..) | Self::SenderMay(_) | Self::Related(_) => 3,
            _ => 4,
        }
    }

    /// Whether it holds for an event, as far as is known.
    pub fn holds(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Holds {
        let event = seen.event;
        match self {
            Self::Matches(path, glob) => {
                let holds = seen.text(path).is_some_and(|text| glob.matches(text));
                holds.into()
            }
            Self::HasWords(path, glob) => seen.has_words(path, glob).into(),
            Self::Is(path, value) => path.of(event).is_some_and(|found| found.is(value)).into(),
            Self::Contains(path, value) => {
                let list = path.of(event).and_then(Property::list);
                let list = list.filter(|list| seen.affords(list.len()));
                let holds = list.is_some_and(|list| list.iter().any(|item| value.is(item)));
                holds.into()
            }
            Self::Members(compared, count) => match known.members {
                Some(members) => compared.hold(members, *count).into(),
                None => Holds::Open(Missing::Members),
            },
            Self::SenderMay(key) => match &known.power {
                Some(power) => {
                    let enough = Level::Int(power.notification(key));
                    (power.user(event.sender()) >= enough).into()
                }
                None => Holds::Open(Missing::Power),
            },
            Self::Related(related) => related.holds(seen, known),
            Self::Unknown => Holds::No,
            of_user => of_user.holds_for_user(seen, known),
        }
    }

    fn holds_for_user(&self, seen: &mut Seen<'_>, known: &Known<'_>) -> Holds {
        if let Self::Follows(follows) = self {
            return holds_of_thread(*follows, seen, known);
        }
        // Nobody is meant by what isn't there: then it doesn't matter who is asked.
        let (Self::MatchesUser(path)
        | Self::IsUser(path)
        | Self::ContainsUser(path)
        | Self::NamesUser(path)) = self
        else {
            return Holds::No;
        };
        let found = path.of(seen.event);
        let text = found.and_then(Property::text);
        let list = found.and_then(Property::list).unwrap_or_default();
        if text.is_none() && list.is_empty() {
            return Holds::No;
        }
        let Some(user) = &known.user else {
            return Holds::Open(Missing::User);
        };
        let id = user.id.map(UserId::as_str);
        let holds = match (self, id) {
            (Self::MatchesUser(_), Some(id)) => {
                let text = seen.text(path);
                text.is_some_and(|text| text == id.to_lowercase())
            }
            (Self::IsUser(_), Some(id)) => text == Some(id),
            (Self::ContainsUser(_), Some(id)) => {
                seen.affords(list.len()) && list.iter().any(|item| item.as_str() == Some(id))
            }
            (Self::MatchesUser(_) | Self::IsUser(_) | Self::ContainsUser(_), None) => false,
            _ => match (seen.text(path), user.name) {
                (Some(text), Some(name)) if (1..=LONGEST_TEXT).contains(&name.len()) => {
                    Glob::parse(name).matches_words(text)
                }
                _ => false,
            },
        };
        holds.into()
    }
}

/// Nobody follows what is in no thread, and nobody doesn't.
fn holds_of_thread(follows: bool, seen: &Seen<'_>, known: &Known<'_>) -> Holds {
    if seen.event.content_field("m.relates_to").is_none() {
        return Holds::No;
    }
    match (known.in_thread, &known.user) {
        (None, _) => Holds::Open(Missing::Thread),
        (Some(false), _) => Holds::No,
        (Some(true), None) => Holds::Open(Missing::User),
        (Some(true), Some(user)) => (user.follows == follows).into(),
    }
}

impl Compared {
    fn hold(self, left: u64, right: u64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
            Self::AtMost => left <= right,
        }
    }
}
