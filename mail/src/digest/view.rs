//! A digest as templates see it: bounded and clean.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::{Body, Digest, Invite, MAX_INVITES, MAX_MESSAGES, MAX_ROOMS, Message, Person, Room};
use crate::clean;
use crate::link::LinkTemplate;

/// The most characters of a name.
const MAX_NAME: usize = 80;
/// The most characters of a message.
const MAX_TEXT: usize = 500;
/// The most lines of a message.
const MAX_LINES: usize = 10;
/// The last second that has four digits for its year.
const LAST: u64 = 253_402_300_799;

/// All that a template can say.
#[derive(Serialize)]
pub(crate) struct DigestView {
    user: String,
    server: String,
    subject: Subject,
    rooms: Vec<RoomView>,
    more_rooms: u64,
    invites: Vec<InviteView>,
    more_invites: u64,
    unsubscribe: String,
}

/// What the subject tells.
#[derive(Serialize)]
struct Subject {
    case: Case,
    /// The sender or inviter, if there is one.
    person: String,
    /// The first room's name, if it has one.
    room: String,
    /// How many rooms there are besides that.
    other_rooms: u64,
    /// How many invites there are.
    invites: u64,
}

/// Which of the subjects it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Case {
    /// One person wrote, to the user alone.
    Direct,
    /// One person wrote, in one room.
    OneSender,
    /// Several wrote, in one room.
    OneRoom,
    /// In several rooms.
    Rooms,
    /// An invite, and nothing else.
    Invite,
    /// Several of them.
    Invites,
    /// Messages and invites.
    Mixed,
}

#[derive(Serialize)]
struct RoomView {
    name: String,
    is_direct: bool,
    link: String,
    messages: Vec<MessageView>,
    more: u64,
}

#[derive(Serialize)]
struct MessageView {
    sender: String,
    at: String,
    kind: &'static str,
    text: String,
    link: String,
}

#[derive(Serialize)]
struct InviteView {
    room: String,
    is_direct: bool,
    inviter: String,
    link: String,
}

impl DigestView {
    pub(crate) fn new(digest: &Digest) -> Self {
        let rooms = digest.rooms.iter().take(MAX_ROOMS);
        let invites = digest.invites.iter().take(MAX_INVITES);
        Self {
            user: person(&digest.user),
            server: name(&digest.server),
            subject: Subject::new(digest),
            rooms: rooms
                .map(|room| RoomView::new(room, &digest.links))
                .collect(),
            more_rooms: beyond(&digest.rooms, MAX_ROOMS, digest.more_rooms),
            invites: invites
                .map(|invite| InviteView::new(invite, &digest.links))
                .collect(),
            more_invites: beyond(&digest.invites, MAX_INVITES, digest.more_invites),
            unsubscribe: digest.unsubscribe.as_str().to_owned(),
        }
    }
}

impl Subject {
    fn new(digest: &Digest) -> Self {
        let rooms = beyond(&digest.rooms, 0, digest.more_rooms);
        let invites = beyond(&digest.invites, 0, digest.more_invites);
        let first = digest.rooms.first();
        let invite = digest.invites.first();
        let sender = first.and_then(only_sender);
        let case = match (rooms, invites) {
            (0, 1) => Case::Invite,
            (0, 2..) => Case::Invites,
            (1, 0) => match (sender, first) {
                (Some(_), Some(room)) if room.is_direct => Case::Direct,
                (Some(_), _) => Case::OneSender,
                (None, _) => Case::OneRoom,
            },
            (_, 0) => Case::Rooms,
            _ => Case::Mixed,
        };
        let (someone, room) = match case {
            Case::Invite | Case::Invites => (
                invite.map(|invite| &invite.inviter),
                invite.and_then(|invite| invite.name.as_deref()),
            ),
            _ => (sender, first.and_then(|room| room.name.as_deref())),
        };
        Self {
            case,
            person: someone.map(person).unwrap_or_default(),
            room: room.map(name).unwrap_or_default(),
            other_rooms: rooms.saturating_sub(1),
            invites,
        }
    }
}

impl RoomView {
    fn new(room: &Room, links: &LinkTemplate) -> Self {
        let left_out = room.messages.len().saturating_sub(MAX_MESSAGES);
        let messages = room.messages[left_out..].iter();
        Self {
            name: room.name.as_deref().map(name).unwrap_or_default(),
            is_direct: room.is_direct,
            link: links.room(&room.id),
            messages: messages
                .map(|message| MessageView::new(message, &room.id, links))
                .collect(),
            more: beyond(&room.messages, MAX_MESSAGES, room.more),
        }
    }
}

impl MessageView {
    fn new(message: &Message, room: &str, links: &LinkTemplate) -> Self {
        let (kind, text) = match &message.body {
            Body::Text(text) => ("text", text.as_str()),
            Body::Emote(text) => ("emote", text.as_str()),
            Body::Picture => ("picture", ""),
            Body::Video => ("video", ""),
            Body::Audio => ("audio", ""),
            Body::File => ("file", ""),
            Body::Sticker => ("sticker", ""),
            Body::Location => ("location", ""),
            Body::Encrypted => ("encrypted", ""),
            Body::Other => ("other", ""),
        };
        Self {
            sender: person(&message.sender),
            at: time(message.at),
            kind,
            text: clean::lines(text, MAX_TEXT, MAX_LINES),
            link: links.event(room, &message.id),
        }
    }
}

impl InviteView {
    fn new(invite: &Invite, links: &LinkTemplate) -> Self {
        Self {
            room: invite.name.as_deref().map(name).unwrap_or_default(),
            is_direct: invite.is_direct,
            inviter: person(&invite.inviter),
            link: links.room(&invite.room),
        }
    }
}

/// Who wrote all that we know of a room, if it was one person.
fn only_sender(room: &Room) -> Option<&Person> {
    let (first, rest) = room.messages.split_first()?;
    let is_same = |message: &Message| message.sender.id == first.sender.id;
    (room.more == 0 && rest.iter().all(is_same)).then_some(&first.sender)
}

/// How many there are beyond so many.
fn beyond<T>(all: &[T], shown: usize, more: u64) -> u64 {
    let here = all.len().saturating_sub(shown);
    u64::try_from(here).unwrap_or(u64::MAX).saturating_add(more)
}

pub(crate) fn person(person: &Person) -> String {
    let shown = person.name.as_deref().map(name).unwrap_or_default();
    if shown.is_empty() {
        return name(&person.id);
    }
    shown
}

pub(crate) fn name(text: &str) -> String {
    clean::line(text, MAX_NAME)
}

/// `2026-01-31 09:05`, in UTC.
fn time(millis: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs((millis / 1000).min(LAST));
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_utc_whatever_strangers_say() {
        assert_eq!(time(0), "1970-01-01 00:00");
        assert_eq!(time(1_769_850_359_999), "2026-01-31 09:05");
        assert_eq!(time(u64::MAX), "9999-12-31 23:59");
    }

    #[test]
    fn who_has_no_name_to_be_seen_is_called_by_their_id() {
        let called = |name: Option<&str>| {
            person(&Person {
                id: "@alice:example.org".to_owned(),
                name: name.map(str::to_owned),
            })
        };
        assert_eq!(called(Some("Alice")), "Alice");
        for name in [None, Some(""), Some(" \u{200b}\u{202e}")] {
            assert_eq!(called(name), "@alice:example.org");
        }
    }
}
