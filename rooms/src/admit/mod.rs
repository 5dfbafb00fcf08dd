//! Joining and leaving across servers.
//!
//! As the room's door for another server: [`template`] gives an unsigned event, and [`admit_signed`]
//! takes it back signed; [`admit_own`] takes one of ours that others had to sign. Going through another server's door: [`adopt()`] takes the room as that server
//! described it.

mod adopt;
mod ask;

use std::sync::Arc;

use rhizome_protocol::{
    Membership, Object, Pdu, Rejection, RoomRules,
    draft::{self, Draft},
};
use rhizome_storage::{Placement, Status, StoredEvent};
use ruma::{EventId, RoomId, RoomVersionId, UserId};

use crate::{
    Error, Rooms,
    error::Result,
    membership::restricted,
    receive::{self, Gathered, How, KeepRefused, Received, require_resident},
    send::{
        SendOptions, Sent,
        batch::{Batch, Tip},
        known_room,
        view::View,
    },
};

pub use adopt::{RemoteJoin, WithoutMembers, adopt};

/// An unsigned event for another server to sign.
#[derive(Debug, Clone)]
pub struct Template {
    /// The room's rules.
    pub rules: &'static RoomRules,
    /// The event without hashes and signatures.
    pub event: Object,
}

/// The answer of `make_join`, `make_knock`, `make_leave`: a member event of `user` that would be allowed now.
/// `versions` are the room versions that the other server speaks; empty means any.
///
/// # Errors
///
/// [`Error::UnknownRoom`], [`Error::IncompatibleVersion`], [`Error::Forbidden`]; for a restricted room those
/// of [`restricted::authoriser`].
pub async fn template(
    rooms: &Rooms,
    room_id: &RoomId,
    user: &UserId,
    membership: Membership,
    versions: &[RoomVersionId],
) -> Result<Template> {
    let head = known_room(rooms, room_id).await?;
    require_resident(rooms, &head).await?;
    if !versions.is_empty() && !versions.contains(&head.rules.version) {
        return Err(Error::IncompatibleVersion(head.rules.id().to_owned()));
    }
    let mut content = Object::new();
    content.insert("membership".into(), membership.as_str().into());
    if membership == Membership::Join
        && let Some(by) = restricted::authoriser(rooms, &head, user).await?
    {
        content.insert(restricted::AUTHORISED_VIA.into(), by.as_str().into());
    }
    let draft = Draft {
        room_id: Some(room_id.to_owned()),
        sender: user.to_owned(),
        kind: "m.room.member".into(),
        state_key: Some(user.to_string()),
        content,
        redacts: None,
    };
    let mut batch = Batch::upon(rooms, Tip::of(rooms, &head, View::default()).await?);
    batch
        .look_at(
            &draft.kind,
            user,
            draft.state_key.as_deref(),
            &draft.content,
        )
        .await?;
    let now = rooms.store().clock().now_ms();
    // Signed by us it is good for nothing but this check.
    batch.decide(&draft, now)?;
    let place = batch.place(&draft, now);
    Ok(Template {
        rules: head.rules,
        event: draft::template(head.rules, &draft, &place),
    })
}

/// Admits an event that is signed and so can't be built again: `send_join` and its like. It goes on to the room's other servers. What the room was before
/// it, which `send_join` answers, say [`crate::state::before`] and [`crate::state::before_without_members`].
///
/// # Errors
///
/// [`Error::Forbidden`] if the room doesn't allow it, then or now; [`Error::BadState`] if it follows
/// events that we don't have (its template was not ours).
pub async fn admit_signed(rooms: &Rooms, pdu: Arc<Pdu>) -> Result<Arc<StoredEvent>> {
    let how = How {
        placement: Placement::Live,
        counts: true,
        relay: true,
        depth: None,
        keep_refused: KeepRefused::OfMembers,
    };
    let id = pdu.event_id().to_owned();
    let admitted = receive::admit(rooms, pdu, &Gathered::default(), how).await?;
    match admitted {
        Received::Accepted | Received::Known => {}
        Received::SoftFailed(rejection) | Received::Rejected(rejection) => {
            return Err(Error::Forbidden(rejection));
        }
        // The room has another policy server than a moment ago.
        Received::Need(need) if need.signature.is_some() => return Err(Error::Contended),
        Received::Need(need) => {
            let lacks: Vec<String> = need
                .prev
                .iter()
                .chain(&need.auth)
                .map(ToString::to_string)
                .collect();
            return Err(Error::BadState(format!(
                "The event refers to events that are unknown here: {}",
                lacks.join(", ")
            )));
        }
    }
    let event = stored(rooms, &id).await?;
    if event.status != Status::Accepted {
        let reason = event.reason.clone().unwrap_or_default();
        return Err(Error::Forbidden(Rejection::new("decided before", reason)));
    }
    Ok(event)
}

/// Stores an event of a local user that was decided by [`crate::send::prepare_to_sign`] and that all have signed who had to. It goes
/// to the room's other servers.
///
/// # Errors
///
/// [`Error::Forbidden`] if the room doesn't allow it any more; [`Error::Contended`] if it has to be decided and signed
/// again; those of what its sender wanted ([`SendOptions`]).
pub async fn admit_own(rooms: &Rooms, pdu: Arc<Pdu>, options: &SendOptions) -> Result<Sent> {
    receive::own(rooms, &pdu, options).await
}

async fn stored(rooms: &Rooms, id: &EventId) -> Result<Arc<StoredEvent>> {
    let event = rooms.store().event(id).await?;
    event.ok_or_else(|| Error::UnknownEvent(id.to_owned()))
}
