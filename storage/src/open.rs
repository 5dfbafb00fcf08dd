//! Opening and closing a store, and the tasks of its own.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::accounts::backup::Turn;
use crate::accounts::user_limits::UserLimits;
use crate::commit::{self, Job};
use crate::engine::blocks::Blocks;
use crate::engine::cache::Cache;
use crate::engine::clock::Clock;
use crate::engine::counters::Counters;
use crate::engine::database::Database;
use crate::engine::epoch::Epoch;
use crate::engine::options::{CrashAt, LostAnswer, Options};
use crate::engine::sql::{Columns as _, Query};
use crate::facts::delayed::wake::DelayedWake;
use crate::log::ephemeral::Ephemeral;
use crate::log::positions::{Positions, ProcessId};
use crate::log::presence::{self, Presence};
use crate::log::reader::progress::Progress;
use crate::log::tail::Tail;
use crate::log::{Log, bus};
use crate::{Caches, Core, Dialect, Error, OpenError, Store, random};

impl Caches {
    /// Shares of half of `memory`, in bytes; each cache counts in what its values are made of, of which it is said how large one is.
    fn new(memory: usize) -> Self {
        fn share<K: Hash + Eq + Clone, V: Clone>(bytes: usize, each: usize) -> Cache<K, V> {
            Cache::new((bytes / each).max(LEAST))
        }
        let (large, middle, small) = (memory / 32, memory / 64, memory / 256);
        Self {
            // In bytes, as events are.
            events: Cache::new(memory / 8),
            event_ids: share(middle, NAMED),
            rooms: Cache::new((small / 500).max(1_000)),
            room_ids: share(small, NAMED),
            room_names: share(small, NAMED),
            users: share(middle, NAMED),
            user_names: share(middle, NAMED),
            servers: share(small, NAMED),
            server_names: share(small, NAMED),
            keys: share(middle, NAMED),
            key_names: share(middle, NAMED),
            // In nodes.
            snapshots: share(large, 300),
            pending: Mutex::default(),
            // In rows.
            memberships: share(middle, 80),
            // In names.
            joined_servers: share(small, 60),
            sets: share(small, 60),
            auth: share(middle, 150),
            gapless: share(small, 80),
            // In kibibytes.
            summaries: Cache::new((large / 1_024).max(1_000)),
            summary_keys: OnceCell::new(),
            erasures: Mutex::default(),
            blocks: Mutex::default(),
            delivery: Mutex::default(),
            // In devices.
            key_counts: share(middle, 150),
            // In quarters of a KiB.
            notifying: share(middle, 256),
            // In threads and who follows them.
            followers: share(small, 60),
        }
    }
}

/// A large room's members, servers and states have to fit.
const LEAST: usize = 10_000;
/// What a name and its number take.
const NAMED: usize = 160;

impl Store {
    /// Opens the database, brings its schema up to date and starts the store's own tasks (the commit
    /// queue, the poll for other processes, the end of typing, presence).
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let dialect = Dialect::of(&options.url).ok_or(OpenError::Url)?;
        let database = Box::pin(Database::open(&options, dialect)).await?;
        let epoch = Epoch::load(&database, dialect).await?;
        let head = load_head(&database, dialect).await?;
        let user_limits = UserLimits::load(&database, dialect).await?;
        let (queue, jobs) = mpsc::channel(1_024);
        // A later life of the process goes on above all positions of an earlier one, so that a token from then misses
        // nothing.
        let positions = Positions::new(process_id(dialect)?, options.clock.now_ms());
        let closing = CancellationToken::new();
        let with_core = closing.child_token();
        let core = Arc::new(Core {
            dialect,
            database,
            epoch: Mutex::new(epoch),
            counters: Counters::new(options.timed),
            blocks: Blocks::default(),
            tail: Tail::new(head, options.tail_entries, options.memory / 8),
            positions: positions.clone(),
            ephemeral: Ephemeral::new(options.clock.clone(), positions.clone()),
            presence: Arc::new(Presence::new(options.clock.clone(), positions)),
            caches: Caches::new(options.memory),
            readers: Progress::default(),
            groups_done: AtomicU64::new(0),
            unwritable: AtomicBool::new(false),
            haste: commit::Haste::default(),
            backups_gone: Notify::new(),
            tasks_added: Notify::new(),
            appservice_reloads: watch::Sender::new(0),
            user_limits,
            delayed: DelayedWake::default(),
            people: watch::Sender::new(None),
            backup_turn: Turn::default(),
            closing,
            _alive: with_core.clone().drop_guard(),
            queue_ended: CancellationToken::new(),
            options,
        });
        let own = Self {
            core: core.clone(),
            queue: None,
        };
        bus::spawn(&own, &with_core);
        tokio::spawn(commit::run(own, jobs, core.queue_ended.clone()));
        spawn_poll(&core);
        spawn_typing(&core);
        presence::spawn(&core, &with_core);
        Ok(Self {
            core,
            queue: Some(queue),
        })
    }

    /// The log.
    pub fn log(&self) -> Log {
        Log {
            store: self.clone(),
        }
    }

    /// Typing.
    pub fn ephemeral(&self) -> &Ephemeral {
        &self.core.ephemeral
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.core.options.clock
    }

    /// How it was opened.
    pub fn options(&self) -> &Options {
        &self.core.options
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        self.core.dialect
    }

    /// Whether other processes may write to the same database.
    pub fn is_shared(&self) -> bool {
        self.core.dialect.is_shared()
    }

    /// Lets what is queued finish, then closes every connection. Later calls fail.
    pub async fn close(&self) {
        self.core.closing.cancel();
        self.core.queue_ended.cancelled().await;
        self.core.database.close().await;
    }

    /// Resolves when the commit queue has ended: after [`Store::close`], or because it failed, in
    /// which case nothing can be written any more and the process should end.
    pub async fn queue_ended(&self) {
        self.core.queue_ended.cancelled().await;
    }

    pub(crate) fn queue(&self) -> Option<&mpsc::Sender<Job>> {
        self.queue.as_ref()
    }

    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.core.closing
    }

    /// What a test wants to become of the next COMMIT, if anything special.
    pub(crate) fn next_lost_answer(&self) -> Option<LostAnswer> {
        crate::engine::lock(&self.core.options.lost_answers).pop()
    }

    /// Ends the process if this is the place and the time that a test asked for.
    pub(crate) fn crash_if(&self, at: CrashAt) {
        if let Some(point) = self.core.options.crash_point
            && point.at == at
            && self.core.groups_done.load(Ordering::Relaxed) >= point.after
        {
            tracing::error!(?at, "crash point reached");
            std::process::abort();
        }
    }
}

/// A name for this life of the process, if there may be others beside it.
fn process_id(dialect: Dialect) -> Result<ProcessId, OpenError> {
    if !dialect.is_shared() {
        return Ok(ProcessId::ONLY);
    }
    let number = u32::from_be_bytes(random::bytes::<4>()?);
    Ok(ProcessId(number.max(1)))
}

async fn load_head(database: &Database, dialect: Dialect) -> Result<crate::Pos, OpenError> {
    let query = Query::new(dialect, "SELECT pos FROM counter WHERE id = 1");
    let row = database.row(query).await?;
    let row = row.ok_or_else(|| Error::broken("the counter is gone"))?;
    Ok(row.get("pos")?)
}

/// Asks now and then what other processes have committed.
fn spawn_poll(core: &Arc<Core>) {
    let default = core
        .dialect
        .is_shared()
        .then_some(Duration::from_millis(100));
    let asks = core.options.poll_interval.or(default);
    let Some(interval) = asks.or(core.options.outside_interval) else {
        return;
    };
    let weak = Arc::downgrade(core);
    let closing = core.closing.clone();
    tokio::spawn(async move {
        while closing
            .run_until_cancelled(tokio::time::sleep(interval))
            .await
            .is_some()
        {
            let Some(core) = weak.upgrade() else { return };
            let log = Log {
                store: Store { core, queue: None },
            };
            if let Err(error) = log.poll().await {
                tracing::warn!(%error, "can't read the log's head");
            }
        }
    });
}

/// Ends typing when its time is over.
fn spawn_typing(core: &Arc<Core>) {
    let weak = Arc::downgrade(core);
    let closing = core.closing.clone();
    let clock = core.options.clock.clone();
    tokio::spawn(async move {
        let tick = Duration::from_millis(500);
        while closing
            .run_until_cancelled(clock.sleep(tick))
            .await
            .is_some()
        {
            let Some(core) = weak.upgrade() else { return };
            let rooms = core.ephemeral.expire();
            core.tail.wake_rooms(&rooms, &core.counters);
        }
    });
}
