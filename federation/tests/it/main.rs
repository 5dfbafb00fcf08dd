//! Flows between servers, in one process.
//!
//! - `transport`, `notaries`: real sockets and TLS on 127.0.0.1 with a throwaway CA.
//! - `rooms`, `invites`, `doors`, `knocks`, `inbound…`, `inbox`: stories of rooms on several servers (`world`), on both databases.
//! - `acl`: what a room's server ACL closes.
//! - `mean`: a peer that signs properly and lies as a script says; `mean_…` and `gaps` are its scripts.
//! - `policy`, `policy_inbound`: rooms with a policy server.
//! - `to_device`: messages to devices, from there and to there.
//! - `large`, `streamed`: rooms of many members, made by `crowd`, on both databases.
//! - `omitted`: joins of servers that can do without the members at first.
//! - `devices`: what others tell and ask of devices and keys.
//! - `presence`: who is there.
//! - `files`: files and pictures of them, from there and to there.
//! - `previews`: of links, in an in-process web.
//! - `rotation`: a server's signing key is changed, and renewed in time, on both databases.
//! - `budgets`: how much others may ask of us.
//! - `defence`: who owes something, who is in quarantine, and what is noted of others, on both databases.
//! - `sender`: transactions over an in-process network, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod acl;
mod budgets;
mod check;
mod contract;
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod crowd;
mod defence;
mod devices;
mod doors;
mod files;
mod gaps;
mod gone;
mod inbound;
mod inbound_edges;
mod inbound_reading;
mod inbox;
mod invites;
mod knocks;
mod large;
mod lists;
mod loose_ends;
#[allow(dead_code, reason = "each attack takes what it needs of it")]
mod mean;
mod mean_answers;
mod mean_events;
mod mean_flood;
mod mean_history;
mod mean_invites;
mod mean_mangled;
mod mean_manners;
mod mean_state;
mod mean_strangers;
mod notaries;
mod omitted;
mod partial;
mod partial_large;
mod partial_lies;
mod partial_strangers;
mod people;
mod policy;
mod policy_inbound;
mod presence;
mod previews;
mod queries;
mod receipts;
mod rooms;
mod rotation;
mod sender;
mod streamed;
mod support;
mod to_device;
mod transport;
mod world;
