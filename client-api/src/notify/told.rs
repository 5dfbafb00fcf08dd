//! What is told of something that waits.

use std::sync::Arc;

use rhizome_protocol::{Membership, Pdu};
use rhizome_push::{Counts, Event, Notification, Prio};
use rhizome_storage::{
    About, EventNo, MembershipRow, Push, RoomNo, RoomSummary, Store, StoredEvent, UserNo,
};
use serde_json::{Map, Value, json, value::RawValue};

use super::invites::{event_of, name_told, of_invite};
use crate::{
    App, MatrixError,
    push::evaluate::Alert,
    sync::{
        counts::{Counts as Unread, event::Effect},
        window::Window,
    },
    view::heroes,
};

/// So many members stand for a room without a name.
const HEROES: usize = 3;
/// Calls ring: they are told at once, and by themselves.
const CALLS: [&str; 3] = [
    "m.call.invite",
    "m.call.notify",
    "org.matrix.msc4075.call.notify",
];

/// What is told, and with which tweaks; `None`: it was read, or is gone.
pub type Something = Option<(Notification, Map<String, Value>)>;

/// What is known of a user while they are told something.
pub struct Telling<'a> {
    app: &'a App,
    user: UserNo,
    rooms: Arc<[MembershipRow]>,
    /// Of how many invites they are notified.
    invites: u64,
    /// What they haven't read, by room.
    unread: std::collections::HashMap<RoomNo, Unread>,
}

impl<'a> Telling<'a> {
    /// Counts what a user hasn't read.
    pub async fn new(app: &'a App, user: UserNo) -> Result<Self, MatrixError> {
        let store = &app.store;
        let upto = store.log().head();
        let rooms = store.memberships_of(user).await?;
        let counting = &app.sync.counts;
        // Their tallies go forward as if they listened.
        let nothing = Window::default();
        let since = (None, upto);
        counting
            .advance(store, user, &rooms, since, &nothing)
            .await?;
        let joined = rooms
            .iter()
            .filter(|row| row.membership == Membership::Join);
        let joined: Vec<&MembershipRow> = joined.collect();
        let unread = counting.of(store, user, &joined, upto).await?;
        Ok(Self {
            app,
            user,
            invites: invites(app, user, &rooms).await?,
            rooms,
            unread,
        })
    }

    /// The number on an app's icon: messages that notify and weren't read, and invites that do.
    fn badge(&self) -> u64 {
        self.unread.values().map(total).sum::<u64>() + self.invites
    }

    /// What is told of something that waits. `told`: the number that was told last.
    pub async fn of(&self, push: &Push, told: Option<i64>) -> Result<Something, MatrixError> {
        let store = &self.app.store;
        let event = match push.about {
            About::Badge | About::Activation => None,
            About::Event(no) => self.event(push, no).await?,
            About::Invite => match store.remote_invite(self.user, push.room).await? {
                Some(invite) => {
                    let Some(event) = event_of(&invite) else {
                        return Ok(None);
                    };
                    let highlight = push.highlight;
                    let mut told = self.describe(push.room, &event, None, highlight).await?;
                    told.room_name = name_told(&invite);
                    Some((told, Map::new()))
                }
                None => None,
            },
        };
        let unread = self.badge();
        let counts = Counts {
            unread,
            missed_calls: 0,
        };
        let Some((event, tweaks)) = event else {
            // Who was never told a number has none.
            let told = u64::try_from(told.unwrap_or(0)).unwrap_or(0);
            // Where something in a room raises it, an event comes that has it as well.
            if unread == told || (unread > told && push.room != RoomNo(0)) {
                return Ok(None);
            }
            return Ok(Some((Notification::badge(counts), Map::new())));
        };
        let rings = tweaks.contains_key("sound") || tweaks.get("highlight") == Some(&json!(true));
        let hurries = rings || !event.replaceable || event.is_encrypted();
        let notification = Notification {
            event: Some(event),
            counts,
            prio: if hurries { Prio::High } else { Prio::Low },
        };
        Ok(Some((notification, tweaks)))
    }

    /// An event that is still to be told, and how.
    async fn event(
        &self,
        push: &Push,
        no: EventNo,
    ) -> Result<Option<(Event, Map<String, Value>)>, MatrixError> {
        let Some(event) = self.missed(push.room, no).await? else {
            return Ok(None);
        };
        let tweaks = self.tweaks(&event).await?;
        let told = self.describe(push.room, &event.pdu, Some(&event), push.highlight);
        Ok(Some((told.await?, tweaks)))
    }

    /// An event of a room, if it is still to be told: neither read nor redacted meanwhile.
    pub async fn missed(
        &self,
        room: RoomNo,
        no: EventNo,
    ) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let store = &self.app.store;
        let Some(event) = store.event_by_no(no).await? else {
            return Ok(None);
        };
        let row = self.rooms.iter().find(|row| row.room == room);
        let is_unread = match row {
            Some(row) if row.membership == Membership::Join => {
                let counting = &self.app.sync.counts;
                counting.is_unread(store, self.user, row, &event).await?
            }
            Some(row) => row.membership == Membership::Invite && row.event == Some(no),
            None => false,
        };
        Ok((event.redacted_by.is_none() && is_unread).then_some(event))
    }

    /// How the rules want an event to be shown.
    async fn tweaks(&self, event: &Arc<StoredEvent>) -> Result<Map<String, Value>, MatrixError> {
        let counting = &self.app.sync.counts;
        let actions = counting.actions(&self.app.store, self.user, event).await?;
        let actions: Vec<Value> = serde_json::from_str(&actions).unwrap_or_default();
        let tweaks = actions.iter().filter_map(|action| {
            let name = action.get("set_tweak")?.as_str()?;
            // A highlight without a value is one.
            let value = action.get("value").cloned();
            Some((name.to_owned(), value.unwrap_or(Value::Bool(true))))
        });
        Ok(tweaks.collect())
    }

    /// What is said of an event.
    async fn describe(
        &self,
        room: RoomNo,
        event: &Pdu,
        stored: Option<&StoredEvent>,
        highlight: bool,
    ) -> Result<Event, MatrixError> {
        let store = &self.app.store;
        let summary = store.room_summary(room).await?;
        let membership = event.membership();
        let me = store.user(self.user).await?;
        let is_call = is_call(event.kind());
        let content = serde_json::to_string(event.content()).ok();
        Ok(Event {
            event_id: event.event_id().to_string(),
            room_id: event.room_id().to_string(),
            kind: event.kind().to_owned(),
            sender: event.sender().to_string(),
            sender_display_name: name_of_sender(store, event, stored).await?,
            room_name: match stored {
                Some(_) => name_of_room(store, (room, &summary), self.user).await?,
                None => None,
            },
            room_alias: summary.alias.clone(),
            user_is_target: membership.map(|_| event.state_key() == Some(me.as_str())),
            membership: membership.map(|membership| membership.to_string()),
            content: content.and_then(|content| RawValue::from_string(content).ok()),
            replaceable: !highlight && membership.is_none() && !is_call,
        })
    }
}

/// How many invites a user is notified of by their rules: the number goes with what the gateway is told.
async fn invites(app: &App, user: UserNo, rooms: &[MembershipRow]) -> Result<u64, MatrixError> {
    let (store, counting) = (&app.store, &app.sync.counts);
    let invites = rooms
        .iter()
        .filter(|row| row.membership == Membership::Invite);
    let invites: Vec<&MembershipRow> = invites.collect();
    if invites.is_empty() {
        return Ok(0);
    }
    let wishes = counting.wishes(store, user).await?;
    let remote = store.remote_invites(user).await?;
    let is_remote = |room| remote.iter().any(|invite| invite.room == room);
    let told = remote.iter().filter(|invite| {
        let is_open = invites.iter().any(|row| row.room == invite.room);
        let event = is_open.then(|| event_of(invite)).flatten();
        event.is_some_and(|event| of_invite(&event, &wishes) != Alert::Silent)
    });
    let mut count = told.count() as u64;
    let local = invites.iter().filter(|row| !is_remote(row.room));
    let local: Vec<EventNo> = local.filter_map(|row| row.event).collect();
    for event in store.events_by_no(&local).await? {
        let effects = counting.effects(store, &[user], &event).await?;
        let notifies = |(_, effect): &(UserNo, Effect)| matches!(effect, Effect::Notifies { .. });
        count += u64::from(effects.iter().any(notifies));
    }
    Ok(count)
}

/// What a room is called; one without a name and an alias by those who are in it.
pub async fn name_of_room(
    store: &Store,
    (room, summary): (RoomNo, &RoomSummary),
    viewer: UserNo,
) -> Result<Option<String>, MatrixError> {
    if summary.name.is_some() || summary.alias.is_some() {
        return Ok(summary.name.clone());
    }
    let heroes = heroes::of(store, room, viewer, HEROES).await?.into_iter();
    let names = heroes.map(|hero| hero.name.unwrap_or_else(|| hero.user.into()));
    let names: Vec<String> = names.collect();
    Ok((!names.is_empty()).then(|| names.join(", ")))
}

/// Whether an event is somebody calling.
pub fn is_call(kind: &str) -> bool {
    CALLS.contains(&kind)
}

fn total(unread: &Unread) -> u64 {
    let threads = unread.threads.values();
    let threads: u64 = threads.map(|thread| u64::from(thread.notifications)).sum();
    u64::from(unread.main.notifications) + threads
}

/// What an event's sender was called in the room when they sent it.
pub async fn name_of_sender(
    store: &Store,
    event: &Pdu,
    stored: Option<&StoredEvent>,
) -> Result<Option<String>, MatrixError> {
    let Some(at) = stored.and_then(|stored| stored.state_before) else {
        return Ok(None);
    };
    let key = [("m.room.member", event.sender().as_str())];
    let found = store.state_entries(at, &key).await?;
    let Some(no) = found.into_iter().flatten().next() else {
        return Ok(None);
    };
    let member = store.event_by_no(no).await?;
    Ok(member.and_then(|member| name_in(&member.pdu)))
}

fn name_in(member: &Pdu) -> Option<String> {
    let name = member.content().get("displayname")?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}
