//! One destination's work: gather, send, move the cursor, until there is nothing left or it fails.

use std::{sync::atomic::Ordering, time::Duration};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_storage::{DestinationState, Error, Pos, RoomNo, random};
use ruma::ServerName;
use serde_json::Value;

use super::{
    batch::{Batch, MAX_PDUS},
    gather::{Round, gather},
    latest, presence,
    queues::{Beside, Share},
    run::Run,
    standing::{failed, load, pass_over, reached, remember, settle},
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

/// Who hasn't answered by then is slow: it is waited for beside others that are.
const SLOW: Duration = Duration::from_secs(5);

/// Works until the destination is up to date or has failed, or it is the turn of others.
///
/// # Errors
/// The database failed.
pub(super) async fn deliver(fed: &Federation, to: &ServerName, share: Share) -> Result<(), Error> {
    let Some(stand) = begin(fed, to, share).await? else {
        return Ok(());
    };
    if (fed.config().servers)
        .configured(Direction::Out, to)
        .is_some()
    {
        pass_over(fed, to, stand);
        return Ok(());
    }
    let round = Round {
        run: fed.sender().take_run(to),
        probes: stand.failures > 0,
        ..Round::default()
    };
    let mut work = Work {
        fed,
        to,
        stand,
        round,
        id: nonce(),
        sent: 0,
        alone: false,
    };
    let outcome = work.all().await;
    fed.sender().keep_run(to, work.stand.sent, work.round.run);
    outcome
}

/// Where the destination stands as work on it begins; `None`: it isn't its turn.
async fn begin(
    fed: &Federation,
    to: &ServerName,
    share: Share,
) -> Result<Option<DestinationState>, Error> {
    let stand = load(fed, to).await?;
    // Read from the database just now: it may be for others.
    let is_its_turn = fed.sender().share(to) == share;
    let is_left_alone = stand.failures > 0 && stand.retry_at > fed.store().clock().now_ms();
    Ok((is_its_turn && !is_left_alone).then_some(stand))
}

/// What a task knows of its destination.
struct Work<'a> {
    fed: &'a Federation,
    to: &'a ServerName,
    stand: DestinationState,
    round: Round,
    /// Of these attempts, and how many transactions have arrived.
    id: String,
    sent: u64,
    /// Whether receipts and changes of devices weren't looked at.
    alone: bool,
}

impl Work<'_> {
    async fn all(&mut self) -> Result<(), Error> {
        let (fed, to) = (self.fed, self.to);
        loop {
            if fed.sender().state().stopping {
                return Ok(());
            }
            self.let_go();
            if !self.round.probes {
                let run = &mut self.round.run;
                self.stand = latest::go_on(fed, to, self.stand, run).await?;
            }
            let was_behind = self.round.run.behind().is_some();
            let batch = gather(fed, to, self.stand, &mut self.round).await?;
            let goes_on = if batch.is_empty() {
                self.nothing(&batch, was_behind)
            } else {
                match self.send(&batch).await {
                    Ok(Some(refused)) => self.arrived(&batch, &refused).await?,
                    Ok(None) => {
                        self.put_off(&batch);
                        false
                    }
                    Err(error) => self.refused(&batch, &error).await?,
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// What the operator has let go isn't sent, nor what a run has passed over of that.
    fn let_go(&mut self) {
        let upto = self.fed.sender().let_go_upto(self.to);
        if upto > self.stand.sent {
            self.stand.sent = upto;
            self.round.run = Run::default();
        }
    }

    /// There was nothing for this destination: worth knowing, not worth a write. Whether there may be yet.
    fn nothing(&mut self, batch: &Batch, was_behind: bool) -> bool {
        let has_probed = std::mem::take(&mut self.round.probes);
        let moved = batch.upto > self.stand.reached();
        if moved {
            self.stand = self.stand.moved(batch.upto);
            remember(self.fed, self.to, self.stand);
        }
        let is_sent = was_behind && self.round.run.behind().is_none();
        self.stand.runs() && (has_probed || moved || is_sent)
    }

    /// After success, of which these events weren't accepted. Whether to go on.
    async fn arrived(&mut self, batch: &Batch, refused: &[String]) -> Result<bool, Error> {
        let (fed, to) = (self.fed, self.to);
        self.sent += 1;
        let counts = &fed.sender().counts;
        counts.arrived.fetch_add(1, Ordering::Relaxed);
        let nowhere = batch.events.iter();
        let nowhere = nowhere.filter(|event| {
            let id = event.pdu.event_id();
            refused.iter().any(|refused| *refused == *id.as_str())
        });
        let nowhere: Vec<_> = nowhere.map(|event| event.room).collect();
        self.leads_nowhere(&nowhere, batch.upto).await?;
        self.round.told(batch);
        self.up_to(batch.upto);
        self.settled(None);
        if std::mem::take(&mut self.alone) {
            fed.sender().look_again(to, Beside::default());
        }
        if let Some((last, _)) = batch.to_device.last() {
            fed.sender().arrived(to, *last);
        }
        self.is_up().await?;
        let goes_on = fed.sender().goes_on(to);
        if !goes_on && self.stand.runs() {
            fed.sender().look_again_for_events(to);
        }
        Ok(goes_on)
    }

    /// The answer takes its time and isn't waited for: all of it goes again when it is its turn. It may have arrived, and then
    /// is known there.
    fn put_off(&self, batch: &Batch) {
        let (fed, to) = (self.fed, self.to);
        tracing::debug!(%to, "a destination is slow, and too many are: it is put off");
        presence::again(fed, to, batch);
        fed.sender().look_again(to, Beside::default());
    }

    /// After a failure. Whether to go on: the destination is up, and doesn't want what is in the transaction.
    async fn refused(&mut self, batch: &Batch, error: &OutboundError) -> Result<bool, Error> {
        let (fed, to) = (self.fed, self.to);
        let counts = &fed.sender().counts;
        if !refuses_content(error) {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            presence::again(fed, to, batch);
            failed(fed, to, self.stand, &self.round, error);
            return Ok(false);
        }
        counts.refused.fetch_add(1, Ordering::Relaxed);
        if batch.items() > 1 {
            tracing::info!(%to, %error, "a transaction was refused for what it holds: halved");
            self.settled(Some(batch.items() / 2));
            fed.sender().look_again(to, Beside::default());
        } else if batch.is_mixed() {
            tracing::info!(%to, %error, "a transaction was refused for what it holds: its one event or message goes alone");
            self.settled(Some(1));
            fed.sender().look_again(to, Beside::TO_DEVICE);
            self.alone = true;
        } else if batch.items() == 1 {
            self.alone = false;
            let nowhere: Vec<_> = batch.events.iter().map(|event| event.room).collect();
            let before = self.stand.reached();
            // What is before it goes first, and then it is tried once more.
            if !self.leads_nowhere(&nowhere, before).await? {
                let last = leave_out(to, batch, error);
                self.round.told(batch);
                self.up_to(last.max(before));
            }
            self.settled(None);
            fed.sender().look_again(to, Beside::default());
            self.is_up().await?;
        } else {
            failed(fed, to, self.stand, &self.round, error);
            return Ok(false);
        }
        Ok(true)
    }

    /// The destination hasn't taken events of these rooms in, with which, or before which, the run has come to `upto`.
    /// Whether something is sent for that.
    async fn leads_nowhere(&mut self, rooms: &[RoomNo], upto: Pos) -> Result<bool, Error> {
        if rooms.is_empty() || !self.stand.runs() {
            return Ok(false);
        }
        let (fed, to, run) = (self.fed, self.to, &mut self.round.run);
        latest::leads_nowhere(fed, to, (self.stand, upto), run, rooms).await
    }

    /// It is known to be up: what waits for it can be looked at closely.
    async fn is_up(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.round.probes) {
            self.stand = latest::decide(self.fed, self.to, self.stand).await?;
        }
        Ok(())
    }

    /// Up to date up to here.
    fn up_to(&mut self, sent: Pos) {
        self.stand = reached(self.fed, self.stand, sent);
    }

    /// After success, and after a refusal that lets us go on with fewer events at a time.
    fn settled(&self, limit: Option<usize>) {
        let written = self.round.run.written(self.stand);
        settle(self.fed, self.to, (self.stand, written), limit);
    }

    /// One transaction. Gives the ids of the events that weren't accepted; `None`: it is put off.
    async fn send(&self, batch: &Batch) -> Result<Option<Vec<String>>, OutboundError> {
        let (fed, to) = (self.fed, self.to);
        let id = batch.id(&format!("{}.{}", self.id, self.sent));
        let body = batch.body(fed.server_name(), fed.store().clock().now_ms());
        let mut sending = Box::pin(send(fed, to, &id, body));
        let quick = tokio::select! {
            biased;
            outcome = &mut sending => Some(outcome),
            () = fed.store().clock().sleep(SLOW) => None,
        };
        let Some(outcome) = quick else {
            return if fed.sender().is_slow(to) {
                sending.await.map(Some)
            } else {
                Ok(None)
            };
        };
        if outcome.is_ok() {
            fed.sender().was_quick(to);
        }
        outcome.map(Some)
    }
}

/// What stands alone in a transaction that is refused for what it holds isn't sent. Gives its position.
fn leave_out(to: &ServerName, batch: &Batch, error: &OutboundError) -> Pos {
    if let Some((_, event)) = batch.sticky.first() {
        let event_id = event.pdu.event_id();
        tracing::warn!(%to, event = %event_id, %error, "a sticky event was refused and is left out");
        return batch.upto;
    }
    if let Some((_, event)) = batch.passed_over.first() {
        let event_id = event.pdu.event_id();
        tracing::warn!(%to, event = %event_id, %error, "an event was refused and is left out");
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

/// `PUT /_matrix/federation/v1/send/{txnId}`. Gives the ids of the events that weren't accepted.
async fn send(
    fed: &Federation,
    to: &ServerName,
    id: &str,
    body: String,
) -> Result<Vec<String>, OutboundError> {
    let target = format!(
        "/_matrix/federation/v1/send/{}",
        utf8_percent_encode(id, NON_ALPHANUMERIC)
    );
    let answer = fed
        .outbound()
        .call_canonical(to, Method::PUT, &target, Some(body), LIMITS)
        .await?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| OutboundError::Answer(error.to_string()))?;
    let outcomes = answer
        .get("pdus")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let mut refused = Vec::new();
    for (event, outcome) in outcomes.take(MAX_PDUS) {
        if let Some(reason) = outcome.get("error").and_then(Value::as_str) {
            let reason: String = reason.chars().take(200).collect();
            tracing::info!(%to, %event, reason, "an event wasn't accepted");
            refused.push(event.clone());
        }
    }
    Ok(refused)
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

/// What tells one run of attempts from another.
fn nonce() -> String {
    // Without randomness, ids may repeat after a restart for the same content only.
    random::hex::<8>().unwrap_or_default()
}
