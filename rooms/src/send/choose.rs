//! What becomes of one draft at the end of a batch.

use std::sync::Arc;

use rhizome_protocol::{
    Pdu,
    auth::StateView,
    draft::{Draft, Place},
    power::{Action, Level, Power},
};
use rhizome_storage::Redacts;
use ruma::{EventId, OwnedEventId};

use super::{SendOptions, batch::Batch};
use crate::{Error, Rooms, error::Result};

/// See the module.
pub(super) enum Choice {
    /// It needs no event: this one says it already.
    Stands(OwnedEventId),
    /// It is this event, which isn't added yet, and which may redact.
    New(Arc<Pdu>, Option<Redacts>),
}

/// Decides a draft. `anew`: even if it is what stands already.
pub(super) async fn choose(
    rooms: &Rooms,
    batch: &mut Batch<'_>,
    draft: &Draft,
    options: &SendOptions,
    anew: bool,
) -> Result<Choice> {
    let key = draft.state_key.as_deref();
    batch
        .look_at(&draft.kind, &draft.sender, key, &draft.content)
        .await?;
    if let Some(replaces) = &options.replaces {
        let stands = key.and_then(|key| batch.current().get(&draft.kind, key));
        if stands.is_none_or(|stands| stands.event_id() != replaces) {
            return Err(Error::Replaced);
        }
    }
    // What is sticky is said again to be so for longer.
    if !anew
        && options.sticky_ms.is_none()
        && let Some(key) = key
        && let Some(stands) = batch.current().get(&draft.kind, key)
        && stands.sender() == draft.sender
        && *stands.content() == draft.content
    {
        return Ok(Choice::Stands(stands.event_id().to_owned()));
    }
    let given = options.origin_server_ts;
    let now = given.unwrap_or_else(|| rooms.store().clock().now_ms());
    let place = Place {
        sticky_ms: options.sticky_ms,
        ..batch.place(draft, now)
    };
    let pdu = batch.decide_at(draft, &place)?;
    let redacts = match pdu.redacts() {
        Some(target) => Some(may_redact(rooms, batch, &pdu, target).await?),
        None => None,
    };
    Ok(Choice::New(Arc::new(pdu), redacts))
}

/// Our users may redact their own events, and those of others with the power for it. This is stricter
/// than what is asked of an event from elsewhere, where the sender's server is enough.
async fn may_redact(
    rooms: &Rooms,
    batch: &Batch<'_>,
    pdu: &Pdu,
    target: &EventId,
) -> Result<Redacts> {
    let any = [batch.view(), batch.current()].into_iter().all(|view| {
        let power = Power::of(pdu.rules(), view);
        power.user(pdu.sender()) >= Level::Int(power.action(Action::Redact))
    });
    if let Some(event) = rooms.store().event(target).await? {
        if event.pdu.room_id() != pdu.room_id() {
            return Err(Error::UnknownEvent(target.to_owned()));
        }
        if event.pdu.kind() == "m.room.create" {
            return Err(Error::Denied("The create event can't be redacted".into()));
        }
        if event.pdu.sender() != pdu.sender() && !any {
            return Err(Error::Denied(
                "You don't have the power to redact the events of others here".into(),
            ));
        }
    } else if !any {
        return Err(Error::UnknownEvent(target.to_owned()));
    }
    Ok(Redacts {
        target: target.to_owned(),
        only_from: (!any).then(|| pdu.sender().server_name().to_owned()),
    })
}
