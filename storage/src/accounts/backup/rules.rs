//! Which of two keys for one session a backup keeps. The same is said to the database by `sessions.rs`.

use std::cmp::Reverse;

use crate::engine::sql::rows;

rows! {
    /// A session's key on its way into a backup.
    pub struct BackupSession<'a> {
        /// The room that it is for.
        room_id: &'a str,
        /// The Megolm session.
        session_id: &'a str,
        /// From which message on it decrypts.
        first_message_index: i64,
        /// How often it was forwarded from device to device.
        forwarded_count: i64,
        /// Whether the device that it is from was verified by the one that backs it up.
        is_verified: bool,
        /// The key, encrypted: JSON, kept as it came.
        session_data: &'a str,
    }
}

impl BackupSession<'_> {
    /// Whether this takes the place of `other`: a verified one before others, then who decrypts more, then who was
    /// forwarded less.
    fn replaces(&self, other: &Self) -> bool {
        let rank = |one: &Self| {
            let (index, count) = (one.first_message_index, one.forwarded_count);
            (one.is_verified, Reverse(index), Reverse(count))
        };
        rank(self) > rank(other)
    }

    fn names(&self) -> (&str, &str) {
        (self.room_id, self.session_id)
    }
}

/// Of each session the one that a backup would be left with that gets them one by one; in the order in which they
/// are stored.
pub(super) fn best_of_each(mut sessions: Vec<BackupSession<'_>>) -> Vec<BackupSession<'_>> {
    sessions.sort_by(|a, b| a.names().cmp(&b.names()));
    sessions.dedup_by(|later, kept| {
        let same = later.names() == kept.names();
        if same && later.replaces(kept) {
            std::mem::swap(later, kept);
        }
        same
    });
    sessions
}
