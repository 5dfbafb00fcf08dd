//! The one door for events of local users.
//!
//! [`send`] puts the draft into its room's queue (see `queue`). Whoever works on that queue takes what
//! waits there and
//!
//! 1. reads the room's head (cached) and the entries of its current state that matter (kept warm);
//! 2. decides each draft upon the one before it: build, sign, authorise;
//! 3. commits them together, conditional on the state version;
//! 4. when the state had moved, begins again at 1; when the commit was refused for one job's sake,
//!    answers that job and decides the others again.
//!
//! A transaction id is settled by the commit: its row is unique, so a repetition gets the first event's
//! id, also across processes. A refusal is given only after the transaction was looked up, so that a
//! repetition is answered alike when the sender has lost the right to send in between.

use std::{collections::VecDeque, sync::Arc};

use rhizome_protocol::{
    Pdu,
    auth::StateView,
    draft::Draft,
    power::{Action, Level, Power},
};
use rhizome_storage::{CommitError, Redacts, RoomHead, RoomNo, TxnKey, WriteSet};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId};
use tokio::sync::oneshot;

use crate::{
    Error, Rooms,
    chain::Chain,
    error::Result,
    queue::{Queue, Warm},
};

/// How many waiting drafts become one chain.
const MAX_BATCH: usize = 64;
/// How often a chain is decided again because the room's state moved.
const MAX_ATTEMPTS: usize = 20;

/// How an event is sent, beside what it says.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// The client's transaction: the same again gives the same event.
    pub txn: Option<TxnKey>,
    /// Milliseconds since 1970, if it isn't to be now.
    pub origin_server_ts: Option<i64>,
}

/// An event that is durably in its room.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Whether this call made it. `false`: the transaction was done before, or the state was so already.
    pub fresh: bool,
}

/// A draft that waits for its turn.
pub(crate) struct Job {
    draft: Draft,
    options: SendOptions,
    reply: oneshot::Sender<Result<Sent>>,
}

/// Sends an event of a local user and returns when it is durable.
///
/// A state event that says what its sender said last (same type, state key and content) isn't repeated:
/// the answer is the event that stands.
pub async fn send(rooms: &Rooms, draft: Draft, options: SendOptions) -> Result<Sent> {
    let room_id = draft
        .room_id
        .clone()
        .ok_or_else(|| Error::Invalid("No room given".into()))?;
    if !rooms.is_local(&draft.sender) {
        return Err(Error::Denied(format!(
            "{} is not a user of this server",
            draft.sender
        )));
    }
    if draft.kind == "m.room.create" {
        return Err(Error::Invalid("A room is created once only".into()));
    }
    let head = known_room(rooms, &room_id).await?;
    let queue = rooms.queues().of(head.room);
    let (reply, answer) = oneshot::channel();
    let job = Job {
        draft,
        options,
        reply,
    };
    if queue.add(job)? {
        // A task of its own: it works for all who wait, so it must not end with this caller's patience.
        tokio::spawn(work(rooms.clone(), room_id, head.room, queue));
    }
    answer.await.unwrap_or_else(|_| {
        Err(Error::Store(rhizome_storage::Error::Failed(
            "the sender of this room failed".into(),
        )))
    })
}

/// Decides and signs an event without storing it, for an event that another server has to sign too.
/// [`crate::join::admit_signed`] stores it.
pub async fn prepare(rooms: &Rooms, draft: &Draft) -> Result<Pdu> {
    let room_id = draft
        .room_id
        .as_deref()
        .ok_or_else(|| Error::Invalid("No room given".into()))?;
    let head = known_room(rooms, room_id).await?;
    let mut chain = Chain::upon(rooms, &head, crate::view::View::default());
    chain
        .look_at(
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &draft.content,
        )
        .await?;
    chain.decide(draft, rooms.store().clock().now_ms())
}

/// The room's head, if this server takes part in the room, or did.
pub(crate) async fn known_room(rooms: &Rooms, room_id: &RoomId) -> Result<Arc<RoomHead>> {
    match rooms.store().room(room_id).await? {
        Some(head) if head.snapshot.is_some() => Ok(head),
        _ => Err(Error::UnknownRoom(room_id.to_owned())),
    }
}

/// Frees the queue if its worker is dropped or panics before its time.
struct Worker {
    queue: Arc<Queue>,
    done: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            self.queue.abandon();
        }
    }
}

async fn work(rooms: Rooms, room_id: ruma::OwnedRoomId, room: RoomNo, queue: Arc<Queue>) {
    let mut worker = Worker {
        queue: queue.clone(),
        done: false,
    };
    loop {
        let mut warm = queue.gate.lock().await;
        let mut jobs = queue.take(MAX_BATCH);
        if jobs.is_empty() {
            worker.done = true;
            return;
        }
        while !jobs.is_empty() {
            round(&rooms, &room_id, room, &mut warm, &mut jobs).await;
        }
    }
}

/// What was decided about a job, to be told once the commit has succeeded.
enum Outcome {
    /// Its event is in the chain.
    Added(OwnedEventId),
    /// It needs no event: this one says it already.
    Stands(OwnedEventId),
    Refused(Error),
}

/// Decides as many of `jobs` as go into one commit, commits, and answers those.
async fn round(
    rooms: &Rooms,
    room_id: &RoomId,
    room: RoomNo,
    warm: &mut Warm,
    jobs: &mut VecDeque<Job>,
) {
    let mut alone = false;
    for _ in 0..MAX_ATTEMPTS {
        let decided = match decide(rooms, room_id, warm, jobs, alone).await {
            Ok(decided) => decided,
            Err(error) => return fail_all(jobs, &error),
        };
        let Decided {
            chain,
            version,
            outcomes,
            servers,
        } = decided;
        let nothing = chain.is_empty();
        let (write, view) = chain.into_write(Some(version));
        let after = Warm {
            version: Some(version + i64::from(write.current.is_some())),
            view,
            servers,
        };
        let written = if nothing {
            *warm = after;
            Ok(())
        } else {
            let set = WriteSet {
                rooms: vec![write],
                ..WriteSet::default()
            };
            rooms.store().commit(set).await.map(|_| *warm = after)
        };
        match written {
            Ok(()) => {
                answer(rooms, jobs, outcomes).await;
                return;
            }
            Err(CommitError::StateMoved { .. }) => {
                tracing::debug!(room = %room, "state moved, deciding again");
                *warm = Warm::default();
            }
            Err(CommitError::DuplicateTxn { key, event_id }) => {
                *warm = Warm::default();
                let Some(at) = jobs
                    .iter()
                    .position(|job| job.options.txn.as_ref() == Some(&key))
                else {
                    return fail_all(jobs, &Error::Contended);
                };
                if let Some(job) = jobs.remove(at) {
                    let _ = job.reply.send(Ok(Sent {
                        event_id,
                        fresh: false,
                    }));
                }
                if jobs.is_empty() {
                    return;
                }
            }
            Err(error) if alone || jobs.len() == 1 => {
                *warm = Warm::default();
                if let Some(job) = jobs.pop_front() {
                    let _ = job.reply.send(Err(commit_error(error)));
                }
                return;
            }
            Err(error) => {
                // One of them may be at fault: find out which by taking one at a time.
                tracing::warn!(room = %room, %error, "a chain of events could not be stored");
                *warm = Warm::default();
                alone = true;
            }
        }
    }
    fail_all(jobs, &Error::Contended);
}

struct Decided<'a> {
    chain: Chain<'a>,
    version: i64,
    outcomes: Vec<Outcome>,
    servers: Option<Vec<OwnedServerName>>,
}

/// Decides the first jobs upon the room's head: all of them, or up to the first that changes a
/// membership (whoever is in the room decides where the next event goes), or just one.
async fn decide<'a>(
    rooms: &'a Rooms,
    room_id: &RoomId,
    warm: &mut Warm,
    jobs: &VecDeque<Job>,
    alone: bool,
) -> Result<Decided<'a>> {
    let head = known_room(rooms, room_id).await?;
    let warm = warm.at(head.state_version);
    if warm.servers.is_none() {
        let mut servers = rooms.store().joined_servers(head.room).await?.to_vec();
        servers.retain(|server| server != rooms.server_name());
        warm.servers = Some(servers);
    }
    let servers = warm.servers.clone().unwrap_or_default();
    let mut decided = Decided {
        chain: Chain::upon(rooms, &head, std::mem::take(&mut warm.view)),
        version: head.state_version,
        outcomes: Vec::with_capacity(jobs.len()),
        servers: warm.servers.clone(),
    };
    for (at, job) in jobs.iter().enumerate() {
        // The same transaction twice in one chain: the second gets the first one's event.
        let twin = job.options.txn.as_ref().and_then(|txn| {
            jobs.iter()
                .take(at)
                .position(|other| other.options.txn.as_ref() == Some(txn))
        });
        if let Some(Outcome::Added(id) | Outcome::Stands(id)) =
            twin.and_then(|twin| decided.outcomes.get(twin))
        {
            let id = id.clone();
            decided.outcomes.push(Outcome::Stands(id));
            continue;
        }
        let outcome = match one(rooms, &mut decided.chain, job, &servers).await {
            Ok(outcome) => outcome,
            Err(Error::Store(error)) => return Err(Error::Store(error)),
            Err(refused) => Outcome::Refused(refused),
        };
        let added = matches!(outcome, Outcome::Added(_));
        decided.outcomes.push(outcome);
        if alone {
            break;
        }
        if added && job.draft.kind == "m.room.member" {
            decided.servers = None;
            break;
        }
    }
    Ok(decided)
}

async fn one(
    rooms: &Rooms,
    chain: &mut Chain<'_>,
    job: &Job,
    servers: &[OwnedServerName],
) -> Result<Outcome> {
    let draft = &job.draft;
    chain
        .look_at(
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &draft.content,
        )
        .await?;
    if let Some(key) = &draft.state_key
        && let Some(stands) = chain.view.get(&draft.kind, key)
        && stands.sender() == draft.sender
        && *stands.content() == draft.content
    {
        return Ok(Outcome::Stands(stands.event_id().to_owned()));
    }
    let ts = job
        .options
        .origin_server_ts
        .unwrap_or_else(|| rooms.store().clock().now_ms());
    let pdu = chain.decide(draft, ts)?;
    let redacts = match pdu.redacts() {
        Some(target) => Some(may_redact(rooms, chain, &pdu, target).await?),
        None => None,
    };
    let send_to = send_to(rooms, servers, &pdu);
    let event_id = pdu.event_id().to_owned();
    chain
        .push(Arc::new(pdu), job.options.txn.clone(), redacts, send_to)
        .await?;
    Ok(Outcome::Added(event_id))
}

/// The servers that must get an event: those in the room before it, and the target's.
pub(crate) fn send_to(
    rooms: &Rooms,
    servers: &[OwnedServerName],
    pdu: &Pdu,
) -> Option<Vec<OwnedServerName>> {
    let mut to = servers.to_vec();
    if pdu.kind() == "m.room.member" {
        let target = pdu
            .state_key()
            .and_then(|key| <&ruma::UserId>::try_from(key).ok());
        if let Some(target) = target.map(|user| user.server_name().to_owned())
            && target != rooms.server_name()
            && !to.contains(&target)
        {
            to.push(target);
        }
    }
    (!to.is_empty()).then_some(to)
}

/// Our users may redact their own events, and those of others with the power for it. This is stricter
/// than what is asked of an event from elsewhere, where the sender's server is enough.
async fn may_redact(
    rooms: &Rooms,
    chain: &Chain<'_>,
    pdu: &Pdu,
    target: &EventId,
) -> Result<Redacts> {
    let power = Power::of(pdu.rules(), &chain.view);
    let any = power.user(pdu.sender()) >= Level::Int(power.action(Action::Redact));
    if let Some(event) = rooms.store().event(target).await? {
        if event.pdu.room_id() != pdu.room_id() {
            return Err(Error::UnknownEvent(target.to_owned()));
        }
        if event.pdu.kind() == "m.room.create" {
            return Err(Error::Denied("The create event can't be redacted".into()));
        }
        if event.pdu.sender() != pdu.sender() && !any {
            return Err(Error::Denied(
                "You don't have the power to redact the events of others here".into(),
            ));
        }
    } else if !any {
        return Err(Error::UnknownEvent(target.to_owned()));
    }
    Ok(Redacts {
        target: target.to_owned(),
        only_from: (!any).then(|| pdu.sender().server_name().to_owned()),
    })
}

/// Tells the jobs that `outcomes` are about, and removes them.
async fn answer(rooms: &Rooms, jobs: &mut VecDeque<Job>, outcomes: Vec<Outcome>) {
    for outcome in outcomes {
        let Some(job) = jobs.pop_front() else { return };
        let told = match outcome {
            Outcome::Added(event_id) => Ok(Sent {
                event_id,
                fresh: true,
            }),
            Outcome::Stands(event_id) => Ok(Sent {
                event_id,
                fresh: false,
            }),
            Outcome::Refused(error) => match done_before(rooms, &job.options).await {
                Some(event_id) => Ok(Sent {
                    event_id,
                    fresh: false,
                }),
                None => Err(error),
            },
        };
        // A sender who has gone away doesn't hear it; the event stands.
        let _ = job.reply.send(told);
    }
}

async fn done_before(rooms: &Rooms, options: &SendOptions) -> Option<OwnedEventId> {
    let txn = options.txn.as_ref()?;
    rooms.store().transaction(txn).await.ok().flatten()
}

fn fail_all(jobs: &mut VecDeque<Job>, error: &Error) {
    for job in jobs.drain(..) {
        let _ = job.reply.send(Err(again(error)));
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

/// What a refused commit means to the caller, when deciding again doesn't help.
pub(crate) fn commit_error(error: CommitError) -> Error {
    match error {
        CommitError::StateMoved { .. } => Error::Contended,
        CommitError::AliasTaken(alias) => Error::AliasTaken(alias.to_string()),
        CommitError::Store(error) => Error::Store(error),
        other => Error::Store(rhizome_storage::Error::Failed(other.to_string())),
    }
}
