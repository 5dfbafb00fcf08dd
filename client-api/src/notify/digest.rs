//! What was missed, for a mail.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rhizome_mail::{Body, Digest, Invite, Link, MAX_MESSAGES, MAX_ROOMS, Message, Person, Room};
use rhizome_protocol::{Membership, Object, Pdu};
use rhizome_storage::{About, Pos, Push, Pusher, RoomNo, Store, StoredEvent, UserNo};
use ruma::{OwnedRoomId, UserId};
use serde_json::Value;

use super::{
    invites::{event_of, name_told},
    told::{Telling, name_of_room, name_of_sender},
};
use crate::{App, MatrixError, push::mailing::Mailing, view::direct};

/// What of all that waits is still to be told.
#[derive(Default)]
pub struct Missed {
    /// Since when the oldest of it waits, milliseconds since 1970; none if there is nothing.
    pub since_ms: Option<i64>,
    /// Nothing of what waited was read.
    pub is_all: bool,
    user: UserNo,
    /// Whether mails may say what was written.
    with_texts: bool,
    /// In the order in which they came, and whether they are highlighted.
    events: Vec<(Arc<StoredEvent>, bool)>,
    /// Invites to rooms that this server isn't in.
    invites: Vec<Invite>,
}

impl Missed {
    /// Of what waits for a pusher.
    pub async fn of(app: &App, pusher: &Pusher, pushes: &[Push]) -> Result<Self, MatrixError> {
        let telling = Telling::new(app, pusher.user).await?;
        let data: Value = serde_json::from_str(&pusher.data).unwrap_or_default();
        let mut missed = Self {
            is_all: true,
            user: pusher.user,
            with_texts: data["format"] != "event_id_only",
            ..Self::default()
        };
        for push in pushes {
            let is_missed = match push.about {
                About::Badge | About::Activation => continue,
                About::Event(no) => match telling.missed(push.room, no).await? {
                    Some(event) => {
                        missed.events.push((event, push.highlight));
                        true
                    }
                    None => false,
                },
                About::Invite => match invite(&app.store, pusher.user, push.room).await? {
                    Some(invite) => {
                        missed.invites.push(invite);
                        true
                    }
                    None => false,
                },
            };
            missed.is_all &= is_missed;
            if is_missed {
                missed.since_ms = missed.since_ms.or(Some(push.since_ms));
            }
        }
        Ok(missed)
    }
}

/// What a mail tells of it.
pub async fn digest(
    app: &App,
    mailing: &Mailing,
    (user, stops): (&UserId, Link),
    missed: Missed,
) -> Result<Digest, MatrixError> {
    let store = &app.store;
    let direct = direct::rooms_of(store, missed.user).await?;
    let profile = store.profile(user).await?.unwrap_or_default();
    let mut invites = missed.invites;
    let mut rooms: HashMap<RoomNo, InRoom> = HashMap::new();
    for (event, highlight) in missed.events {
        let pdu = &event.pdu;
        if pdu.membership() == Some(Membership::Invite) && pdu.state_key() == Some(user.as_str()) {
            invites.push(Invite {
                room: pdu.room_id().to_string(),
                name: named(store, event.room, missed.user).await?,
                is_direct: is_direct(pdu),
                inviter: sender(store, &event).await?,
            });
            continue;
        }
        let room = rooms.entry(event.room).or_default();
        room.highlight |= highlight;
        room.events.push(event);
    }
    let mut rooms: Vec<InRoom> = rooms.into_values().collect();
    rooms.sort_by_key(|room| Reverse(room.weight()));
    let more_rooms = rooms.len().saturating_sub(MAX_ROOMS) as u64;
    let mut told = Vec::new();
    for room in rooms.iter().take(MAX_ROOMS) {
        told.extend(
            room.told(store, (missed.user, missed.with_texts), &direct)
                .await?,
        );
    }
    Ok(Digest {
        user: Person {
            id: user.to_string(),
            name: text(&profile, "displayname"),
        },
        server: mailing.server().to_string(),
        rooms: told,
        more_rooms,
        invites,
        more_invites: 0,
        links: mailing.links().clone(),
        unsubscribe: stops,
    })
}

/// What was missed in a room.
#[derive(Default)]
struct InRoom {
    highlight: bool,
    events: Vec<Arc<StoredEvent>>,
}

impl InRoom {
    /// How much it matters: those with highlights first, then those of which something came last.
    fn weight(&self) -> (bool, Option<Pos>) {
        let last = self.events.last();
        (self.highlight, last.and_then(|event| event.pos()))
    }

    /// What a mail tells of it: the last messages.
    async fn told(
        &self,
        store: &Store,
        (user, with_texts): (UserNo, bool),
        direct: &BTreeSet<OwnedRoomId>,
    ) -> Result<Option<Room>, MatrixError> {
        let more = self.events.len().saturating_sub(MAX_MESSAGES);
        let Some(last) = self.events.last() else {
            return Ok(None);
        };
        let id = last.pdu.room_id();
        let mut messages = Vec::new();
        for event in &self.events[more..] {
            messages.push(Message {
                id: event.pdu.event_id().to_string(),
                sender: sender(store, event).await?,
                at: u64::try_from(event.pdu.origin_server_ts()).unwrap_or_default(),
                body: body(&event.pdu, with_texts),
            });
        }
        Ok(Some(Room {
            id: id.to_string(),
            name: named(store, last.room, user).await?,
            is_direct: direct.contains(id),
            messages,
            more: more as u64,
        }))
    }
}

/// An invite to a room that this server isn't in, if it still stands.
async fn invite(store: &Store, user: UserNo, room: RoomNo) -> Result<Option<Invite>, MatrixError> {
    let Some(invite) = store.remote_invite(user, room).await? else {
        return Ok(None);
    };
    Ok(event_of(&invite).map(|event| Invite {
        room: event.room_id().to_string(),
        name: name_told(&invite),
        is_direct: is_direct(&event),
        inviter: Person {
            id: event.sender().to_string(),
            name: None,
        },
    }))
}

/// What a room is called.
async fn named(store: &Store, room: RoomNo, user: UserNo) -> Result<Option<String>, MatrixError> {
    let summary = store.room_summary(room).await?;
    let name = name_of_room(store, (room, &summary), user).await?;
    Ok(name.or_else(|| summary.alias.as_ref().map(ToString::to_string)))
}

async fn sender(store: &Store, event: &StoredEvent) -> Result<Person, MatrixError> {
    Ok(Person {
        id: event.pdu.sender().to_string(),
        name: name_of_sender(store, &event.pdu, Some(event)).await?,
    })
}

fn is_direct(invite: &Pdu) -> bool {
    invite.content().get("is_direct") == Some(&true.into())
}

/// What an event is, as far as a mail tells.
fn body(event: &Pdu, with_texts: bool) -> Body {
    let content = event.content();
    match event.kind() {
        "m.room.encrypted" => return Body::Encrypted,
        "m.sticker" => return Body::Sticker,
        "m.room.message" => {}
        _ => return Body::Other,
    }
    let written = || {
        let text = with_texts.then(|| text(content, "body")).flatten();
        text.filter(|text| !text.trim().is_empty())
    };
    match content.get("msgtype").and_then(|kind| kind.as_str()) {
        Some("m.text" | "m.notice") => written().map_or(Body::Other, Body::Text),
        Some("m.emote") => written().map_or(Body::Other, Body::Emote),
        Some("m.image") => Body::Picture,
        Some("m.video") => Body::Video,
        Some("m.audio") => Body::Audio,
        Some("m.file") => Body::File,
        Some("m.location") => Body::Location,
        _ => Body::Other,
    }
}

fn text(content: &Object, field: &str) -> Option<String> {
    let text = content.get(field)?.as_str()?;
    Some(text.to_owned())
}
