//! What is only worth something at the time: typing, presence, and the like.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_storage::UserNo;
use ruma::{OwnedServerName, RoomId, ServerName, UserId};
use serde_json::Value;

use super::{Queue, Sender};
use crate::sender::batch;

/// Typing slots and other ephemeral data of one destination.
pub(super) const MAX_TYPING: usize = 500;
pub(super) const MAX_EDUS: usize = 500;
/// Users whose presence one destination is to be told.
const MAX_PRESENCE: usize = 20_000;

impl Sender {
    /// Tells servers that a user of ours types in a room, or has stopped. Of several such calls that
    /// couldn't be delivered yet, the latest counts.
    pub fn typing<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
        room: &RoomId,
        user: &UserId,
        typing: bool,
    ) {
        self.push(servers, |queue| {
            let slot = (room.to_owned(), user.to_owned());
            if queue.typing.len() < MAX_TYPING || queue.typing.contains_key(&slot) {
                queue.typing.insert(slot, typing);
            }
        });
    }

    /// Tells servers the presence of these users, as it is when they are told.
    pub(in crate::sender) fn presence(&self, news: &BTreeMap<OwnedServerName, BTreeSet<UserNo>>) {
        for (server, users) in news {
            self.push([&**server], |queue| {
                let room = MAX_PRESENCE.saturating_sub(queue.presence.len());
                queue.presence.extend(users.iter().take(room));
            });
        }
    }

    /// Sends ephemeral data of any other type to servers: `content` of EDU type `kind`. If too much
    /// waits for a destination, the oldest is dropped.
    pub fn edu<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
        kind: &str,
        content: &Value,
    ) {
        let edu = batch::edu(kind, content);
        self.push(servers, |queue| {
            if queue.edus.len() >= MAX_EDUS {
                queue.edus.pop_front();
            }
            queue.edus.push_back(edu.clone());
        });
    }

    fn push<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a ServerName>,
        mut change: impl FnMut(&mut Queue),
    ) {
        let mut state = self.state();
        let mut any = false;
        for server in servers {
            any |= state.change(server, &mut change);
        }
        if any {
            self.changed.notify_one();
        }
    }
}
