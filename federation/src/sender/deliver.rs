//! One destination's work: gather, send, move the cursor, until there is nothing left or it fails.

use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_storage::{DestinationState, Error, Pos, millis, random};
use ruma::ServerName;
use serde_json::Value;

use super::{
    backoff,
    batch::{Batch, MAX_PDUS},
    gather::{Round, gather, look_again},
    latest, presence,
    queues::{Beside, Share},
};
use crate::{
    Federation, MatrixError,
    outbound::{Limits, OutboundError},
    servers::Direction,
};

/// A receiver may take its time over a transaction.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_mins(1)),
    max_body: 1 << 20,
};

/// That a server was reached is written down again after so long, ms.
const REACHED_AGAIN: i64 = 60_000;
/// Characters of a reason that are kept.
const MAX_REASON: usize = 300;

/// Works until the destination is up to date or has failed.
///
/// # Errors
/// The database failed.
pub(super) async fn deliver(fed: &Federation, to: &ServerName, share: Share) -> Result<(), Error> {
    let Some(mut stand) = begin(fed, to, share).await? else {
        return Ok(());
    };
    if (fed.config().servers)
        .configured(Direction::Out, to)
        .is_some()
    {
        pass_over(fed, to, stand);
        return Ok(());
    }
    let id = nonce();
    let mut sent = 0_u64;
    // Whether receipts and changes of devices weren't looked at.
    let mut alone = false;
    let mut round = Round::default();
    loop {
        if fed.sender().state().stopping {
            return Ok(());
        }
        stand.sent = stand.sent.max(fed.sender().let_go_upto(to));
        let batch = gather(fed, to, stand, &mut round).await?;
        if batch.is_empty() {
            if batch.upto > stand.sent {
                // Nothing there was for this destination: worth knowing, not worth a write.
                stand.sent = batch.upto;
                remember(fed, to, stand);
            }
            return Ok(());
        }
        match send(fed, to, &batch, &format!("{id}.{sent}")).await {
            Ok(()) => {
                sent += 1;
                stand = at(fed, stand, batch.upto);
                settled(fed, to, stand, None);
                if std::mem::take(&mut alone) {
                    look_again(fed, to, Beside::default());
                }
                round.newcomer.told(&batch.sticky);
                if let Some((last, _)) = batch.to_device.last() {
                    fed.sender().arrived(to, *last);
                }
            }
            Err(error) if refuses_content(&error) && batch.items() > 1 => {
                tracing::info!(%to, %error, "a transaction was refused for what it holds: halved");
                settled(fed, to, stand, Some(batch.items() / 2));
                look_again(fed, to, Beside::default());
            }
            Err(error) if refuses_content(&error) && batch.is_mixed() => {
                tracing::info!(%to, %error, "a transaction was refused for what it holds: its one event or message goes alone");
                settled(fed, to, stand, Some(1));
                look_again(fed, to, Beside::TO_DEVICE);
                alone = true;
            }
            Err(error) if refuses_content(&error) && batch.items() == 1 => {
                alone = false;
                let last = leave_out(to, &batch, &error);
                round.newcomer.told(&batch.sticky);
                stand = at(fed, stand, last.max(stand.sent));
                settled(fed, to, stand, None);
                look_again(fed, to, Beside::default());
            }
            Err(error) => {
                if !refuses_content(&error) {
                    presence::again(fed, to, &batch);
                }
                failed(fed, to, stand, &error);
                return Ok(());
            }
        }
    }
}

/// Where the destination stands as work on it begins; `None`: it isn't its turn.
async fn begin(
    fed: &Federation,
    to: &ServerName,
    share: Share,
) -> Result<Option<DestinationState>, Error> {
    let stand = load(fed, to).await?;
    if stand.failures == 0 {
        return Ok(Some(stand));
    }
    if share == Share::Healthy || stand.retry_at > fed.store().clock().now_ms() {
        // Read from the database just now: it is among those that failed, or still being left alone.
        return Ok(None);
    }
    latest::decide(fed, to, stand).await.map(Some)
}

/// Up to date up to here.
fn at(fed: &Federation, stand: DestinationState, sent: Pos) -> DestinationState {
    let now = fed.store().clock().now_ms();
    // Where nothing else changes, not every transaction is worth a write.
    let is_news = sent > stand.sent || stand.failures > 0;
    let is_old = now.saturating_sub(stand.reached_ms) >= REACHED_AGAIN;
    DestinationState {
        sent,
        failures: 0,
        retry_at: 0,
        failing_since: 0,
        reached_ms: if is_news || is_old {
            now
        } else {
            stand.reached_ms
        },
        ..stand
    }
}

/// Nothing is sent to a server to which the configuration lets nothing go, and nothing waits for it.
fn pass_over(fed: &Federation, to: &ServerName, stand: DestinationState) {
    if let Some(upto) = fed.sender().take_all(to) {
        let upto = upto.max(stand.sent);
        fed.sender().arrived(to, upto);
        let reached_ms = stand.reached_ms;
        let stand = DestinationState {
            reached_ms,
            ..at(fed, stand, upto)
        };
        settled(fed, to, stand, None);
    }
}

/// What stands alone in a transaction that is refused for what it holds isn't sent. Gives its position.
fn leave_out(to: &ServerName, batch: &Batch, error: &OutboundError) -> Pos {
    if let Some((_, event)) = batch.sticky.first() {
        let event_id = event.pdu.event_id();
        tracing::warn!(%to, event = %event_id, %error, "a sticky event was refused and is left out");
        return batch.upto;
    }
    if let Some(event) = batch.events.first() {
        let event_id = event.pdu.event_id();
        tracing::warn!(%to, event = %event_id, %error, "an event was refused and is left out");
        return event.pos().unwrap_or(batch.upto);
    }
    if let Some((pos, _)) = batch.to_device.first() {
        tracing::warn!(%to, %error, "a message to devices was refused and is left out");
        return *pos;
    }
    tracing::warn!(%to, %error, "a receipt or a change of devices was refused and is left out");
    batch.told.first().copied().unwrap_or(batch.upto)
}

/// Where the destination stands, from memory or the database.
async fn load(fed: &Federation, to: &ServerName) -> Result<DestinationState, Error> {
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
    Ok(stand)
}

fn remember(fed: &Federation, to: &ServerName, stand: DestinationState) {
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.stand = Some(stand);
    }
}

/// `PUT /_matrix/federation/v1/send/{txnId}`
async fn send(
    fed: &Federation,
    to: &ServerName,
    batch: &Batch,
    round: &str,
) -> Result<(), OutboundError> {
    let id = batch.id(round);
    let target = format!(
        "/_matrix/federation/v1/send/{}",
        utf8_percent_encode(&id, NON_ALPHANUMERIC)
    );
    let body = batch.body(fed.server_name(), fed.store().clock().now_ms());
    let answer = fed
        .outbound()
        .call_canonical(to, Method::PUT, &target, Some(body), LIMITS)
        .await?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| OutboundError::Answer(error.to_string()))?;
    let refused = answer
        .get("pdus")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    for (event, outcome) in refused.take(MAX_PDUS) {
        if let Some(reason) = outcome.get("error").and_then(Value::as_str) {
            let reason: String = reason.chars().take(200).collect();
            tracing::info!(%to, %event, reason, "an event wasn't accepted");
        }
    }
    Ok(())
}

/// Whether the destination refuses a transaction because of what is in it, rather than being unwell.
fn refuses_content(error: &OutboundError) -> bool {
    match error {
        OutboundError::Remote(MatrixError {
            status, errcode, ..
        }) => {
            matches!(status.as_u16(), 400 | 413)
                && matches!(
                    errcode.as_ref(),
                    "M_BAD_JSON" | "M_NOT_JSON" | "M_TOO_LARGE" | "M_INVALID_PARAM"
                )
        }
        _ => false,
    }
}

/// After success, and after a refusal that lets us go on with fewer events at a time.
fn settled(fed: &Federation, to: &ServerName, stand: DestinationState, limit: Option<usize>) {
    fed.sender().note(to, stand);
    let now = fed.store().clock().now_ms();
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.attempted = now;
        queue.batch_limit = limit;
    }
}

fn failed(fed: &Federation, to: &ServerName, stand: DestinationState, error: &OutboundError) {
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
    fed.sender().note(to, stand);
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.attempted = now;
        // Ephemeral data was only worth something at the time; what is in the log stays there.
        queue.log = true;
        queue.beside = Beside::default();
    }
}

/// What tells one run of attempts from another.
fn nonce() -> String {
    // Without randomness, ids may repeat after a restart for the same content only.
    random::hex::<8>().unwrap_or_default()
}
