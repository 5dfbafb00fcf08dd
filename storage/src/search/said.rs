//! What of an event is searched.

use std::borrow::Cow;

use rhizome_protocol::{Object, Pdu};
use ruma::EventId;

use crate::rooms::relation::Relation;

/// What is searched (client-server API, "Server Side Search", `keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `content.body` of `m.room.message`.
    Body,
    /// `content.name` of `m.room.name`.
    Name,
    /// `content.topic` of `m.room.topic`, and its plain text in `m.topic`.
    Topic,
}

impl Part {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Body, Self::Name, Self::Topic];

    /// As a word of the scope.
    pub(super) fn scope(self) -> String {
        match self {
            Self::Body => "kb",
            Self::Name => "kn",
            Self::Topic => "kt",
        }
        .to_owned()
    }
}

/// What an event says, apart from any edits. `None` if there is nothing to search.
pub(super) fn said(pdu: &Pdu) -> Option<(Part, Cow<'_, str>)> {
    match (pdu.kind(), pdu.state_key()) {
        ("m.room.message", None) => Some((Part::Body, text(pdu.content(), "body")?.into())),
        ("m.room.name", Some("")) => Some((Part::Name, text(pdu.content(), "name")?.into())),
        ("m.room.topic", Some("")) => Some((Part::Topic, topic(pdu.content())?)),
        _ => None,
    }
}

/// If an event is an edit of a message: of which, and what that says now.
pub(super) fn edit(pdu: &Pdu) -> Option<(&EventId, &str)> {
    if pdu.kind() != "m.room.message" || pdu.state_key().is_some() {
        return None;
    }
    let relation = Relation::of(pdu.content()).filter(|found| found.rel_type == "m.replace")?;
    let new = pdu.content().get("m.new_content")?.as_object()?;
    Some((relation.parent, text(new, "body")?))
}

fn text<'a>(content: &'a Object, field: &str) -> Option<&'a str> {
    content.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// Clients that know `m.topic` show that, others the plain one: both are found.
fn topic(content: &Object) -> Option<Cow<'_, str>> {
    let old = text(content, "topic");
    let texts = content.get("m.topic").and_then(|topic| topic.get("m.text"));
    let plain = texts.and_then(|texts| texts.as_array()).and_then(|texts| {
        let plain = texts.iter().find(|text| {
            let mimetype = text.get("mimetype").and_then(|value| value.as_str());
            mimetype.is_none_or(|mimetype| mimetype == "text/plain")
        });
        plain?.get("body")?.as_str()
    });
    match (old, plain) {
        (Some(old), Some(plain)) if old != plain => Some(format!("{old}\n{plain}").into()),
        (old, plain) => Some(old.or(plain)?.into()),
    }
}
