//! Events as one reader sees them, with what in `unsigned`.
//!
//! Shared by `/sync`, the WebSocket stream, `/messages`, `/context`, `/event` and `/state`.

use std::sync::Arc;

use rhizome_protocol::Membership;
use rhizome_rooms::access::{Reader, Verdict};
use rhizome_storage::{StoredEvent, UserNo};
use ruma::{OwnedDeviceId, OwnedEventId, OwnedUserId};

use crate::{
    Caller,
    view::{
        client_event::{self, Form, Unsigned},
        json::Json,
    },
};

/// Who reads.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user: UserNo,
    /// The device, to which alone its transaction ids are shown.
    pub device_id: OwnedDeviceId,
}

impl Viewer {
    /// The reader that an access token belongs to.
    pub fn of(caller: &Caller) -> Viewer {
        Viewer {
            user: caller.user,
            user_id: caller.user_id.clone(),
            device_id: caller.device_or_none(),
        }
    }
}

/// An event with all that this reader's copy of it says.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// The reader's membership at the event.
    pub membership: Option<Membership>,
    /// The state event that it replaced, …
    pub(super) replaced: Option<Arc<StoredEvent>>,
    /// … and its redaction, once it is [dressed](super::dress).
    pub(super) redaction: Option<Arc<StoredEvent>>,
    /// Of a sticky event: until when it is so, in milliseconds since 1970; if that isn't known, what it says itself.
    pub expires_ms: Option<i64>,
    /// What relates to it, where that is told and there is something ([`bundle`](super::bundle)).
    pub(super) relations: Option<Box<Relations>>,
}

/// What is told of an event's children together with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Relations {
    /// The most recent edit.
    pub edit: Option<Seen>,
    /// The thread that hangs off it.
    pub thread: Option<Thread>,
    /// What references it.
    pub references: Vec<OwnedEventId>,
}

/// What is told of a thread.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    /// Its latest event.
    pub latest: Seen,
    /// How many events are in it.
    pub count: i64,
    /// Whether the reader has sent the root or one of them.
    pub participated: bool,
}

impl Relations {
    fn is_empty(&self) -> bool {
        self.edit.is_none() && self.thread.is_none() && self.references.is_empty()
    }

    /// About how many bytes it is.
    pub(super) fn size(&self) -> usize {
        let edit = self.edit.as_ref().map_or(0, Seen::size);
        let thread = self.thread.as_ref();
        let thread = thread.map_or(0, |thread| thread.latest.size());
        let references = self.references.iter();
        let references: usize = references.map(|id| id.as_str().len() + 16).sum();
        edit + thread + references
    }

    /// As `m.relations`.
    fn text(&self, viewer: &Viewer, now_ms: i64, form: Form) -> String {
        let style = Style { form, fields: None };
        let mut json = Json::default();
        json.open();
        if let Some(edit) = &self.edit {
            edit.write(json.key("m.replace"), viewer, now_ms, &style);
        }
        if let Some(thread) = &self.thread {
            json.key("m.thread").open().key("latest_event");
            thread.latest.write(&mut json, viewer, now_ms, &style);
            json.key("count").number(thread.count);
            json.key("current_user_participated")
                .boolean(thread.participated);
            json.close();
        }
        if !self.references.is_empty() {
            json.key("m.reference").open().key("chunk").open_list();
            for event in &self.references {
                json.open().key("event_id").string(event.as_str()).close();
            }
            json.close_list().close();
        }
        json.close();
        json.finish()
    }
}

impl Seen {
    /// An event of a room's history if it is to be shown, not [dressed](super::dress) yet.
    pub fn of(event: Arc<StoredEvent>, verdict: Verdict) -> Option<Seen> {
        let Verdict::Shown { membership, whole } = verdict else {
            return None;
        };
        let event = if whole {
            event
        } else {
            Arc::new(event.without_content())
        };
        Some(Seen {
            membership,
            ..Seen::of_state(event)
        })
    }

    /// An event of a state that is shown as a whole.
    pub(super) fn of_state(event: Arc<StoredEvent>) -> Seen {
        Seen {
            event,
            membership: None,
            replaced: None,
            redaction: None,
            expires_ms: None,
            relations: None,
        }
    }

    /// Adds what relates to it.
    pub(super) fn relate(&mut self, relations: Relations) {
        if !relations.is_empty() {
            self.relations = Some(Box::new(relations));
        }
    }

    /// About how many bytes it is, with what relates to it.
    pub fn size(&self) -> usize {
        let own = self.event.pdu.json().len();
        own + self.relations.as_ref().map_or(0, |all| all.size())
    }

    /// Whether a thread hangs off it that is told.
    pub fn has_thread(&self) -> bool {
        let thread = self.relations.as_ref().map(|all| all.thread.is_some());
        thread.unwrap_or_default()
    }

    /// Writes the event as the next element.
    pub fn write(&self, json: &mut Json, viewer: &Viewer, now_ms: i64, style: &Style) {
        let relations = self.relations.as_ref();
        let relations = relations.map(|all| all.text(viewer, now_ms, style.form));
        let unsigned = Unsigned {
            now_ms,
            transaction_id: self.transaction_of(viewer),
            delay_id: self.delay_id(viewer),
            membership: self.membership.map(Membership::as_str),
            replaced: self.replaced.as_deref(),
            redaction: self.redaction.as_deref(),
            sticky_ttl_ms: self.sticky_ttl(now_ms),
            relations: relations.as_deref(),
            stripped: None,
        };
        json.with(|out| match &style.fields {
            None => client_event::write(out, &self.event, style.form, &unsigned),
            Some(fields) => {
                let mut whole = String::new();
                client_event::write(&mut whole, &self.event, style.form, &unsigned);
                // Our own output: it parses.
                let whole = serde_json::from_str(&whole).unwrap_or_default();
                out.push_str(&crate::view::filter::keep_fields(&whole, fields).to_string());
            }
        });
    }

    /// Writes the event as an application service is told it: there are no devices that would have sent it, and with an
    /// invite or a knock goes what the room is (`stripped`: what that is called, and as JSON).
    pub fn write_for_service(&self, json: &mut Json, now_ms: i64, stripped: Option<(&str, &str)>) {
        let unsigned = Unsigned {
            now_ms,
            replaced: self.replaced.as_deref(),
            redaction: self.redaction.as_deref(),
            sticky_ttl_ms: self.sticky_ttl(now_ms),
            stripped,
            ..Unsigned::default()
        };
        json.with(|out| client_event::write(out, &self.event, Form::Room, &unsigned));
    }

    /// For how many more milliseconds it is sticky.
    fn sticky_ttl(&self, now_ms: i64) -> Option<i64> {
        let pdu = &self.event.pdu;
        let duration = i64::from(pdu.sticky_ms()?);
        let own = || pdu.origin_server_ts().min(now_ms).saturating_add(duration);
        let expires = self.expires_ms.unwrap_or_else(own);
        Some(expires.saturating_sub(now_ms)).filter(|ttl| *ttl > 0)
    }

    /// The id under which the viewer had scheduled it: their devices all see it.
    fn delay_id(&self, viewer: &Viewer) -> Option<&str> {
        let own = self.event.pdu.sender() == viewer.user_id;
        self.event.txn.as_ref().filter(|_| own)?.delay_id()
    }

    fn transaction_of(&self, viewer: &Viewer) -> Option<&str> {
        let txn = self.event.txn.as_ref()?;
        let own = txn.device == viewer.device_id && self.event.pdu.sender() == viewer.user_id;
        own.then_some(txn.txn_id.as_str())
    }
}

/// Writes a member that is a list of events.
pub fn write_list(json: &mut Json, key: &str, events: &[Seen], viewer: &Viewer, now_ms: i64) {
    json.key(key).open_list();
    for event in events {
        event.write(json, viewer, now_ms, &Style::ROOM);
    }
    json.close_list();
}

/// The user, whatever the device.
pub fn reader(caller: &Caller) -> Reader<'_> {
    Reader {
        user: caller.user,
        user_id: &caller.user_id,
    }
}

/// In which form a reader wants events.
#[derive(Clone, Debug)]
pub struct Style {
    /// Which members an event has.
    pub form: Form,
    /// Only these fields (a filter's `event_fields`).
    pub fields: Option<Vec<String>>,
}

impl Style {
    /// Whole events with their `room_id`.
    pub const ROOM: Style = Style {
        form: Form::Room,
        fields: None,
    };
}
