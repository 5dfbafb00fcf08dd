//! The event of another server that is nearest to a moment, where our own history has a gap there
//! (<https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>).
//!
//! What others name is believed only when it has come as history: by way of the gap, from what follows it. A gap that is
//! too wide for that is made narrower, so that whoever asks again gets further.

use std::time::Duration;

use rhizome_storage::{EventNo, RoomHead, StoredEvent};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, ServerName, UInt,
    api::{Direction, federation::event::get_event_by_timestamp::v1},
};
use tokio::time::{Instant, timeout_at};

use super::backfill;
use crate::{Federation, MatrixError, outbound::Limits};

/// The longest that a client waits.
const TIME: Duration = Duration::from_secs(25);
/// How many servers are asked for what they have.
const MAX_SERVERS: usize = 3;
/// How often more history is fetched on the way to it, and how much each time.
const MAX_ROUNDS: usize = 10;
const EVENTS: usize = 100;
/// How many gaps of a room are looked at.
const MAX_GAPS: usize = 100;
/// The answer is an id and a number.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_secs(8)),
    max_body: 64 << 10,
};

/// A moment of a room that is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub ts: i64,
    /// Whether it is what came then or later that is looked for.
    pub forward: bool,
}

impl Moment {
    /// How far from it something is; `None` if that lies on its other side.
    fn distance(self, ts: i64) -> Option<u64> {
        let away = if self.forward {
            ts.checked_sub(self.ts)?
        } else {
            self.ts.checked_sub(ts)?
        };
        u64::try_from(away).ok()
    }
}

/// Fetches what is nearer to a moment than `ours`, if others have it: it lies in a gap before `follower`. Whether
/// anything came.
///
/// # Errors
/// The database's. That no other server helps is `Ok(false)`.
pub async fn fetch(
    fed: &Federation,
    head: &RoomHead,
    moment: Moment,
    ours: Option<i64>,
    follower: &StoredEvent,
) -> Result<bool, MatrixError> {
    let until = Instant::now() + TIME;
    let Some(wanted) = nearer(fed, head, moment, ours, until).await? else {
        return Ok(false);
    };
    let mut came = false;
    for _ in 0..MAX_ROUNDS {
        let missing = gaps_below(fed, head, follower).await?;
        if missing.is_empty() || Instant::now() >= until {
            break;
        }
        let fetching = backfill::before(fed, &head.room_id, &missing, EVENTS);
        let Ok(fetched) = timeout_at(until, fetching).await else {
            break;
        };
        if !fetched? {
            break;
        }
        came = true;
        let stored = fed.store().event(&wanted).await?;
        if stored.is_some_and(|event| event.is_history()) {
            break;
        }
    }
    Ok(came)
}

/// What the first server that answers says is nearer than what we have, and isn't here.
async fn nearer(
    fed: &Federation,
    head: &RoomHead,
    moment: Moment,
    ours: Option<i64>,
    until: Instant,
) -> Result<Option<OwnedEventId>, MatrixError> {
    let ours = ours.and_then(|ts| moment.distance(ts));
    let servers = backfill::servers(fed, head).await?;
    for server in servers.iter().take(MAX_SERVERS) {
        let asked = timeout_at(until, ask(fed, server, head, moment)).await;
        let Ok(Some(answer)) = asked else { continue };
        let theirs = i64::try_from(u64::from(answer.origin_server_ts.0)).unwrap_or(i64::MAX);
        let Some(theirs) = moment.distance(theirs) else {
            continue;
        };
        if ours.is_some_and(|ours| ours <= theirs) {
            return Ok(None);
        }
        let known = fed.store().event(&answer.event_id).await?;
        let is_here = known.is_some_and(|event| event.is_history());
        return Ok((!is_here).then_some(answer.event_id));
    }
    Ok(None)
}

async fn ask(
    fed: &Federation,
    server: &ServerName,
    head: &RoomHead,
    moment: Moment,
) -> Option<v1::Response> {
    let ts = UInt::new_saturating(u64::try_from(moment.ts).unwrap_or(0));
    let direction = if moment.forward {
        Direction::Forward
    } else {
        Direction::Backward
    };
    let room = head.room_id.clone();
    let request = v1::Request::new(room, MilliSecondsSinceUnixEpoch(ts), direction);
    let answer = fed.outbound().send_limited(server, request, LIMITS).await;
    answer
        .inspect_err(|error| {
            tracing::debug!(%server, room = %head.room_id, %error, "a server names no event of a moment");
        })
        .ok()
}

/// What we lack before an event, or before what came before that: the nearest first.
async fn gaps_below(
    fed: &Federation,
    head: &RoomHead,
    follower: &StoredEvent,
) -> Result<Vec<OwnedEventId>, MatrixError> {
    let store = fed.store();
    let direct = store.gaps_before(head.room, &[follower.no]).await?;
    if let Some(missing) = direct.into_values().next() {
        return Ok(missing);
    }
    // The deepest come first.
    let gaps = store.missing_prev_events(head.room, MAX_GAPS).await?;
    let followers: Vec<EventNo> = gaps.iter().map(|(_, event)| *event).collect();
    let followers = store.events_by_no(&followers).await?;
    let below = gaps.into_iter().zip(followers);
    let below = below.filter(|(_, event)| event.depth <= follower.depth);
    Ok(below.map(|((missing, _), _)| missing).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_the_other_side_is_at_no_distance() {
        let (later, earlier) = (
            Moment {
                ts: 5,
                forward: true,
            },
            Moment {
                ts: 5,
                forward: false,
            },
        );
        for (ts, after, before) in [
            (5, Some(0), Some(0)),
            (7, Some(2), None),
            (1, None, Some(4)),
        ] {
            assert_eq!((later.distance(ts), earlier.distance(ts)), (after, before));
        }
        assert_eq!(later.distance(i64::MIN), None);
        assert_eq!(earlier.distance(i64::MIN), None);
    }
}
