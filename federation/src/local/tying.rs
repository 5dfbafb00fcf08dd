//! Rooms with many loose ends, in which nobody of ours speaks: one of our users ties them up ([`loose_ends`]).
//!
//! Every few minutes it is looked which rooms have had many ends for as long as that. What else happens there mostly
//! ties them up by itself, and several servers aren't to do it at once, so each looks at a time of its own; what one of
//! them sends goes to all. A room is left alone for an hour then, and for a day if nobody of ours may.

use std::{collections::HashSet, time::Duration};

use rhizome_rooms::{
    loose_ends::{self, MANY},
    send::SendOptions,
};
use rhizome_storage::{Cache, Error, RoomNo, random};

use crate::{Federation, MatrixError};

/// How often it is looked for such rooms, about.
const EVERY: Duration = Duration::from_mins(10);
/// How many rooms are dealt with at one time of looking, and how long one may take.
const MOST: usize = 100;
const PATIENCE: Duration = Duration::from_mins(1);
/// How many events are sent in one room together: each ties up twenty ends, of which there are fifty at most.
const TOGETHER: usize = 3;
/// How many users are tried. What one may do, others mostly may as well.
const TRIED: usize = 3;
/// For so long a room is left alone, whatever came of it.
const REST: Duration = Duration::from_hours(1);
/// The same if nobody of ours may.
const NOBODY: Duration = Duration::from_hours(24);
/// How many rooms wait, and how many that are left alone are remembered.
const MAX_WAITING: usize = 2_000;
const MAX_REMEMBERED: usize = 10_000;

/// Works until it is dropped.
///
/// # Errors
/// The database's.
pub(crate) async fn run(fed: &Federation) -> Result<(), Error> {
    let clock = fed.store().clock();
    // Until when, by the monotonic clock.
    let left_alone: Cache<RoomNo, Duration> = Cache::new(MAX_REMEMBERED);
    let mut waiting: HashSet<RoomNo> = HashSet::new();
    loop {
        // Without randomness there is no jitter.
        let [jitter] = random::bytes().unwrap_or_default();
        clock.sleep(pause(jitter)).await;
        let noted = loose_ends::take_noted(fed.rooms());
        let mut left = MOST;
        for room in std::mem::replace(&mut waiting, noted) {
            let until = left_alone.get(&room);
            let rests = until.is_some_and(|until| clock.monotonic() < until);
            if !rests && left > 0 {
                left -= 1;
                let rest = one(fed, room).await?;
                left_alone.insert(room, clock.monotonic() + rest);
                waiting.remove(&room);
            } else if waiting.len() < MAX_WAITING {
                waiting.insert(room);
            }
        }
    }
}

/// A quarter more or less than usual. `jitter`: any byte.
fn pause(jitter: u8) -> Duration {
    EVERY.mul_f64(0.75 + 0.5 * f64::from(jitter) / 255.0)
}

/// Ties up a room's ends, if there are still many. For how long it is left alone then.
async fn one(fed: &Federation, room: RoomNo) -> Result<Duration, Error> {
    let tied = tokio::time::timeout(PATIENCE, Box::pin(tie_up(fed, room))).await;
    match tied {
        Ok(Ok(rest)) => Ok(rest),
        Ok(Err(rhizome_rooms::Error::Store(error))) => Err(error),
        Ok(Err(error)) => {
            tracing::info!(%room, %error, "a room's loose ends aren't tied up");
            Ok(REST)
        }
        Err(_) => {
            tracing::info!(%room, "a room's loose ends aren't tied up in time");
            Ok(REST)
        }
    }
}

async fn tie_up(fed: &Federation, room: RoomNo) -> Result<Duration, rhizome_rooms::Error> {
    let store = fed.store();
    for _ in 0..TOGETHER {
        let Some(head) = store.room_by_no(room).await? else {
            return Ok(NOBODY);
        };
        let ends = head.extremities.len();
        if ends <= MANY {
            break;
        }
        if store.blocks().await?.room(&head.room_id) {
            return Ok(NOBODY);
        }
        let users = loose_ends::who_may(fed.rooms(), &head, TRIED).await?;
        let mut refused: Option<MatrixError> = None;
        let mut sent = false;
        for user in users {
            let draft = loose_ends::dummy(&head, user);
            match super::send(fed, draft, SendOptions::default()).await {
                Ok(event) => {
                    tracing::debug!(%room, ends, event = %event.event_id, "tied up loose ends");
                    sent = true;
                    break;
                }
                Err(error) => refused = Some(error),
            }
        }
        if !sent {
            return Ok(rest_after(room, refused.as_ref()));
        }
    }
    Ok(REST)
}

/// For how long a room is left alone in which nothing could be sent.
fn rest_after(room: RoomNo, refused: Option<&MatrixError>) -> Duration {
    match refused {
        // Of what is wrong here, or with another server, it isn't the room's fault.
        Some(error) if error.status.is_server_error() => {
            tracing::info!(%room, %error, "a room's loose ends can't be tied up now");
            REST
        }
        refused => {
            let error = refused.map(tracing::field::display);
            tracing::debug!(%room, error, "nobody here may tie up a room's loose ends");
            NOBODY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_look_at_different_times() {
        assert_eq!(pause(0), EVERY.mul_f64(0.75));
        assert_eq!(pause(255), EVERY.mul_f64(1.25));
        assert!(pause(100) < pause(101));
    }
}
