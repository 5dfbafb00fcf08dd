//! What account data may be, whoever writes it and tells of it. An empty object stands for nothing: a deletion
//! is told to clients that follow, and neither found nor told otherwise.

use rhizome_storage::AccountData;

/// The most bytes that one type may hold.
pub const MAX_BYTES: usize = 1 << 20;

/// The content of what was deleted.
pub const DELETED: &str = "{}";

/// Whether there is something, or it was deleted.
pub fn stands(data: &AccountData) -> bool {
    *data.content != *DELETED
}
