//! Reading what happened in a room.

pub(crate) mod asked;
pub(crate) mod context;
pub(crate) mod event;
pub(crate) mod messages;
pub(crate) mod moment;
pub(crate) mod pager;
pub(crate) mod relations;
pub(crate) mod relationships;
pub(crate) mod search;
pub(crate) mod threads;
mod unredacted;
