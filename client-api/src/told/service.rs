//! Telling one service: one transaction after the other, each until it is acknowledged.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use rhizome_appservice::Registration;
use rhizome_storage::{
    Acknowledged, Lease, NewServiceTransaction, Pos, ServiceFailure, ServicePlace, ServiceStep,
    ServiceTransaction, random,
};
use tokio_util::sync::CancellationToken;

use super::{
    gather::{Gather, Gathered},
    queue::Queue,
    write,
};
use crate::{App, MatrixError};

/// How long a service may take for a transaction: it answers when it has done what there is to do.
const PATIENCE: Duration = Duration::from_mins(1);
/// The first pause after a failure; each is twice as long as the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A service to which one thing comes after the other gets all that comes within so long in one transaction.
const TOGETHER: Duration = Duration::from_millis(15);
/// The most bytes of an answer, of which only the status counts.
const ANSWER: usize = 4 << 10;
/// The most characters that are kept of why it failed.
const MAX_ERROR: usize = 300;
/// What a transaction that was under way when the server stops has left to be acknowledged: else it comes again.
const GRACE: Duration = Duration::from_secs(3);

/// A service that is being told.
pub struct Telling {
    pub app: App,
    pub service: Arc<Registration>,
    pub queue: Arc<Queue>,
    pub lease: Lease,
    pub stop: CancellationToken,
}

/// Where it stands.
struct Standing {
    /// Everything up to here was told and acknowledged.
    at: Pos,
    /// The number of the last transaction.
    txn: i64,
    failures: u32,
    failing_since_ms: i64,
    next_ms: i64,
    /// When the last transaction went out, if nothing more was to be told then.
    sent: Option<Instant>,
    /// Whether there was.
    more: bool,
    /// That is to be written down: the messages to devices that the last transaction had.
    acknowledged: Option<Vec<Pos>>,
}

/// What has become of trying to send something.
enum Sent {
    /// It was acknowledged.
    Acknowledged,
    /// It isn't for this task, or this process, to send it any more, or not now.
    Left,
}

impl Telling {
    /// Tells the service until `stop`, or until the lease is another's. `place`: where it stands.
    ///
    /// # Errors
    /// The database's; begin anew then.
    pub async fn run(&self, place: ServicePlace) -> Result<(), MatrixError> {
        let store = &self.app.store;
        let mut standing = Standing {
            at: place.pos,
            txn: place.txn,
            failures: place.failures,
            failing_since_ms: place.failing_since_ms,
            next_ms: place.next_ms,
            sent: None,
            more: false,
            acknowledged: None,
        };
        self.queue.deafen(standing.failures > 0);
        let here = &self.app.config.server_name;
        let mut gather = Gather::new(store, &self.service, here, &self.queue);
        let mut waiting = store.service_transaction(&self.service.id).await?;
        while self.goes_on() {
            self.queue.works();
            if let Some(transaction) = &waiting {
                if self.queue.is_paused() {
                    self.rest().await;
                } else if let Sent::Acknowledged = self.deliver(transaction, &mut standing).await? {
                    standing.at = transaction.upto;
                    standing.acknowledged = Some(transaction.taken.clone());
                    waiting = None;
                }
                continue;
            }
            if self.queue.is_paused() {
                self.write_down(&mut standing).await?;
                self.rest().await;
                continue;
            }
            if self.waits_for_more(&mut standing).await {
                continue;
            }
            let gathered = gather.next(standing.at).await?;
            waiting = self.put_together(gathered, &mut standing).await?;
        }
        self.write_down(&mut standing).await
    }

    /// Waits a little if the last transaction went out just now, unless more was there already. So what comes meanwhile is
    /// written down and sent at once, with what was acknowledged. Whether it did wait: the operator may have paused the
    /// service meanwhile.
    async fn waits_for_more(&self, standing: &mut Standing) -> bool {
        let Some(sent) = standing.sent.take() else {
            return false;
        };
        let Some(left) = TOGETHER.checked_sub(sent.elapsed()) else {
            return false;
        };
        let waits = tokio::time::sleep(left);
        self.stop.run_until_cancelled(waits).await;
        true
    }

    /// The next transaction, written down, if there is anything to tell; otherwise waits until there may be.
    async fn put_together(
        &self,
        gathered: Gathered,
        standing: &mut Standing,
    ) -> Result<Option<ServiceTransaction>, MatrixError> {
        let (upto, more) = (gathered.upto, gathered.more);
        let mut body = None;
        let mut taken = Vec::new();
        if !gathered.batch.is_empty() {
            taken = self.taken(&gathered).await?;
            body = write::body(&self.app.store, &self.service, gathered.batch).await?;
        }
        let Some(content) = body else {
            let went = upto.0 - standing.at.0 > 0 && more;
            standing.at = upto;
            if standing.acknowledged.is_some() || went {
                self.step(standing, None).await?;
            }
            if !more && self.queue.rests() {
                self.rest().await;
            }
            return Ok(None);
        };
        standing.more = more;
        let txn = standing.txn + 1;
        let next = NewServiceTransaction {
            txn,
            upto,
            content: &content,
            taken: &taken,
        };
        self.step(standing, Some(next)).await?;
        standing.txn = txn;
        Ok(Some(ServiceTransaction {
            txn,
            upto,
            content,
            taken,
        }))
    }

    /// Which messages to devices go with a transaction: those of users who are the service's alone, if it takes them from
    /// transactions, and not from `/sync` (MSC4203, "when to delete a to-device message").
    async fn taken(&self, gathered: &Gathered) -> Result<Vec<Pos>, MatrixError> {
        let mut taken = Vec::new();
        if !self.service.msc3202 {
            return Ok(taken);
        }
        for (pos, user) in gathered.batch.messages() {
            let user = self.app.store.user(user).await?;
            if self.service.exclusively_owns_user(user.as_str()) {
                taken.push(pos);
            }
        }
        Ok(taken)
    }

    /// Writes down what was acknowledged, and what comes next.
    async fn step(
        &self,
        standing: &mut Standing,
        next: Option<NewServiceTransaction<'_>>,
    ) -> Result<(), MatrixError> {
        let store = &self.app.store;
        let at_ms = store.clock().now_ms();
        let acknowledged = standing.acknowledged.take();
        let step = ServiceStep {
            id: &self.service.id,
            pos: standing.at,
            acknowledged: (acknowledged.as_deref()).map(|taken| Acknowledged { at_ms, taken }),
            next,
        };
        if store.step_service(&self.lease, step).await? {
            return Ok(());
        }
        self.stop.cancel();
        Ok(())
    }

    async fn write_down(&self, standing: &mut Standing) -> Result<(), MatrixError> {
        if standing.acknowledged.is_none() {
            return Ok(());
        }
        self.step(standing, None).await
    }

    /// Whether this task is to tell the service.
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() && self.lease.held()
    }

    /// Waits until something has come.
    async fn rest(&self) {
        self.stop.run_until_cancelled(self.queue.rung()).await;
    }

    /// Sends a transaction, again and again, until it is acknowledged.
    async fn deliver(
        &self,
        transaction: &ServiceTransaction,
        standing: &mut Standing,
    ) -> Result<Sent, MatrixError> {
        let body = Bytes::from(transaction.content.clone());
        while self.goes_on() && !self.queue.is_paused() {
            // While it waited, the lease may have become another's, who is further by now.
            if !self.is_due(standing).await || !self.goes_on() {
                continue;
            }
            standing.sent = (!standing.more).then(Instant::now);
            let Some(answer) = self.put(transaction.txn, body.clone()).await else {
                return Ok(Sent::Left);
            };
            let counts = &self.app.counts;
            let Err(why) = answer else {
                counts.service_transactions.fetch_add(1, Ordering::Relaxed);
                if standing.failures > 0 {
                    tracing::info!(
                        service = self.service.id,
                        "an application service takes transactions again"
                    );
                }
                (standing.failures, standing.failing_since_ms) = (0, 0);
                self.queue.deafen(false);
                return Ok(Sent::Acknowledged);
            };
            counts.service_failures.fetch_add(1, Ordering::Relaxed);
            self.failed(standing, &why).await?;
        }
        Ok(Sent::Left)
    }

    /// Waits until a service that failed is to be tried again. `false`: something has come, so that it is to be looked again.
    async fn is_due(&self, standing: &Standing) -> bool {
        if standing.failures == 0 || self.queue.tries() {
            return true;
        }
        let clock = self.app.store.clock();
        let left = standing.next_ms.saturating_sub(clock.now_ms());
        let Ok(left) = u64::try_from(left) else {
            return true;
        };
        if left == 0 {
            return true;
        }
        // However the clock was set meanwhile.
        let left = Duration::from_millis(left).min(2 * LONGEST_PAUSE);
        tokio::select! {
            () = clock.sleep(left) => true,
            () = self.queue.rung() => false,
            () = self.stop.cancelled() => false,
        }
    }

    /// `PUT /_matrix/app/v1/transactions/{txnId}`; `None` if it is to stop.
    async fn put(&self, txn: i64, body: Bytes) -> Option<Result<(), String>> {
        let txn = txn.to_string();
        let path = ["_matrix", "app", "v1", "transactions", &txn];
        let client = self.app.federation.service_client();
        let answer = client.put(&self.service, &path, body, (PATIENCE, ANSWER));
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            answer = answer => Some(match answer {
                Ok(answer) if answer.status == StatusCode::OK => Ok(()),
                Ok(answer) => Err(format!("it answers {}", answer.status)),
                Err(error) => Err(error.to_string()),
            }),
            () = stopped => None,
        }
    }

    async fn failed(&self, standing: &mut Standing, why: &str) -> Result<(), MatrixError> {
        let store = &self.app.store;
        let now_ms = store.clock().now_ms();
        standing.failures = standing.failures.saturating_add(1);
        if standing.failing_since_ms == 0 {
            standing.failing_since_ms = now_ms;
        }
        let [random] = random::bytes::<1>().unwrap_or_default();
        let pause = pause(standing.failures, random);
        let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        standing.next_ms = now_ms.saturating_add(pause_ms);
        self.queue.deafen(true);
        let error: String = why.chars().take(MAX_ERROR).collect();
        let (service, failures) = (&self.service.id, standing.failures);
        if failures == 1 {
            tracing::warn!(
                service,
                error,
                ?pause,
                "an application service doesn't take a transaction; it is tried again until it does"
            );
        } else {
            tracing::debug!(
                service,
                error,
                failures,
                ?pause,
                "an application service doesn't take a transaction"
            );
        }
        let failure = ServiceFailure {
            failures,
            since_ms: standing.failing_since_ms,
            next_ms: standing.next_ms,
            error: &error,
        };
        if !store.service_failed(&self.lease, service, failure).await? {
            self.stop.cancel();
        }
        Ok(())
    }
}

/// How long to wait after so many failures in a row: twice as long each time, moved by up to a fifth either way, so that
/// services that failed together don't come back together. `random`: any byte.
fn pause(failures: u32, random: u8) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let moved = 0.8 + 0.4 * f64::from(random) / 255.0;
    doubled.min(LONGEST_PAUSE).mul_f64(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_some_minutes() {
        let pauses = [1, 2, 3, 9, 10, 1_000].map(|failures| pause(failures, 127).as_secs());
        assert_eq!(pauses, [0, 1, 3, 255, 299, 299]);
        assert_eq!(pause(1, 0), Duration::from_millis(800));
        assert_eq!(pause(1, 255), Duration::from_millis(1_200));
    }
}
