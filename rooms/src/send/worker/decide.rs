//! Deciding waiting drafts, each upon the one before it.

use std::{collections::VecDeque, sync::Arc};

use rhizome_protocol::draft::Draft;
use ruma::{OwnedEventId, OwnedServerName, UserId};

use crate::{
    Error, Rooms,
    error::Result,
    send::{
        Job,
        batch::Batch,
        choose::{Choice, choose},
        send_to,
    },
};

/// What was decided about a job, to be told once the batch has landed.
pub(super) enum Outcome {
    /// Its event is in the batch.
    Added(OwnedEventId),
    /// It needs no event: this one says it already.
    Stands(OwnedEventId),
    Refused(Error),
}

impl Outcome {
    /// The event that it is, if it is one.
    pub(super) fn event(&self) -> Option<&OwnedEventId> {
        match self {
            Self::Added(id) | Self::Stands(id) => Some(id),
            Self::Refused(_) => None,
        }
    }
}

/// A batch of decided drafts.
pub(super) struct Decided<'a> {
    pub(super) batch: Batch<'a>,
    /// The state version that it was decided on.
    pub(super) version: i64,
    /// One per job, as far as the batch goes.
    pub(super) outcomes: Vec<Outcome>,
    /// The servers that the next event goes to; `None` if that must be read once this batch is stored.
    pub(super) servers: Option<Arc<[OwnedServerName]>>,
}

/// Decides `jobs`: all of them, or up to the first that changes the membership of another server's
/// user, since that may change where the next event goes, or that couldn't follow all ends of the room.
pub(super) async fn decide<'a>(
    rooms: &'a Rooms,
    mut batch: Batch<'a>,
    version: i64,
    servers: Arc<[OwnedServerName]>,
    jobs: &VecDeque<Job>,
) -> Result<Decided<'a>> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(jobs.len());
    let mut moved = false;
    for (at, job) in jobs.iter().enumerate() {
        if let Some(id) = twin(jobs, at).and_then(|twin| outcomes.get(twin)?.event().cloned()) {
            outcomes.push(Outcome::Stands(id));
            continue;
        }
        let outcome = match one(rooms, &mut batch, job, &servers).await {
            Ok(outcome) => outcome,
            Err(Error::Store(error)) => return Err(Error::Store(error)),
            Err(refused) => Outcome::Refused(refused),
        };
        moved = matches!(outcome, Outcome::Added(_))
            && (batch.is_crowded() || is_foreign_membership(rooms, &job.draft));
        outcomes.push(outcome);
        if moved {
            break;
        }
    }
    Ok(Decided {
        batch,
        version,
        outcomes,
        servers: (!moved).then_some(servers),
    })
}

/// The earlier job of the same transaction: its event is this one's as well.
fn twin(jobs: &VecDeque<Job>, at: usize) -> Option<usize> {
    let txn = jobs.get(at)?.options.txn.as_ref()?;
    let mut earlier = jobs.iter().take(at);
    earlier.position(|other| other.options.txn.as_ref() == Some(txn))
}

fn is_foreign_membership(rooms: &Rooms, draft: &Draft) -> bool {
    let target = draft.state_key.as_deref().unwrap_or_default();
    draft.kind == "m.room.member"
        && <&UserId>::try_from(target).is_ok_and(|target| !rooms.is_local(target))
}

async fn one(
    rooms: &Rooms,
    batch: &mut Batch<'_>,
    job: &Job,
    servers: &[OwnedServerName],
) -> Result<Outcome> {
    let (pdu, redacts) = match choose(rooms, batch, &job.draft, &job.options, false).await? {
        Choice::Stands(event_id) => return Ok(Outcome::Stands(event_id)),
        Choice::New(pdu, redacts) => (pdu, redacts),
    };
    let send_to = send_to(rooms, servers, &pdu);
    let event_id = pdu.event_id().to_owned();
    batch
        .push(pdu, job.options.txn.clone(), redacts, send_to)
        .await?;
    Ok(Outcome::Added(event_id))
}
