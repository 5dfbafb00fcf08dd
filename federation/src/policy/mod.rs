//! Asking the policy servers of rooms for their signatures
//! (<https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event>).
//!
//! - [`signed`]: events of ours, and those that come into a room through us. Without the signature they aren't taken, and
//!   whoever made them is told why.
//! - [`ask_about`], [`look_at`]: events that others sent us without it. What is refused is soft-failed; where the
//!   policy server doesn't answer, they wait for it in the inbox, for a bounded time.

mod silent;
mod told;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use http::Method;
use rhizome_edge::limits::{Buckets, Rate, ms};
use rhizome_protocol::{Pdu, Rejection, policy::PolicyServer};
use rhizome_rooms::{
    Error,
    policy_server::{self, Asked},
    receive::Gathered,
};
use rhizome_storage::{Cache, Placement, RoomHead};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, ServerName};
use serde_json::{Value, value::RawValue};
use tokio::time::{Instant, timeout_at};

use self::silent::Silent;
use crate::{
    Federation, MatrixError,
    keyed::{Keyed, KeyedGuard},
    outbound::{Limits, OutboundError, answer},
};

const SIGN: &str = "/_matrix/policy/v1/sign";
/// The longest that one answer takes: people wait for it.
const TIME: Duration = Duration::from_secs(10);
/// The longest that the events of one answer are asked about.
pub(crate) const TIME_OF_ANSWER: Duration = Duration::from_secs(12);
/// The same of a transaction: its server sends one after the other, so that a slow policy server in one room holds up what comes
/// from there into all others. What isn't answered by then waits in the inbox, where it holds up nothing.
pub(crate) const TIME_OF_TRANSACTION: Duration = Duration::from_secs(5);
/// How many events are asked about at the same time.
const AT_ONCE: usize = 8;
/// When to ask again who may have begun to answer.
const A_MOMENT: Duration = Duration::from_secs(1);
/// What one server's events may make us ask.
const OF_CAUSE: Rate = Rate {
    per_second: 10.0,
    burst: 500,
};
/// How many events of ours may wait for their turn in a room.
const MAX_WAITING: usize = 100;
/// How many refusals are remembered.
const MAX_REFUSED: usize = 10_000;

/// What is known in memory of asking policy servers.
pub(crate) struct Policies {
    /// Rooms in which an event of ours is being signed: one after the other, so that each follows the one before it.
    turns: Keyed<OwnedRoomId>,
    /// Events of others that weren't signed, and by whom.
    refused: Cache<OwnedEventId, PolicyServer>,
    silent: Silent,
    /// How much each server has made us ask.
    asked_for: Buckets,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            turns: Keyed::default(),
            refused: Cache::new(MAX_REFUSED),
            silent: Silent::default(),
            asked_for: Buckets::default(),
        }
    }
}

impl Policies {
    /// Waits for the turn of an event of ours in a room with a policy server.
    pub(crate) async fn turn(
        &self,
        room_id: &RoomId,
    ) -> Result<KeyedGuard<OwnedRoomId>, MatrixError> {
        let turn = self.turns.lock_among(room_id.to_owned(), MAX_WAITING);
        turn.await.ok_or_else(|| MatrixError::limit_exceeded(1_000))
    }
}

/// The policy server that has a say in a room.
pub(crate) async fn in_force(
    fed: &Federation,
    room_id: &RoomId,
) -> Result<Option<PolicyServer>, Error> {
    match fed.store().room(room_id).await? {
        Some(head) => policy_server::in_force(fed.rooms(), &head).await,
        None => Ok(None),
    }
}

/// Why an event isn't signed.
#[derive(Debug)]
enum Unsigned {
    /// The policy server won't.
    Refused(MatrixError),
    /// What it has answered is no signature of it.
    Invalid(Rejection),
    /// It doesn't answer, or has no time.
    NotNow(OutboundError),
}

/// The event with the signature of its room's policy server, if that has a say. `cause`: the server that hands it in, if it
/// isn't ours.
///
/// # Errors
/// What whoever made the event is told.
pub(crate) async fn signed(
    fed: &Federation,
    pdu: Arc<Pdu>,
    cause: Option<&ServerName>,
) -> Result<Arc<Pdu>, MatrixError> {
    let Some(policy) = in_force(fed, pdu.room_id()).await? else {
        return Ok(pdu);
    };
    if policy.passes(&pdu) {
        return Ok(pdu);
    }
    let now = fed.store().clock().monotonic();
    if let Some(cause) = cause {
        // What is handed in once more was signed when it came first.
        let known = fed.store().event(pdu.event_id()).await?;
        if known.is_some_and(|known| known.placement != Placement::Outlier) {
            return Ok(pdu);
        }
        let taken = fed.policies().asked_for.take(OF_CAUSE, cause, 1, ms(now));
        taken.map_err(MatrixError::limit_exceeded)?;
    }
    let rest = fed.policies().silent.rest_of(policy.server(), now);
    let asked = match rest {
        Some(_) => Err(Unsigned::NotNow(OutboundError::Transport(
            "it didn't answer a moment ago".to_owned(),
        ))),
        None => ask(fed, &policy, &pdu).await,
    };
    asked
        .map(Arc::new)
        .map_err(|unsigned| told::of(&policy, unsigned))
}

/// Asks once.
async fn ask(fed: &Federation, policy: &PolicyServer, pdu: &Pdu) -> Result<Pdu, Unsigned> {
    let (server, silent) = (policy.server(), &fed.policies().silent);
    let limits = Limits {
        timeout: Some(TIME),
        max_body: answer::SIGNATURES,
    };
    let asked = async {
        let body = RawValue::from_string(pdu.json().to_string())
            .map_err(|error| OutboundError::Request(error.to_string()))?;
        // Boxed: who asks nobody needn't carry it.
        let call = fed
            .outbound()
            .call(server, Method::POST, SIGN, Some(&body), limits);
        let answer = Box::pin(call).await?;
        serde_json::from_slice::<Value>(&answer)
            .map_err(|error| OutboundError::Answer(error.to_string()))
    };
    match asked.await {
        Ok(answer) => {
            silent.answered(server);
            policy.sign(pdu, &answer).map_err(Unsigned::Invalid)
        }
        Err(OutboundError::Remote(error)) if told::is_refusal(&error) => {
            silent.answered(server);
            Err(Unsigned::Refused(error))
        }
        Err(error) => {
            let now = fed.store().clock().monotonic();
            silent.failed(server, now, fed.config().retry_min);
            Err(Unsigned::NotNow(error))
        }
    }
}

/// What came of asking about an event of others.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is signed.
    Signed(Arc<Pdu>),
    /// It won't be.
    Refused,
    /// To be tried again after this time.
    NotNow(Duration),
}

/// Asks a policy server about an event that it hasn't signed, and that `cause` gave us.
pub(crate) async fn ask_about(
    fed: &Federation,
    cause: &ServerName,
    policy: &PolicyServer,
    pdu: &Pdu,
) -> Answer {
    let (server, policies) = (policy.server(), fed.policies());
    if policies.refused.get(pdu.event_id()).as_ref() == Some(policy) {
        return Answer::Refused;
    }
    let now = fed.store().clock().monotonic();
    if policies.silent.rest_of(server, now).is_some() {
        return unanswered(fed, policy, pdu);
    }
    if let Err(wait) = policies.asked_for.take(OF_CAUSE, cause, 1, ms(now)) {
        return Answer::NotNow(Duration::from_millis(wait));
    }
    match ask(fed, policy, pdu).await {
        Ok(signed) => Answer::Signed(Arc::new(signed)),
        Err(Unsigned::NotNow(error)) => {
            tracing::info!(%server, %error, "a policy server doesn't answer");
            unanswered(fed, policy, pdu)
        }
        Err(why) => {
            tracing::debug!(%server, event = %pdu.event_id(), ?why, "a policy server hasn't signed an event");
            policies
                .refused
                .insert(pdu.event_id().to_owned(), policy.clone());
            Answer::Refused
        }
    }
}

/// An event of others waits while its policy server is silent, but not for ever: what follows it waits as well.
fn unanswered(fed: &Federation, policy: &PolicyServer, pdu: &Pdu) -> Answer {
    let (server, silent) = (policy.server(), &fed.policies().silent);
    let now = fed.store().clock().monotonic();
    if silent.is_given_up(server, now) {
        tracing::warn!(%server, event = %pdu.event_id(), "an event isn't shown: its room's policy server has been silent for too long to sign it");
        return Answer::Refused;
    }
    Answer::NotNow(silent.rest_of(server, now).unwrap_or(A_MOMENT))
}

/// Events of a room that a server gave us, and what the room's policy server says to them.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// All of them in their order, with its signature as far as it has given that.
    pub(crate) pdus: Vec<Arc<Pdu>>,
    policy: Option<PolicyServer>,
    refused: HashSet<OwnedEventId>,
}

impl Looked {
    /// What is to be said of an event when it is decided.
    pub(crate) fn gathered(&self, id: &EventId) -> Gathered {
        let mut gathered = Gathered::default();
        if let Some(policy) = &self.policy
            && self.refused.contains(id)
        {
            gathered.policy = Asked::Refused(policy.clone());
        }
        gathered
    }
}

/// Asks about all of these that need it, a few at the same time; what isn't answered in this time is left as it is.
///
/// # Errors
/// The database's.
pub(crate) async fn look_at(
    fed: &Federation,
    cause: &ServerName,
    head: &RoomHead,
    pdus: Vec<Arc<Pdu>>,
    time: Duration,
) -> Result<Looked, Error> {
    let mut looked = Looked {
        pdus,
        ..Looked::default()
    };
    let Some(policy) = policy_server::in_force(fed.rooms(), head).await? else {
        return Ok(looked);
    };
    let lacking = looked.pdus.iter().filter(|pdu| !policy.passes(pdu));
    let mut lacking: HashSet<OwnedEventId> = lacking.map(|pdu| pdu.event_id().to_owned()).collect();
    if lacking.is_empty() {
        return Ok(looked);
    }
    let ids: Vec<OwnedEventId> = lacking.iter().cloned().collect();
    // What has its place already isn't decided again.
    for known in fed.store().events(&ids).await? {
        if known.placement != Placement::Outlier {
            lacking.remove(known.pdu.event_id());
        }
    }
    for pdu in &looked.pdus {
        if lacking.contains(pdu.event_id()) && policy_server::stands(fed.rooms(), head, pdu).await?
        {
            lacking.remove(pdu.event_id());
        }
    }
    let until = Instant::now() + time;
    let each = std::mem::take(&mut looked.pdus).into_iter().map(|pdu| {
        let is_lacking = lacking.contains(pdu.event_id());
        (pdu, is_lacking)
    });
    let each: Vec<(Arc<Pdu>, bool)> = each.collect();
    let asked: Vec<(Arc<Pdu>, bool)> = stream::iter(each)
        .map(|one| one_of_many(fed, cause, &policy, one, until))
        .buffered(AT_ONCE)
        .collect()
        .await;
    for (pdu, is_refused) in asked {
        if is_refused {
            looked.refused.insert(pdu.event_id().to_owned());
        }
        looked.pdus.push(pdu);
    }
    looked.policy = Some(policy);
    Ok(looked)
}

/// The event as it is to be decided, and whether it was refused.
async fn one_of_many(
    fed: &Federation,
    cause: &ServerName,
    policy: &PolicyServer,
    (pdu, is_lacking): (Arc<Pdu>, bool),
    until: Instant,
) -> (Arc<Pdu>, bool) {
    if !is_lacking {
        return (pdu, false);
    }
    match timeout_at(until, ask_about(fed, cause, policy, &pdu)).await {
        Ok(Answer::Signed(signed)) => (signed, false),
        Ok(Answer::Refused) => (pdu, true),
        Ok(Answer::NotNow(_)) | Err(_) => (pdu, false),
    }
}
