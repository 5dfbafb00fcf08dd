//! Asking other servers what a room is, and remembering for a while what they said.

use std::{sync::Arc, time::Duration};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_storage::Cache;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{MAX_ANSWER, Told};
use crate::{
    Federation, MatrixError,
    keyed::Keyed,
    membership::candidates::candidates,
    outbound::{Limits, OutboundError},
};

/// How many servers are asked for one room.
const MAX_SERVERS: usize = 3;
/// Somebody waits for the answer.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_secs(10)),
    max_body: MAX_ANSWER,
};
/// How long an answer counts.
const FRESH: Duration = Duration::from_mins(5);
/// How long a server that can't be reached isn't asked again for the same room.
const UNREACHABLE: Duration = Duration::from_mins(1);
/// How many questions all users together have under way: so many answers may be there as a whole.
const MAX_TOGETHER: usize = 24;
/// Answers that are remembered, in KiB.
const MAX_REMEMBERED: usize = 32 << 10;

/// Whom was asked what: each server's answer counts as its own, as a room's id doesn't say who may speak for it.
type Question = (OwnedServerName, OwnedRoomId);

/// What was asked of others, and what they said.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Until when by the monotonic clock it counts, and the answer; `None` where nobody answered.
    answers: Cache<Question, (Duration, Option<Arc<Told>>)>,
    /// Questions under way: who comes second finds the first one's answer.
    asking: Keyed<Question>,
    places: Semaphore,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            answers: Cache::new(MAX_REMEMBERED),
            asking: Keyed::default(),
            places: Semaphore::new(MAX_TOGETHER),
        }
    }
}

/// Whom to ask of a room that we aren't in, for a user: see [`theirs`].
///
/// # Errors
/// The database's.
pub async fn whom_to_ask(
    fed: &Federation,
    user: Option<&UserId>,
    room: &RoomId,
    via: Vec<OwnedServerName>,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    match user {
        Some(user) => candidates(fed, user, room, via).await,
        None if via.is_empty() => Ok(room
            .server_name()
            .map(ToOwned::to_owned)
            .into_iter()
            .collect()),
        None => Ok(via),
    }
}

/// What the first of some servers that tells anything tells of a room that we aren't in.
pub async fn theirs(fed: &Federation, room: &RoomId, via: &[OwnedServerName]) -> Option<Arc<Told>> {
    let others = via.iter().filter(|server| *server != fed.server_name());
    for server in others.take(MAX_SERVERS) {
        if let Some(told) = ask(fed, room, server).await {
            return Some(told);
        }
    }
    None
}

async fn ask(fed: &Federation, room: &RoomId, server: &OwnedServerName) -> Option<Arc<Told>> {
    let asked = fed.asked_of_spaces();
    let question = (server.clone(), room.to_owned());
    let _only = asked.asking.lock(question.clone()).await;
    let now = fed.store().clock().monotonic();
    if let Some((until, answer)) = asked.answers.get(&question)
        && now < until
    {
        return answer;
    }
    let answer = request(fed, room, server).await;
    let now = fed.store().clock().monotonic();
    match answer {
        Ok(told) => {
            let told = Arc::new(told);
            let weight = 1 + told.size() / 1_024;
            let kept = (now + FRESH, Some(told.clone()));
            asked.answers.insert_weighing(question, kept, weight);
            Some(told)
        }
        Err(error) => {
            tracing::debug!(%server, %room, %error, "a server tells nothing of a room");
            // Who refuses now may not a moment later: somebody has come into a room.
            if error.is_unreachable() {
                asked.answers.insert(question, (now + UNREACHABLE, None));
            }
            None
        }
    }
}

async fn request(
    fed: &Federation,
    room: &RoomId,
    server: &ServerName,
) -> Result<Told, OutboundError> {
    let unusable = |what: &str| OutboundError::Answer(what.to_owned());
    let place = fed.asked_of_spaces().places.acquire().await;
    let _place =
        place.map_err(|_| OutboundError::Request("nobody is asked any more".to_owned()))?;
    let id = utf8_percent_encode(room.as_str(), NON_ALPHANUMERIC);
    let target = format!("/_matrix/federation/v1/hierarchy/{id}?suggested_only=false");
    let outbound = fed.outbound();
    let answer = outbound
        .call(server, Method::GET, &target, None, LIMITS)
        .await?;
    let room = room.to_owned();
    // A large one takes a while.
    let read = tokio::task::spawn_blocking(move || {
        let answer: Value = serde_json::from_slice(&answer).ok()?;
        Told::of(&answer, &room)
    });
    let told = read.await.map_err(|_| unusable("it can't be read"))?;
    told.ok_or_else(|| unusable("it tells nothing of the room"))
}
