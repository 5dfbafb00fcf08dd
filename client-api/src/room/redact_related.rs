//! Redacting what relates to an event together with it ([MSC3912]).
//!
//! What is wanted is written down before the event itself is redacted. A reader of the log does the rest, on behalf of
//! who redacted: it sees the redaction, and redacts what relates to its target by then; and it sees what comes
//! later, from other servers as well. What that user may not redact stays, and so does what is only found when older
//! history is fetched, which the log doesn't tell of.
//!
//! [MSC3912]: https://github.com/matrix-org/matrix-spec-proposals/pull/3912

use std::{collections::BTreeSet, sync::Arc};

use rhizome_federation::{Federation, local};
use rhizome_protocol::{
    Object,
    draft::Draft,
    power::{Action, Power},
};
use rhizome_rooms::{send::SendOptions, state::powers_at};
use rhizome_storage::{
    Along, Children, Direction, EntryKind, EventNo, Failure, HistoryToken, Lease, LiveEvent,
    LogWork, Pos, RelatedRedaction, RoomNo, Store, StoredEvent, Stretch,
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId};

use crate::{App, Caller, MatrixError, view::bundle::rel_type};

/// Types of relations that a request may name, and their length in bytes.
const MOST_TYPES: usize = 20;
const LONGEST: usize = 255;
/// Events that are looked at together.
const TOGETHER: usize = 100;
/// Events that are redacted for what one stretch of the log says: everybody's requests wait for the same reader.
const MOST: usize = 1_000;
/// Attempts at one stretch.
const ATTEMPTS: u32 = 3;

/// Writes down what is to be redacted with an event.
pub async fn want(
    app: &App,
    who: &Caller,
    (room_id, target): (&RoomId, &EventId),
    rel_types: &[String],
    reason: Option<&str>,
) -> Result<(), MatrixError> {
    if rel_types.len() > MOST_TYPES || rel_types.iter().any(|name| name.len() > LONGEST) {
        return Err(MatrixError::invalid_param(format!(
            "At most {MOST_TYPES} types of relations of {LONGEST} bytes can be named"
        )));
    }
    let Some(head) = app.store.room(room_id).await? else {
        // Sending says what is wrong.
        return Ok(());
    };
    let event = app.store.event(target).await?;
    let is = event.as_ref().and_then(|event| rel_type(event));
    // Nothing edits an edit, and no thread hangs off what relates to something.
    let holds = |name: &str| match name {
        "m.replace" => is != Some("m.replace"),
        "m.thread" => is.is_none(),
        _ => true,
    };
    let names: BTreeSet<&String> = rel_types.iter().filter(|name| holds(name)).collect();
    let wanted = names.into_iter().map(|name| RelatedRedaction {
        room: head.room,
        target: target.to_owned(),
        sender: who.user,
        rel_type: name.clone(),
        reason: reason.map(str::to_owned),
    });
    Ok(app.store.want_redacted(&wanted.collect::<Vec<_>>()).await?)
}

/// Takes that back: the event itself couldn't be redacted.
pub async fn give_up(
    app: &App,
    who: &Caller,
    (room_id, target): (&RoomId, &EventId),
) -> Result<(), MatrixError> {
    if let Some(head) = app.store.room(room_id).await? {
        (app.store)
            .no_more_redacted(head.room, target, who.user)
            .await?;
    }
    Ok(())
}

/// Redacts what is wanted, as the work of a [`rhizome_storage::LogReader`].
pub struct RedactRelated {
    federation: Federation,
}

/// Something in the log that may have to be looked at.
struct Found<'a> {
    room: RoomNo,
    target: OwnedEventId,
    event: &'a Arc<StoredEvent>,
    /// It redacts the target; else it relates to it.
    redacts: bool,
}

impl<'a> Found<'a> {
    fn of(event: &'a Arc<StoredEvent>) -> Option<Self> {
        let pdu = &event.pdu;
        let (target, redacts) = if let Some(target) = pdu.redacts() {
            (target.to_owned(), true)
        } else {
            rel_type(event)?;
            let parent = pdu.content().get("m.relates_to")?.get("event_id")?;
            (EventId::parse(parent.as_str()?).ok()?, false)
        };
        Some(Self {
            room: event.room,
            target,
            event,
            redacts,
        })
    }
}

impl RedactRelated {
    /// For users of this server.
    pub fn new(federation: Federation) -> Self {
        Self { federation }
    }

    fn store(&self) -> &Store {
        self.federation.store()
    }

    async fn look(&self, entries: &[Arc<StoredEvent>]) -> Result<(), MatrixError> {
        let found: Vec<Found<'_>> = entries.iter().filter_map(Found::of).collect();
        let targets: Vec<_> = found.iter().map(|one| (one.room, &*one.target)).collect();
        let wanted = self.store().wanted_redacted(&targets).await?;
        let mut left = MOST;
        for wanted in &wanted {
            let sender = self.store().user(wanted.sender).await?;
            let about = found
                .iter()
                .filter(|one| (one.room, &one.target) == (wanted.room, &wanted.target));
            // All that relates by now covers what is among these.
            let mut by_sender = about.clone();
            let by_sender = by_sender.find(|one| one.redacts && *one.event.pdu.sender() == *sender);
            if let Some(one) = by_sender {
                let room_id = one.event.pdu.room_id();
                self.redact_all(wanted, (&sender, room_id), &mut left)
                    .await?;
            } else if self.is_redacted(&wanted.target).await? {
                for one in about.filter(|one| !one.redacts) {
                    self.redact(wanted, &sender, one.event).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the event is redacted; one that isn't here counts as such.
    async fn is_redacted(&self, event: &EventId) -> Result<bool, MatrixError> {
        let event = self.store().event(event).await?;
        Ok(event.is_none_or(|event| event.redacted_by.is_some()))
    }

    async fn redact_all(
        &self,
        wanted: &RelatedRedaction,
        (sender, room_id): (&OwnedUserId, &RoomId),
        left: &mut usize,
    ) -> Result<(), MatrixError> {
        let of = Children {
            room: wanted.room,
            parents: std::slice::from_ref(&wanted.target),
            rel_type: wanted.rel_type(),
            kind: None,
        };
        let others = self.may_redact_others(sender, room_id).await?;
        let (mut at, mut after) = (HistoryToken::START, EventNo(i64::MIN));
        while *left > 0 {
            let size = TOGETHER.min(*left);
            let children = if others {
                let along = Along::History(at, Direction::Forward, Pos(i64::MAX));
                self.store().children(of, along, size).await?
            } else {
                let parent = (wanted.room, &*wanted.target);
                let (user, rel_type) = (wanted.sender, wanted.rel_type());
                let own = (self.store()).children_by(parent, user, rel_type, after, size);
                own.await?
            };
            for child in &children {
                self.redact(wanted, sender, child).await?;
            }
            *left -= children.len();
            let Some(last) = children.last() else {
                return Ok(());
            };
            after = last.no;
            match HistoryToken::after(last) {
                Some(last) => at = last,
                None => return Ok(()),
            }
        }
        let target = &wanted.target;
        tracing::warn!(%target, "too much relates to a redacted event: the rest stays");
        Ok(())
    }

    /// Whether the user may redact what others sent, as the room is now: else only their own events need be looked at.
    async fn may_redact_others(
        &self,
        sender: &OwnedUserId,
        room_id: &RoomId,
    ) -> Result<bool, MatrixError> {
        let store = self.store();
        let Some(head) = store.room(room_id).await? else {
            return Ok(false);
        };
        let Some(at) = head.snapshot else {
            return Ok(false);
        };
        let state = powers_at(store, at).await?;
        Ok(Power::of(head.rules, &state).may(sender, Action::Redact))
    }

    /// Redacts an event that relates to the target, if it does so as is wanted and its sender may.
    async fn redact(
        &self,
        wanted: &RelatedRedaction,
        sender: &OwnedUserId,
        child: &StoredEvent,
    ) -> Result<(), MatrixError> {
        let Some(child) = self.store().event(child.pdu.event_id()).await? else {
            return Ok(());
        };
        let named = rel_type(&child);
        let is_wanted = named.is_some() && wanted.rel_type().is_none_or(|name| named == Some(name));
        let is_there = child.is_history() && child.redacted_by.is_none();
        if !is_wanted || !is_there || !self.holds(wanted, &child).await? {
            return Ok(());
        }
        let mut content = Object::new();
        if let Some(reason) = &wanted.reason {
            content.insert("reason".into(), reason.as_str().into());
        }
        let draft = Draft {
            room_id: Some(child.pdu.room_id().to_owned()),
            sender: sender.clone(),
            kind: "m.room.redaction".into(),
            state_key: None,
            content,
            redacts: Some(child.pdu.event_id().to_owned()),
        };
        match local::send(&self.federation, draft, SendOptions::default()).await {
            Ok(_) => Ok(()),
            // They mayn't, or are there no longer.
            Err(error) if error.status.is_client_error() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the relation is one by its type's own rules, as far as they can be told.
    async fn holds(
        &self,
        wanted: &RelatedRedaction,
        child: &StoredEvent,
    ) -> Result<bool, MatrixError> {
        if rel_type(child) != Some("m.replace") {
            return Ok(true);
        }
        let Some(target) = self.store().event(&wanted.target).await? else {
            return Ok(true);
        };
        let (edit, edited) = (&child.pdu, &target.pdu);
        let has_new =
            edit.kind() == "m.room.encrypted" || edit.content().contains_key("m.new_content");
        Ok(has_new
            && edit.sender() == edited.sender()
            && edit.kind() == edited.kind()
            && edit.state_key().is_none()
            && edited.state_key().is_none())
    }
}

impl LogWork for RedactRelated {
    async fn begin(&self, _: &Lease, done: Pos) -> Result<Pos, Failure> {
        let head = self.store().log().head();
        Ok(if done == Pos(0) { head } else { done })
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        if stretch.failures >= ATTEMPTS {
            tracing::warn!(after = %stretch.after, "what relates to redacted events isn't redacted here");
            return Ok(());
        }
        let (mut events, mut restored) = (Vec::new(), Vec::new());
        for entry in &stretch.entries {
            match &entry.kind {
                EntryKind::Event(LiveEvent { event, .. }) => events.push(event.clone()),
                // What it relates to is known only now.
                EntryKind::Restored(entry) => restored.push(entry.event),
                _ => {}
            }
        }
        if !restored.is_empty() {
            events.extend(self.store().events_by_no(&restored).await?);
        }
        Ok(self.look(&events).await?)
    }
}
