//! Event ids.

use ruma::{EventId, OwnedEventId};

use super::rejection::format_error;
use crate::{Object, Rejection, RoomRules, content::text, hash, rules::EventIdFormat};

/// The event's id: chosen by its server, or made of the hash of `signed`.
pub(super) fn event_id(
    rules: &RoomRules,
    object: &Object,
    signed: &str,
) -> Result<OwnedEventId, Rejection> {
    let hash = || hash::sha256(signed.as_bytes());
    let id = match rules.format.event_id {
        EventIdFormat::Explicit => text(object, "event_id")
            .ok_or_else(|| format_error("`event_id` must be a string"))?
            .to_owned(),
        EventIdFormat::Hash => format!("${}", hash::to_base64(&hash())),
        EventIdFormat::UrlSafeHash => format!("${}", hash::to_url_base64(&hash())),
    };
    let id = EventId::parse(&id)
        .map_err(|error| format_error(format!("{id:?} is no event id: {error}")))?;
    // That domain's signature is what keeps others from choosing the same id.
    if rules.format.event_id == EventIdFormat::Explicit && id.server_name().is_none() {
        return Err(format_error(format!("the event id {id} lacks its server")));
    }
    Ok(id)
}
