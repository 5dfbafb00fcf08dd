//! Where a destination stands: how that is found out, and what is noted of it after an attempt.

use std::time::Duration;

use rhizome_storage::{DestinationState, Error, Pos, millis, random};
use ruma::ServerName;
use serde_json::Value;

use super::{backoff, gather::Round, queues::Beside};
use crate::{Federation, outbound::OutboundError};

/// That a server was reached is written down again after so long, ms.
const REACHED_AGAIN: i64 = 60_000;
/// Characters of a reason that are kept.
const MAX_REASON: usize = 300;

/// Where the destination stands, from memory or the database.
pub(super) async fn load(fed: &Federation, to: &ServerName) -> Result<DestinationState, Error> {
    let known = fed.sender().stand(to);
    if let Some(stand) = known {
        return Ok(stand);
    }
    let dirty = fed.sender().state().dirty.get(to).copied();
    let stand = match dirty {
        Some(stand) => stand,
        None => fed.store().destination_state(to).await?,
    };
    remember(fed, to, stand);
    if stand.failures == 0 && stand.reached() > Pos(0) {
        fed.sender().was_reached(to);
    }
    Ok(stand)
}

/// It stands here now: worth knowing, not worth a write.
pub(super) fn remember(fed: &Federation, to: &ServerName, stand: DestinationState) {
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.stand = Some(stand);
    }
}

/// Where it stands after it has answered, and has everything up to `sent`.
pub(super) fn reached(fed: &Federation, stand: DestinationState, sent: Pos) -> DestinationState {
    let (moved, now) = (stand.moved(sent), fed.store().clock().now_ms());
    // Where nothing else changes, not every transaction is worth a write.
    let is_news = moved.reached() > stand.reached() || stand.failures > 0;
    let is_old = now.saturating_sub(stand.reached_ms) >= REACHED_AGAIN;
    DestinationState {
        failures: 0,
        retry_at: 0,
        failing_since: 0,
        reached_ms: if is_news || is_old {
            now
        } else {
            stand.reached_ms
        },
        ..moved
    }
}

/// Nothing is sent to a server to which the configuration lets nothing go, and nothing waits for it.
pub(super) fn pass_over(fed: &Federation, to: &ServerName, stand: DestinationState) {
    if let Some(upto) = fed.sender().take_all(to) {
        let upto = upto.max(stand.reached());
        fed.sender().arrived(to, upto);
        let stand = DestinationState {
            // Of a run, too, nothing is left.
            sent: upto,
            failures: 0,
            retry_at: 0,
            failing_since: 0,
            ..stand
        };
        settle(fed, to, (stand, stand), None);
    }
}

/// Notes where a destination stands, and what of that is to be written down, after an attempt.
pub(super) fn settle(
    fed: &Federation,
    to: &ServerName,
    (stand, written): (DestinationState, DestinationState),
    limit: Option<usize>,
) {
    fed.sender().note(to, stand, written);
    let now = fed.store().clock().now_ms();
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.attempted = now;
        queue.batch_limit = limit;
    }
}

/// After an attempt that failed: it is left alone for a while.
pub(super) fn failed(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
    round: &Round,
    error: &OutboundError,
) {
    let config = fed.config();
    let failures = stand.failures.saturating_add(1);
    // Without randomness there is no jitter.
    let [jitter] = random::bytes().unwrap_or_default();
    let mut wait = backoff::wait(failures, config.retry_min, config.retry_max, jitter);
    if let OutboundError::Remote(error) = error
        && let Some(asked) = error.extra.get("retry_after_ms").and_then(Value::as_u64)
    {
        wait = wait.max(Duration::from_millis(asked).min(config.retry_max));
    }
    let now = fed.store().clock().now_ms();
    let retry_at = now.saturating_add(millis(wait));
    tracing::info!(%to, failures, ?wait, %error, "a destination failed and is left alone for a while");
    let is_first = stand.failures == 0 || stand.failing_since == 0;
    let stand = DestinationState {
        failures,
        retry_at,
        failing_since: if is_first { now } else { stand.failing_since },
        ..stand
    };
    let why = error.to_string().chars().take(MAX_REASON).collect();
    fed.sender().failed_because(to, why);
    fed.sender().note(to, stand, round.run.written(stand));
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.attempted = now;
        // Ephemeral data was only worth something at the time; what is in the log stays there.
        queue.log = true;
        queue.beside = Beside::default();
    }
}
