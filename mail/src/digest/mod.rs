//! What a mail about missed messages tells.

mod view;

use std::fmt;

use crate::link::{Link, LinkTemplate};
pub(crate) use view::DigestView;

/// The most rooms that are told of.
pub const MAX_ROOMS: usize = 10;
/// The most messages of each.
pub const MAX_MESSAGES: usize = 8;
/// The most invites.
pub const MAX_INVITES: usize = 10;

/// Missed messages and invites of one user. It may hold more than is told: what is left out is counted.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    /// Whose.
    pub user: Person,
    /// Our server's name.
    pub server: String,
    /// Rooms with messages, those first that matter most.
    pub rooms: Vec<Room>,
    /// How many more rooms there are.
    pub more_rooms: u64,
    /// Invites.
    pub invites: Vec<Invite>,
    /// How many more invites there are.
    pub more_invites: u64,
    /// Where rooms and events are shown.
    pub links: LinkTemplate,
    /// By what no more of these mails come; also for [`Mail::list`](crate::Mail::list).
    pub unsubscribe: Link,
}

/// Somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// Their id, which stands for the name if there is nothing to be seen of one.
    pub id: String,
    /// Their display name.
    pub name: Option<String>,
}

/// A room and what was missed there.
#[derive(Clone, PartialEq, Eq)]
pub struct Room {
    /// Its id.
    pub id: String,
    /// Its name, as its members see it.
    pub name: Option<String>,
    /// Whether it is a conversation with one person.
    pub is_direct: bool,
    /// Its messages, oldest first. Of too many the newest are told.
    pub messages: Vec<Message>,
    /// How many more there are.
    pub more: u64,
}

/// A message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The event's id.
    pub id: String,
    /// Who wrote it.
    pub sender: Person,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What it is.
    pub body: Body,
}

/// What a message is, as far as a mail tells.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// Plain text.
    Text(String),
    /// What somebody does, as after `/me`.
    Emote(String),
    /// A picture.
    Picture,
    /// A video.
    Video,
    /// Something to listen to.
    Audio,
    /// Any other file.
    File,
    /// A sticker.
    Sticker,
    /// A place.
    Location,
    /// What we can't read.
    Encrypted,
    /// Anything else.
    Other,
}

/// An invite.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// The room's id.
    pub room: String,
    /// The room's name.
    pub name: Option<String>,
    /// Whether it is to be a conversation with one person.
    pub is_direct: bool,
    /// Who invites.
    pub inviter: Person,
}

impl fmt::Debug for Digest {
    /// What people write to each other stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rooms, invites) = (self.rooms.len(), self.invites.len());
        write!(f, "Digest({rooms} rooms, {invites} invites)")
    }
}
