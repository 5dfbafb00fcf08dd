//! The redaction algorithm, and what is left of state for those outside of the room.

use crate::{Object, Pdu, RoomRules};

/// Removes from an event all that its room version's redaction doesn't keep.
pub fn redact(_rules: &RoomRules, _object: &mut Object) {
    unimplemented!()
}

/// Removes from the content of an event of type `kind` all that a redaction doesn't keep.
pub fn redact_content(_rules: &RoomRules, _kind: &str, _content: &mut Object) {
    unimplemented!()
}

/// The stripped form of a state event: `type`, `state_key`, `sender`, `content`.
pub fn stripped_state(_pdu: &Pdu) -> Object {
    unimplemented!()
}
