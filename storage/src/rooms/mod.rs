//! Rooms: events, state, members, and what is known of rooms that this server is not in.

pub(crate) mod aliases;
pub(crate) mod auth_graph;
mod codes;
mod doings;
pub(crate) mod events;
pub(crate) mod heads;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod invites;
mod joined;
mod joined_at;
pub(crate) mod members;
pub(crate) mod overview;
pub(crate) mod relation;
pub(crate) mod relationship;
mod said;
pub(crate) mod snapshot;
mod spaces;
pub(crate) mod state;
pub(crate) mod stored_event;
pub(crate) mod summary;
pub(crate) mod texts;
pub(crate) mod times;
pub(crate) mod transactions;
pub(crate) mod unread;
