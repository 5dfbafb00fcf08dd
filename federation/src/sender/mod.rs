//! The outbound sender: delivers transactions to other servers.
//!
//! Per destination there is a cursor, the log position up to which it has got everything: events
//! (the commit that stored an event has stored its destinations), public read receipts, and changes of devices. Catching
//! up and normal work are one loop: gather what lies after the cursor, send it, move the cursor. The
//! cursor moves only after success, so nothing is lost; it is written to the database together with
//! others' a moment later, and when the sender stops, so an orderly restart repeats nothing.
//!
//! Messages to devices wait in a queue of their own in the database ([`to_device`]), at positions of the log: the
//! cursor says of them too which have arrived.
//!
//! A server that was away while much was said gets of each room what leads to the rest, and asks for that; until it has answered once,
//! little is done for it. Those that failed last have few workers, and so have those that are slow or have never answered, so
//! that they hold up nobody else: who becomes slow where there is no room to wait is put off.
//!
//! Ephemeral data has no place in the log: typing is one slot per room and user where the latest
//! wins, presence a set of users who are looked at when a transaction is made, anything else a short queue.
//!
//! - [`dispatch`]: a reader of the log: which destinations have something to get.
//! - [`queues`]: what is to be done for each destination, shared by all of these.
//! - [`workers`]: one task per busy destination and none for an idle one.
//! - [`deliver`]: one destination's work; [`standing`] reads and notes where it stands.
//! - [`gather`]: what the next transaction is to hold.
//! - [`latest`]: what of it is enough for a server that was away: a run, of which [`run`] remembers what isn't written down.
//! - [`ends`]: to which events of a room no other that waits leads.
//! - [`batch`]: what one transaction holds, as it is on the wire.
//! - [`presence`]: who of us is there.
//! - [`sticky`]: sticky events for servers that have just come into a room.
//! - [`backoff`]: when a destination that failed is tried again.
//!
//! Of several processes on one database, the one whose reader has the lease sends what is in the log;
//! typing and presence go out from the process that they came to, whatever others hear of it. A process
//! that was frozen and comes back may send for a moment besides the new one; that costs repetition at most,
//! as cursors never go back and receivers know an event by its id.

pub(crate) mod backoff;
mod batch;
mod deliver;
mod dispatch;
mod ends;
mod gather;
mod latest;
pub(crate) mod presence;
mod queues;
mod run;
mod standing;
mod sticky;
pub mod to_device;
pub mod typing;
mod workers;

use rhizome_storage::{Error, LogReader};
use tokio_util::sync::CancellationToken;

use crate::Federation;
use dispatch::Dispatch;
pub use queues::{Sender, SenderFigures};

/// Delivers until `stop` is cancelled; then writes the cursors down.
///
/// # Errors
/// The database failed. Run again: nothing is lost.
pub async fn run(fed: &Federation, stop: &CancellationToken) -> Result<(), Error> {
    let reader = LogReader::new(fed.store(), "federation sender", Dispatch(fed.clone()));
    // The reader gives its lease back when nothing is under way any more.
    let delivered = CancellationToken::new();
    let working = async {
        let outcome = workers::run(fed, stop).await;
        delivered.cancel();
        outcome
    };
    let ((), outcome) = tokio::join!(reader.run(&delivered), working);
    outcome
}
