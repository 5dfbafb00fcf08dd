//! One destination's work: gather, send, move the cursor, until there is nothing left or it fails.

use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_storage::{Behind, DestinationState, Error, Pos, millis, random};
use ruma::ServerName;
use serde_json::Value;

use super::{
    backoff,
    batch::{
        Batch, MAX_EDUS, MAX_PDUS, MAX_RECEIPT_EDUS, MAX_TO_DEVICE, edu, receipt_edus, typing_edu,
    },
    presence,
    queues::Beside,
    sticky::{self, Newcomer},
    to_device,
};
use crate::{
    Federation, MatrixError,
    devices::outgoing::{self, Changes},
    outbound::{Limits, OutboundError},
};

/// A receiver may take its time over a transaction.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_mins(1)),
    max_body: 1 << 20,
};
/// Receipts that are looked at for one transaction.
const MAX_RECEIPTS: usize = 500;

/// Works until the destination is up to date or has failed.
///
/// # Errors
/// The database failed.
pub(super) async fn deliver(fed: &Federation, to: &ServerName) -> Result<(), Error> {
    let mut stand = load(fed, to).await?;
    if stand.failures > 0 && stand.retry_at > fed.store().clock().now_ms() {
        // Read from the database just now: it is still being left alone.
        return Ok(());
    }
    let round = nonce();
    let mut sent = 0_u64;
    // Whether receipts and changes of devices weren't looked at.
    let mut alone = false;
    let mut newcomer = Newcomer::default();
    loop {
        if fed.sender().state().stopping {
            return Ok(());
        }
        let batch = gather(fed, to, stand, &mut newcomer).await?;
        if batch.is_empty() {
            if batch.upto > stand.sent {
                // Nothing there was for this destination: worth knowing, not worth a write.
                stand.sent = batch.upto;
                remember(fed, to, stand);
            }
            return Ok(());
        }
        match send(fed, to, &batch, &format!("{round}.{sent}")).await {
            Ok(()) => {
                sent += 1;
                stand = at(batch.upto);
                settled(fed, to, stand, None);
                if std::mem::take(&mut alone) {
                    look_again(fed, to, Beside::default());
                }
                newcomer.told(&batch.sticky);
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
                newcomer.told(&batch.sticky);
                stand = at(last.max(stand.sent));
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

/// Up to date up to here.
fn at(sent: Pos) -> DestinationState {
    DestinationState {
        sent,
        failures: 0,
        retry_at: 0,
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

/// What comes next for the destination: from the log after its cursor, and ephemeral data.
async fn gather(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
    newcomer: &mut Newcomer,
) -> Result<Batch, Error> {
    let mut batch = Batch {
        upto: stand.sent,
        ..Batch::default()
    };
    // All in one step with how far the log has been looked at, and with whether we lead: what comes later sets
    // `log` again.
    let (wanted, beside, limit, head) = {
        let mut state = fed.sender().state();
        let leads = state.leads();
        let head = state.looked_at.max(stand.sent);
        match state.queues.get_mut(to) {
            Some(queue) => {
                let wanted = leads && queue.log;
                let beside = queue.beside;
                queue.log = false;
                if wanted {
                    queue.beside = Beside::NOTHING;
                }
                (wanted, beside, queue.batch_limit, head)
            }
            None => (false, Beside::NOTHING, None, head),
        }
    };
    if wanted {
        let most = limit.unwrap_or(MAX_PDUS).min(MAX_PDUS);
        if beside.sticky {
            let span = (stand.sent, head);
            batch.sticky = sticky::gather(fed, to, newcomer, span, most).await?;
        }
        let gathered = if batch.sticky.is_empty() {
            gather_log(fed, to, stand.sent, head, (limit, beside), &mut batch).await
        } else {
            Ok(())
        };
        if gathered.is_err() || batch.upto < head {
            look_again(fed, to, beside);
        }
        gathered?;
    }
    let most = MAX_EDUS - batch.to_device.len();
    if batch.edus.len() < most {
        presence::gather(fed, to, &mut batch).await?;
    }
    let mut state = fed.sender().state();
    if let Some(queue) = state.queues.get_mut(to) {
        while batch.edus.len() < most
            && let Some(((room, user), typing)) = queue.typing.pop_first()
        {
            batch.edus.push(typing_edu(&room, &user, typing));
        }
        while batch.edus.len() < most
            && let Some(edu) = queue.edus.pop_front()
        {
            batch.edus.push(edu);
        }
    }
    Ok(batch)
}

/// The log still holds something, perhaps this too.
fn look_again(fed: &Federation, to: &ServerName, beside: Beside) {
    if let Some(queue) = fed.sender().state().queues.get_mut(to) {
        queue.log = true;
        queue.beside.add(beside);
    }
}

/// Events, and what else may be there, with `after < pos ≤ head`, as many as fit: each that is looked at ends
/// where the one before it had to, and what goes beyond where the last ends is left for the next time.
async fn gather_log(
    fed: &Federation,
    to: &ServerName,
    after: Pos,
    head: Pos,
    (limit, beside): (Option<usize>, Beside),
    batch: &mut Batch,
) -> Result<(), Error> {
    let most = limit.unwrap_or(MAX_PDUS).min(MAX_PDUS);
    batch.upto = head;
    batch.events = fed.store().outbound_to(to, after, head, most).await?;
    if batch.events.len() >= most
        && let Some(last) = batch.events.last().and_then(|event| event.pos())
    {
        batch.upto = last;
    }
    if beside.to_device {
        let most = limit.unwrap_or(MAX_TO_DEVICE).min(MAX_TO_DEVICE);
        to_device::gather(fed, to, after, most, batch).await?;
    }
    if (beside.lists || beside.receipts) && fed.store().is_in_a_room(to).await? {
        tell(fed, to, after, (limit, beside), batch).await?;
    } else if let Some(limit) = limit {
        batch.first(limit);
    }
    Ok(())
}

/// What is told of changes of devices and of receipts: to a server that is in a room.
async fn tell(
    fed: &Federation,
    to: &ServerName,
    after: Pos,
    (limit, beside): (Option<usize>, Beside),
    batch: &mut Batch,
) -> Result<(), Error> {
    let mut changes = Changes::default();
    if beside.lists {
        changes = outgoing::gather(fed, to, after, batch.upto).await?;
        batch.cut(changes.upto);
        batch.told.extend(changes.places());
    }
    let mut receipts = Vec::new();
    if beside.receipts {
        let behind = Behind {
            destination: to,
            ours: fed.server_name(),
            after,
            upto: batch.upto,
            limit: MAX_RECEIPTS,
        };
        receipts = fed.store().receipts_to(behind).await?;
        if let Some(last) = receipts.last()
            && receipts.len() >= MAX_RECEIPTS
        {
            batch.cut(last.pos);
        }
        batch
            .told
            .extend(receipts.iter().map(|receipt| receipt.pos));
    }
    if let Some(limit) = limit {
        batch.first(limit);
    }
    receipts.retain(|receipt| receipt.pos <= batch.upto);
    let (edus, stopped) = receipt_edus(&receipts, MAX_RECEIPT_EDUS);
    batch.edus = edus;
    if let Some(at) = stopped {
        batch.cut(Pos(at.0 - 1));
    }
    changes.cut(batch.upto);
    let told = changes.edus(fed).await?;
    let told = told.iter().map(|(kind, content)| edu(kind, content));
    batch.edus.extend(told);
    Ok(())
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
    let stand = DestinationState {
        failures,
        retry_at,
        ..stand
    };
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
