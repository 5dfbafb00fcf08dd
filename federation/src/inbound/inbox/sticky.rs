//! Sticky events from before we came into a room
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)).
//!
//! Their server pushes them to us when we have joined. They are no news of the room but its history, of which we have
//! nothing yet: so they come as history does, with what lies between.

use rhizome_protocol::Pdu;
use rhizome_rooms::{Error, sticky};
use ruma::ServerName;

use crate::{
    Federation,
    fetch::{backfill, gather},
};

/// How many pages of history are asked for.
const PAGES: usize = 3;
/// How many events a page has.
const PAGE: usize = 100;
/// How many holes of the history are looked at.
const HOLES: usize = 20;

/// Fetches the history that a sticky event is in, if it lies before what we have of the room. The room's servers are asked for
/// it, and `origin` may make us ask others only so often.
pub(super) async fn fetch(fed: &Federation, origin: &ServerName, pdu: &Pdu) -> Result<(), Error> {
    let store = fed.store();
    if sticky::expires_ms(pdu, store.clock().now_ms()).is_none() {
        return Ok(());
    }
    let Some(head) = store.room(pdu.room_id()).await? else {
        return Ok(());
    };
    if !gather::is_before_us(fed, &head, pdu).await? {
        return Ok(());
    }
    let id = pdu.event_id().to_owned();
    for _ in 0..PAGES {
        if store
            .event(&id)
            .await?
            .is_some_and(|event| event.is_history())
        {
            break;
        }
        let (holes, size) = if store.is_missing_prev(head.room, &id).await? {
            (vec![id.clone()], 1)
        } else {
            (store.missing_prevs(head.room, HOLES).await?, PAGE)
        };
        let now = store.clock().monotonic();
        if holes.is_empty() || !fed.fetching().servers.may_trouble_others(origin, now) {
            break;
        }
        match backfill::before(fed, pdu.room_id(), &holes, size).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::info!(event = %id, %error, "no history up to a sticky event");
                break;
            }
        }
    }
    Ok(())
}
