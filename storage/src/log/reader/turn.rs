//! A reader's turn: what it does while it has the lease.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::{Failure, LogReader, LogWork, Stretch, TICK, cursor};
use crate::{Lease, Pos, Result};

/// How long work that is under way may go on after the stop, so that it needn't be done again.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Whether to go on: the lease is ours, and nobody wants us to stop.
type GoOn = bool;

pub(super) struct Turn<'a, W> {
    reader: &'a LogReader<W>,
    lease: Lease,
    stop: &'a CancellationToken,
    /// Everything up to here is done,
    at: Pos,
    /// and this much of it is written down.
    saved: Pos,
    /// When to tick, by the store's monotonic time.
    due: Duration,
}

impl<'a, W: LogWork> Turn<'a, W> {
    pub(super) fn new(reader: &'a LogReader<W>, lease: Lease, stop: &'a CancellationToken) -> Self {
        Self {
            // Taking it may have taken longer than it lasts.
            due: lease.asked_at() + TICK,
            reader,
            lease,
            stop,
            at: Pos(0),
            saved: Pos(0),
        }
    }

    /// Reads until the lease is lost or the stop comes.
    pub(super) async fn read(&mut self, pace: &mut Pace) -> Result<(), Failure> {
        let log = self.reader.store.log();
        // Who read before us may have been further than we have heard of.
        log.refresh().await?;
        self.saved = cursor::load(&self.lease).await?;
        self.at = self.saved;
        let (reader, lease) = (self.reader, self.lease.clone());
        match self.during(reader.work.begin(&lease, self.saved)).await? {
            Some(at) => self.at = at,
            None => return Ok(()),
        }
        let readers = &self.reader.store.core.readers;
        let reached = readers.begin(&self.reader.name, self.at);
        let mut heads = log.subscribe();
        loop {
            let head = *heads.borrow_and_update();
            while self.at < head {
                if !self.stretch(head, pace).await? {
                    return Ok(());
                }
                reached.is(self.at);
            }
            if !self.wait(&mut heads).await? {
                return Ok(());
            }
        }
    }

    /// The next stretch, at most up to `head`.
    async fn stretch(&mut self, head: Pos, pace: &mut Pace) -> Result<GoOn, Failure> {
        let (reader, limit) = (self.reader, pace.limit());
        let entries = reader.store.log().read(self.at, head, limit).await?;
        let upto = match entries.last() {
            Some(last) if entries.len() >= limit => last.pos,
            _ => head,
        };
        let stretch = Stretch {
            entries,
            after: self.at,
            upto,
            failures: pace.failures_after(self.at),
        };
        match self.during(reader.work.work(&stretch)).await {
            Ok(Some(())) => {
                self.at = upto;
                pace.done();
            }
            Ok(None) => return Ok(false),
            Err(failure) => {
                pace.failed(stretch.after, stretch.entries.len());
                let (after, upto) = (stretch.after, stretch.upto);
                return Err(format!("after position {after}, up to {upto}: {failure}").into());
            }
        }
        let overdue = self.reader.store.clock().monotonic() >= self.due;
        if (overdue && !self.nothing_to_tell()) && !self.tick().await? {
            return Ok(false);
        }
        Ok(!self.stop.is_cancelled())
    }

    /// Waits until the log's head moves.
    async fn wait(&mut self, heads: &mut watch::Receiver<Pos>) -> Result<GoOn, Failure> {
        loop {
            tokio::select! {
                changed = heads.changed() => return Ok(changed.is_ok()),
                () = self.tick_is_due() => if !self.tick().await? {
                    return Ok(false);
                },
                () = self.stop.cancelled() => return Ok(false),
            }
        }
    }

    /// Lets the work do something, and keeps the lease meanwhile. A panic is a failure like others; `None` if
    /// it came to no end.
    async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        let stop = self.stop;
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        let mut stopped = pin!(async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        });
        loop {
            let due = self.due;
            // The work goes on meanwhile: it may hold what the tick waits for.
            let ticking = async {
                self.tick_is_due().await;
                self.tick().await
            };
            tokio::select! {
                biased;
                done = &mut work => {
                    // A tick that was cut off is due again.
                    self.due = due;
                    return match done {
                        Ok(done) => done.map(Some),
                        Err(panic) => Err(format!("it panicked: {}", said(&*panic)).into()),
                    };
                }
                () = &mut stopped => return Ok(None),
                goes_on = ticking => if !goes_on? {
                    return Ok(None);
                },
            }
        }
    }

    /// The cursor is where it was.
    fn is_saved(&self) -> bool {
        self.at == self.saved || !W::KEEPS_CURSOR
    }

    /// And nobody waits for a sign of us.
    fn nothing_to_tell(&self) -> bool {
        self.is_saved() && !self.reader.store.dialect().is_shared()
    }

    async fn tick_is_due(&self) {
        if self.nothing_to_tell() {
            return std::future::pending().await;
        }
        self.reader.store.clock().sleep_until(self.due).await;
    }

    /// Renews the lease and writes the cursor down.
    async fn tick(&mut self) -> Result<GoOn> {
        self.due = self.reader.store.clock().monotonic() + TICK;
        match self.lease.renew_in_time().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(
                    reader = self.lease.name(),
                    "a reader's lease was not renewed in time"
                );
                return Ok(false);
            }
            // There is time for another try.
            Err(error) if self.lease.held() => {
                tracing::warn!(reader = self.lease.name(), %error, "a lease can't be renewed");
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        self.save().await
    }

    async fn save(&mut self) -> Result<GoOn> {
        let at = self.at;
        if !self.is_saved() && !cursor::save(&self.lease, at).await? {
            return Ok(false);
        }
        self.saved = at;
        Ok(true)
    }

    /// Writes the cursor down, where it is still ours, and gives the lease back.
    pub(super) async fn end(mut self) -> Result<()> {
        let saved = self.save().await;
        self.lease.release().await?;
        saved.map(|_| ())
    }
}

/// What somebody said who panicked.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "without words"
    }
}
