//! Joins that count at another server and not here: its answer was lost, or is nothing that we can take.
//!
//! Each is written down before it is handed in, and struck off when we are in the room. If nothing came of it, the
//! user leaves at the server where it was handed in, ever less often until that is done. That goes one after the other
//! with the joins of the room, so that no newer join is taken back.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use rhizome_rooms::access;
use rhizome_storage::{Error, SentJoin, millis};
use ruma::{RoomId, ServerName, UserId};
use tokio::time::Instant;

use super::{at_server, joining};
use crate::{Federation, MatrixError};

/// For so long a join that was handed in may be under way.
const UNDER_WAY: Duration = Duration::from_mins(10);
/// For so long nobody else takes it back: a little longer than the steps of that.
const CLAIMED_FOR: Duration = Duration::from_secs(30);
/// A server that doesn't count us as joined may yet be busy with the join, for so long.
const SETTLED: Duration = Duration::from_mins(5);
/// For so long it is tried.
const GIVEN_UP: Duration = Duration::from_hours(30 * 24);
/// How many are looked at and how many taken back at the same time.
const LOOKED_AT: usize = 100;
const AT_ONCE: usize = 8;
/// How long it sleeps at most.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// A join is about to be handed in.
pub(super) async fn begin(
    fed: &Federation,
    user: &UserId,
    room: &RoomId,
    server: &ServerName,
) -> Result<(), Error> {
    let until = in_ms(fed, UNDER_WAY);
    fed.store().join_is_sent(user, room, server, until).await
}

/// A user begins to join a room: what is being taken back is waited for, and the rest is put off.
pub(super) async fn wait(
    fed: &Federation,
    user: &UserId,
    room: &RoomId,
    until: Instant,
) -> Result<(), MatrixError> {
    let later = in_ms(fed, UNDER_WAY);
    if fed.store().put_off_joins(user, room, later).await? {
        drop(joining::turn(fed, room, until).await?);
    }
    Ok(())
}

/// The user is in the room.
pub(super) async fn nothing(fed: &Federation, user: &UserId, room: &RoomId) {
    if let Err(error) = fed.store().joins_are_done(user, room).await {
        // Found out when it comes due.
        tracing::warn!(%room, %error, "can't note that a join is done");
    }
}

/// The user's joins of the room are in vain.
pub(super) async fn soon(fed: &Federation, user: &UserId, room: &RoomId) {
    match fed
        .store()
        .put_off_joins(user, room, in_ms(fed, Duration::ZERO))
        .await
    {
        Ok(true) => fed.joining().in_vain.notify_one(),
        Ok(false) => {}
        Err(error) => tracing::warn!(%room, %error, "can't note that a join is in vain"),
    }
}

/// The user leaves a room in which they aren't: takes the joins back that they have sent. Whether there are any; what
/// can't be taken back now, is later.
pub(super) async fn now(
    fed: &Federation,
    user: &UserId,
    room: &RoomId,
    reason: Option<String>,
) -> Result<bool, MatrixError> {
    if fed.store().sent_joins(user, room).await?.is_empty() {
        return Ok(false);
    }
    let until = Instant::now() + CLAIMED_FOR;
    let _turn = joining::turn(fed, room, until).await?;
    let joins = fed.store().sent_joins(user, room).await?;
    stream::iter(joins)
        .map(|join| claimed(fed, join, reason.clone()))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<(), _>>()?;
    fed.joining().in_vain.notify_one();
    Ok(true)
}

/// Works until it is dropped.
///
/// # Errors
/// The database's. What was begun comes due again by itself.
pub(crate) async fn run(fed: &Federation) -> Result<(), Error> {
    let store = fed.store();
    loop {
        let next = store.next_sent_joins(LOOKED_AT).await?;
        let now = store.clock().now_ms();
        let (due, later): (Vec<_>, Vec<_>) =
            next.into_iter().partition(|join| join.retry_at <= now);
        if due.is_empty() {
            let wait = later.first().map(|join| join.retry_at.saturating_sub(now));
            let wait = wait.and_then(|wait| u64::try_from(wait).ok());
            let wait = wait.map_or(LONGEST_SLEEP, |wait| {
                Duration::from_millis(wait).min(LONGEST_SLEEP)
            });
            tokio::select! {
                () = fed.joining().in_vain.notified() => {}
                () = store.clock().sleep(wait) => {}
            }
            continue;
        }
        let mut working = stream::iter(due)
            .map(async |join| {
                let _turn = fed.joining().turns.lock(join.room_id.clone()).await;
                claimed(fed, join, None).await
            })
            .buffer_unordered(AT_ONCE);
        while let Some(done) = working.next().await {
            done?;
        }
    }
}

/// Takes a join back, unless somebody else does or the user is joining again. The room's turn is ours.
async fn claimed(
    fed: &Federation,
    mut join: SentJoin,
    reason: Option<String>,
) -> Result<(), Error> {
    let store = fed.store();
    let claim = in_ms(fed, CLAIMED_FOR);
    if !store.put_off_join(&join, join.failures, claim).await? {
        return Ok(());
    }
    join.retry_at = claim;
    if is_done(fed, &join, reason).await? {
        return store.join_is_taken_back(&join).await;
    }
    let failures = join.failures.saturating_add(1);
    let config = fed.config();
    let doubled = config.retry_min.saturating_mul(1 << join.failures.min(30));
    let retry_at = in_ms(fed, doubled.min(config.retry_max));
    store.put_off_join(&join, failures, retry_at).await?;
    Ok(())
}

/// Whether nothing is to be taken back, any more or at all.
async fn is_done(fed: &Federation, join: &SentJoin, reason: Option<String>) -> Result<bool, Error> {
    let (user, room, server) = (&join.user_id, &join.room_id, &join.server);
    match access::server_in_room(fed.store(), room, fed.server_name()).await {
        // What the room says of the user is known here.
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%room, %error, "can't tell whether we are in a room");
            return Ok(false);
        }
    }
    let age = fed.store().clock().now_ms().saturating_sub(join.sent_ts);
    match at_server::leave(fed, server, user, room, reason).await {
        Ok(_) => {
            tracing::info!(%user, %room, %server, "took a join back of which nothing came here");
            Ok(true)
        }
        Err(error) if isnt_there(&error) && age >= millis(SETTLED) => {
            tracing::info!(%user, %room, %server, %error, "a join of which nothing came here can't be taken back");
            Ok(true)
        }
        Err(error) => {
            tracing::debug!(%user, %room, %server, %error, "a join isn't taken back yet");
            Ok(age >= millis(GIVEN_UP))
        }
    }
}

fn isnt_there(error: &MatrixError) -> bool {
    [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&error.status)
}

fn in_ms(fed: &Federation, wait: Duration) -> i64 {
    fed.store().clock().now_ms().saturating_add(millis(wait))
}
