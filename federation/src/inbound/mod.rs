//! The endpoints that other servers call about rooms: a table of contents.

mod door;
mod edus;
mod event;
mod guard;
mod hierarchy;
pub(crate) mod inbox;
mod invite;
mod join;
mod knock;
mod leave;
mod member;
mod moment;
mod notes;
mod presence;
mod relationships;
mod state;
mod third_party;
mod to_device;
mod transaction;
mod v1;
mod wire;

use rhizome_edge::{Table, limits::Buckets};
use rhizome_storage::UserNo;
use ruma::OwnedServerName;
use tokio_util::task::TaskTracker;

use crate::{Federation, budgets::Kind, keyed::Keyed};

/// What the inbound endpoints share in memory. Nothing of it is truth: the database decides, this only saves
/// work.
#[derive(Debug, Default)]
pub struct Shared {
    /// Servers whose transactions are being worked on, one of each at a time.
    transactions: Keyed<OwnedServerName>,
    /// How often each server has invited users of ours lately.
    invites: Buckets,
    /// Of how many third-party invites each address has told us lately that they are somebody's.
    told: Buckets,
    /// Users whose invites are counted: one at a time.
    invited: Keyed<UserNo>,
    /// Requests of servers that have hung up.
    unfinished: TaskTracker,
}

/// The endpoints of this module, by section of the specification.
pub fn endpoints(table: Table<Federation>) -> Table<Federation> {
    table
        // Transactions
        .serve_as(Kind::Transaction, transaction::send)
        // Retrieving event authorisation information
        .serve_as(Kind::State, state::event_auth)
        // Backfilling and retrieving missing events
        .serve(event::backfill)
        .serve(event::get_missing_events)
        // Retrieving events
        .serve_as(Kind::State, state::state)
        .serve_as(Kind::State, state::state_ids)
        .serve(event::event)
        .serve_as(Kind::State, relationships::relationships)
        .serve_as(Kind::State, moment::timestamp_to_event)
        // Spaces
        .serve_as(Kind::State, hierarchy::hierarchy)
        // Joining rooms
        .serve(join::make_join)
        .serve_as(Kind::State, join::send_join)
        .serve_as(Kind::State, join::send_join_v1)
        // Knocking upon a room
        .serve(knock::make_knock)
        .serve(knock::send_knock)
        // Inviting to a room
        .serve(invite::invite)
        .serve(invite::invite_v1)
        // Third-party invites
        .serve(third_party::exchange)
        .serve(third_party::on_bind)
        .serve(third_party::on_bind_by_post)
        // Leaving rooms
        .serve(leave::make_leave)
        .serve(leave::send_leave)
        .serve(leave::send_leave_v1)
}
