//! Content hash and reference hash.

use crate::{Object, RoomRules, canonical::JsonError};

/// SHA-256 over the canonical event without `unsigned`, `signatures`, `hashes` (server-server §content hash).
pub fn content_hash(_object: &Object) -> Result<[u8; 32], JsonError> {
    unimplemented!()
}

/// SHA-256 over the redacted canonical event without `signatures` and `unsigned`: what the event id is made of.
pub fn reference_hash(_rules: &RoomRules, _object: &Object) -> Result<[u8; 32], JsonError> {
    unimplemented!()
}
