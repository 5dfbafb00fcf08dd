//! The event that is nearest to a moment, for other servers
//! (<https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>).

use axum::extract::State;
use rhizome_rooms::access;
use rhizome_storage::{Direction, Pos, TimeToken};
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::{Direction as Asked, federation::event::get_event_by_timestamp::v1},
};

use super::guard;
use crate::{Federation, MatrixError, Ruma};

/// How many events are looked at, and how many of them at once.
const MAX_EVENTS: usize = 500;
const PIECE: usize = 50;
/// How many events get their times for one question.
const MAX_FILLED: usize = 2_000;

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
pub(super) async fn timestamp_to_event(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<v1::Request>,
) -> Result<v1::Response, MatrixError> {
    let _turn = fed.budgets().turn_of(&who).await?;
    let head = guard::resident(&fed, &who, &req.room_id).await?;
    let store = fed.store();
    let direction = match req.dir {
        Asked::Forward => Direction::Forward,
        Asked::Backward => Direction::Backward,
    };
    if !store.fill_times(head.room, MAX_FILLED).await? {
        // Of half of it the answer could be wrong.
        return Err(MatrixError::not_found(
            "The room's history is being looked through for this: try again",
        ));
    }
    let ts = i64::try_from(u64::from(req.ts.0)).unwrap_or(i64::MAX);
    let mut at = Some(TimeToken::at(ts, direction));
    for _ in 0..MAX_EVENTS / PIECE {
        let Some(from) = at else { break };
        let events = store.events_by_time(head.room, from, direction, PIECE, Pos(i64::MAX));
        let events = events.await?;
        let visible = access::events_for_server(store, &who, &events).await?;
        let mut found = events.iter().zip(visible).filter(|(_, visible)| *visible);
        if let Some((event, _)) = found.next() {
            let ts = u64::try_from(event.pdu.origin_server_ts()).unwrap_or(0);
            let ts = MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts));
            return Ok(v1::Response::new(event.pdu.event_id().to_owned(), ts));
        }
        at = events
            .last()
            .filter(|_| events.len() == PIECE)
            .and_then(|last| TimeToken::beyond(last, direction));
    }
    Err(MatrixError::not_found(
        "There is no event on this side of the moment",
    ))
}
