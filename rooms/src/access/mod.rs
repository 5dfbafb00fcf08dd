//! Who may read what: the one place that decides it, for users and for servers.
//!
//! Every read path of both APIs asks here, in two steps: what deciding needs is loaded for as many events as
//! there are, in a few queries however many they are ([`EventAccess::load`], [`events_for_server`]); then a pure
//! rule ([`rule`], upon [`rhizome_protocol::visibility`]) decides on each.
//!
//! | who asks | what for | here |
//! |---|---|---|
//! | a user | whether there is the room for them, its state, up to when they may hear of it | [`RoomAccess`] |
//! | a user | events of a room that there is for them | [`EventAccess`] |
//! | a user | events that are sticky, of a room that they are in | [`while_sticky`] |
//! | a user | where they stand: there, gone since when, never there; who forgot was never there | [`Standing`] |
//! | an operator | everything that the server holds of a room, but what was erased | [`Standing::OPERATOR`] |
//! | anybody | whether they may be told what a room is, from outside | [`Visitor::may_preview`], [`previews_for_server`] |
//! | a server | whether it takes part in the room | [`server_in_room`] |
//! | a server | events of a room that it takes part in | [`is_given`], [`events_for_server`] |
//!
//! What isn't in a room's history (rejected and soft-failed events, outliers) is no user's to see, nor are events that
//! only tie up loose ends ([`crate::loose_ends`]); servers are given what isn't rejected. State is read as a whole or
//! not at all: as of now, or as of when the user left.

mod events;
mod preview;
mod redactions;
mod room;
mod rule;
mod server;
mod standing;

pub use self::{
    events::EventAccess,
    preview::{Doors, Visitor, previews_for_server},
    redactions::unapplied,
    room::RoomAccess,
    rule::{Verdict, while_sticky},
    server::{events_for_server, is_given, server_in_room},
    standing::{Reader, Standing, end_of_stay, replaced, standing},
};
