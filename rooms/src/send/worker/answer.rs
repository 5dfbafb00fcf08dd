//! What senders are told, and what is written down of what they sent.

use std::collections::{HashSet, VecDeque};

use rhizome_storage::Fact;
use ruma::OwnedEventId;

use super::{Flight, decide::Outcome};
use crate::{
    Error, Rooms,
    error::Result,
    send::{Job, Sent},
};

/// Tells the senders of a batch that is durable.
pub(super) async fn answer(rooms: &Rooms, flight: Flight) {
    for (job, outcome) in flight.jobs.into_iter().zip(flight.outcomes) {
        let told = match outcome {
            Outcome::Added(event_id) => Ok(Sent {
                event_id,
                fresh: true,
            }),
            Outcome::Stands(event_id) => Ok(Sent {
                event_id,
                fresh: false,
            }),
            Outcome::Refused(error) => match done_before(rooms, &job).await {
                Some(event_id) => Ok(Sent {
                    event_id,
                    fresh: false,
                }),
                None => Err(error),
            },
        };
        job.tell(told);
    }
}

/// That delayed events among these are sent with what was decided.
pub(super) fn delayed(rooms: &Rooms, jobs: &VecDeque<Job>, outcomes: &[Outcome]) -> Vec<Fact> {
    let now_ms = rooms.store().clock().now_ms();
    // Who sends one in the moment in which it is due sends it twice: it is one event, sent once.
    let mut known = HashSet::new();
    let sent = jobs.iter().zip(outcomes).filter_map(|(job, outcome)| {
        let one = job.options.delayed.as_ref()?;
        let event_id = outcome.event()?.clone();
        if !known.insert(one.id.expose()) {
            return None;
        }
        Some(one.sent(event_id, now_ms))
    });
    sent.collect()
}

/// Tells the first of these jobs that is meant what has become of it; `false`: none is.
pub(super) fn tell(
    jobs: &mut VecDeque<Job>,
    is_meant: impl FnMut(&Job) -> bool,
    told: Result<Sent>,
) -> bool {
    let job = jobs.iter().position(is_meant);
    let job = job.and_then(|at| jobs.remove(at));
    let found = job.is_some();
    if let Some(job) = job {
        job.tell(told);
    }
    found
}

async fn done_before(rooms: &Rooms, job: &Job) -> Option<OwnedEventId> {
    let txn = job.options.txn.as_ref()?;
    rooms.store().transaction(txn).await.ok().flatten()
}

pub(super) fn fail_all(jobs: VecDeque<Job>, error: &Error) {
    for job in jobs {
        job.tell(Err(again(error)));
    }
}

/// The same error for another waiting sender.
fn again(error: &Error) -> Error {
    use rhizome_storage::Error as Store;
    match error {
        Error::UnknownRoom(room) => Error::UnknownRoom(room.clone()),
        Error::Contended => Error::Contended,
        Error::Store(Store::Busy(what)) => Error::Store(Store::Busy(what.clone())),
        other => Error::Store(Store::Failed(other.to_string())),
    }
}
