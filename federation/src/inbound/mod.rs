//! The endpoints that other servers call about rooms: a table of contents.

mod acl;
pub(crate) mod budgets;
mod door;
mod edus;
mod event;
mod guard;
pub(crate) mod inbox;
mod invite;
mod join;
mod knock;
mod leave;
mod member;
mod state;
mod to_device;
mod transaction;
mod v1;
mod wire;

use rhizome_edge::{Table, limits::Buckets};
use rhizome_storage::UserNo;
use ruma::{OwnedRoomId, OwnedServerName};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::budgets::Kind;
use crate::{
    Federation, MatrixError,
    keyed::{Keyed, KeyedGuard},
};

/// What the inbound endpoints and remote joins share in memory. Nothing of it is truth: the database
/// decides, this only saves work.
#[derive(Debug, Default)]
pub struct Shared {
    /// Servers whose transactions are being worked on, one of each at a time.
    pub(crate) transactions: Keyed<OwnedServerName>,
    /// Servers that are being told something large, one answer of each at a time.
    states: Keyed<OwnedServerName>,
    /// Remote joins and leaves under way: one at a time per room.
    pub(crate) joins: Keyed<OwnedRoomId>,
    /// Rooms whose history is being fetched: one request at a time.
    pub(crate) backfills: Keyed<OwnedRoomId>,
    /// Rooms that we are joining: events that arrive meanwhile wait in the inbox.
    pub(crate) joining: crate::membership::joining::Joining,
    /// Servers that were asked for what is missing.
    pub(crate) servers: crate::fetch::gather::Servers,
    /// How often each server has invited users of ours lately.
    pub(crate) invites: Buckets,
    /// Users whose invites are counted: one at a time.
    pub(crate) invited: Keyed<UserNo>,
    /// Something was put into the inbox, or something that it may wait for has come.
    pub(crate) inbox: Notify,
    /// Requests of servers that have hung up.
    unfinished: TaskTracker,
}

/// How many questions of one server for something large may be worked on or wait for that.
const MAX_WAITING_STATES: usize = 20;

impl Shared {
    /// A server's turn to have a large answer looked together.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` if too many of its questions wait already.
    pub(crate) async fn turn_of(
        &self,
        who: &OwnedServerName,
    ) -> Result<KeyedGuard<OwnedServerName>, MatrixError> {
        let turn = self.states.lock_among(who.clone(), MAX_WAITING_STATES);
        turn.await.ok_or_else(|| MatrixError::limit_exceeded(1_000))
    }
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
        // Leaving rooms
        .serve(leave::make_leave)
        .serve(leave::send_leave)
        .serve(leave::send_leave_v1)
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;
    use ruma::owned_server_name;

    use super::*;

    #[tokio::test]
    async fn a_server_has_one_large_answer_at_a_time() {
        let (shared, who) = (Shared::default(), owned_server_name!("a.example"));
        let turn = shared.turn_of(&who).await.unwrap();
        let mut waiting: Vec<_> = (1..MAX_WAITING_STATES)
            .map(|_| Box::pin(shared.turn_of(&who)))
            .collect();
        for turn in &mut waiting {
            assert!(poll_immediate(turn).await.is_none());
        }
        let refused = shared.turn_of(&who).await.unwrap_err();
        assert_eq!(refused, MatrixError::limit_exceeded(1_000));
        let other = owned_server_name!("b.example");
        assert!(shared.turn_of(&other).await.is_ok());
        drop(turn);
        assert!(waiting.swap_remove(0).await.is_ok());
    }
}
