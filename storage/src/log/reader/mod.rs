//! Readers of the log: what follows it and does something with what stands there, now or later, in this
//! process or another.
//!
//! A reader has a name, a durable cursor, and a lease: of the processes on one database, one reads. It gets
//! the log from its cursor on, in stretches and in order; the cursor moves when a stretch is done, so catching
//! up and normal work are the same. It is written down every so often and at the end; after a crash, what was
//! done since comes again. A reader that is to be spread over processes is several, with a shard in the name.
//!
//! What a reader writes carries its lease's fence, so that a process that was frozen, and lost the lease to
//! another without knowing, writes nothing: its cursor ([`cursor`]) does, and work that has rows of its own
//! checks [`Lease::hold`] where it writes them.
//!
//! A reader whose work fails or panics gives its lease back and begins again after a pause, so that a process
//! in which it can't work leaves it to one in which it can. Of a stretch that fails it takes half next time,
//! until what it fails at stands alone: all before it is done by then, and the failure names it. The work is
//! told how often it has failed there ([`Stretch::failures`]), and may leave out what it can't take.
//!
//! An idle reader waits for the log's head. Only where there are other processes it says every so often that
//! it is still there.

mod cursor;
mod pace;
pub(crate) mod progress;
mod turn;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use self::cursor::stands_at;
use self::pace::Pace;
use self::turn::Turn;
use crate::{Entry, Lease, Pos, Store};

/// How long a lease lasts without renewal.
const LENGTH: Duration = Duration::from_secs(6);
/// How often it is renewed or asked for, and the cursor written down.
const TICK: Duration = Duration::from_secs(2);

/// Why a reader's work failed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What a reader does.
pub trait LogWork: Send + Sync {
    /// Whether it is written down how far the work has come: not, where [`LogWork::begin`] has no use for it.
    const KEEPS_CURSOR: bool = true;

    /// This process is the one that reads, from now on until the lease is lost. The log is done up to `done`,
    /// maybe by another process; 0 at first. Gives from where to go on: who has cursors of their own for
    /// what they tell others may go on from the head.
    fn begin(
        &self,
        _lease: &Lease,
        done: Pos,
    ) -> impl Future<Output = Result<Pos, Failure>> + Send {
        async move { Ok(done) }
    }

    /// Does what is to be done for a stretch of the log. If it fails, the same comes again; what it has
    /// done until then it must be able to do twice.
    fn work(&self, stretch: &Stretch) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A stretch of the log.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// What stands in it; facts that have moved on come later.
    pub entries: Vec<Arc<Entry>>,
    /// It begins after this position,
    pub after: Pos,
    /// and goes up to this one.
    pub upto: Pos,
    /// How often a stretch that begins here has failed before.
    pub failures: u32,
}

/// A reader of the log.
#[derive(Debug)]
pub struct LogReader<W> {
    store: Store,
    name: String,
    work: W,
}

impl<W: LogWork> LogReader<W> {
    /// A reader that does this work. The name is that of its lease and its cursor.
    pub fn new(store: &Store, name: impl Into<String>, work: W) -> Self {
        Self {
            store: store.clone(),
            name: name.into(),
            work,
        }
    }

    /// Reads until `stop`, whenever this process has the lease. What fails is logged, counted and tried again.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut pace = Pace::default();
        while !stop.is_cancelled() {
            let Err(failure) = self.turn(&mut pace, stop).await else {
                continue;
            };
            let pause = pace.pause();
            self.store.counters().reader_failures(1);
            tracing::error!(
                reader = self.name,
                ?pause,
                "a reader of the log failed: {failure}; it begins again"
            );
            stop.run_until_cancelled(self.store.clock().sleep(pause))
                .await;
        }
    }

    /// From taking the lease to losing it, or to `stop`.
    async fn turn(&self, pace: &mut Pace, stop: &CancellationToken) -> Result<(), Failure> {
        let Some(lease) = self.lease(stop).await? else {
            return Ok(());
        };
        tracing::debug!(reader = self.name, "this process reads the log");
        let mut turn = Turn::new(self, lease, stop);
        let ended = turn.read(pace).await;
        // One that fails, and that no other process takes over, stays where it is.
        if ended.is_ok() || self.store.is_shared() {
            self.store.core.readers.end(&self.name);
        }
        if let Err(error) = turn.end().await {
            tracing::warn!(reader = self.name, %error, "a reader's end can't be written down");
        }
        tracing::debug!(reader = self.name, "this process reads the log no longer");
        ended
    }

    /// Waits for the lease; `None` when it is to stop.
    async fn lease(&self, stop: &CancellationToken) -> Result<Option<Lease>, Failure> {
        let length = self.store.dialect().is_shared().then_some(LENGTH);
        loop {
            let lease = Lease::take(&self.store, &self.name, length).await?;
            if lease.is_some() {
                return Ok(lease);
            }
            let wait = self.store.clock().sleep(TICK);
            if stop.run_until_cancelled(wait).await.is_none() {
                return Ok(None);
            }
        }
    }
}
