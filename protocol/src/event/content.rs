//! Small typed readers over event content. They never panic and never fail: a wrong type reads as absent.

use crate::Object;

/// A user's membership in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Membership {
    /// `join`
    Join,
    /// `invite`
    Invite,
    /// `leave`: has left, was kicked, or never was there.
    Leave,
    /// `ban`
    Ban,
    /// `knock`
    Knock,
}

impl Membership {
    /// The membership that `text` names, if it names one.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "join" => Self::Join,
            "invite" => Self::Invite,
            "leave" => Self::Leave,
            "ban" => Self::Ban,
            "knock" => Self::Knock,
            _ => return None,
        })
    }

    /// Reads `content.membership`.
    pub fn of(content: &Object) -> Option<Self> {
        content
            .get("membership")
            .and_then(|value| value.as_str())
            .and_then(Self::parse)
    }

    /// The name in `content.membership`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Leave => "leave",
            Self::Ban => "ban",
            Self::Knock => "knock",
        }
    }
}

impl std::fmt::Display for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who may join a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinRule {
    /// `public`
    Public,
    /// `invite`, also what an absent or unknown rule means
    Invite,
    /// `knock`
    Knock,
    /// `restricted`
    Restricted,
    /// `knock_restricted`
    KnockRestricted,
    /// `private`, or a rule unknown here: nobody joins by it.
    Private,
}

impl JoinRule {
    /// Reads `content.join_rule` of an `m.room.join_rules` event; `None` is the absent event.
    pub fn of(content: Option<&Object>) -> Self {
        let Some(content) = content else {
            return Self::Invite;
        };
        match content.get("join_rule").and_then(|value| value.as_str()) {
            Some("public") => Self::Public,
            Some("invite") | None => Self::Invite,
            Some("knock") => Self::Knock,
            Some("restricted") => Self::Restricted,
            Some("knock_restricted") => Self::KnockRestricted,
            Some(_) => Self::Private,
        }
    }
}

/// `content[key]` if it is a string.
pub fn text<'a>(content: &'a Object, key: &str) -> Option<&'a str> {
    content.get(key).and_then(|value| value.as_str())
}
