//! Looking through a database for what can't be so: after a restore, after a crash of a disk, before an upgrade.
//!
//! Everything is read in one transaction that only reads, on a connection of its own, so that what a server commits
//! meanwhile is all there or not at all, and nothing is changed. What is looked for are things that the code of this
//! crate never leaves behind. There are no foreign keys: what a row refers to is there because whoever writes it sees
//! to that, so what refers to nothing is damage.
//!
//! A step a file: what it reads, and apart from that what it makes of it.

mod accounts;
mod ask;
mod events;
mod facts;
mod files;
mod finding;
mod integrity;
mod moment;
mod positions;
mod purge;
mod rooms;
mod schema;
mod states;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Blob, Clock, OpenError, Result};
pub use facts::DatabaseFacts;
pub use finding::{Finding, Findings};
use moment::Moment;

/// What is looked at, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What the database says of itself.
    Integrity,
    /// Which migrations were applied.
    Schema,
    /// Rooms: where they stand, and who is in them.
    Rooms,
    /// The states of rooms.
    States,
    /// Events: what they say, and what they refer to.
    Events,
    /// Positions.
    Log,
    /// Accounts, and what belongs to users and rooms.
    Accounts,
    /// The rows of files. Where their bytes lie is for others to look at.
    Media,
    /// What is there only until it is next purged.
    Purge,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Integrity,
        Self::Schema,
        Self::Rooms,
        Self::States,
        Self::Events,
        Self::Log,
        Self::Accounts,
        Self::Media,
        Self::Purge,
    ];

    /// What operators know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integrity => "database",
            Self::Schema => "migrations",
            Self::Rooms => "rooms",
            Self::States => "states of rooms",
            Self::Events => "events",
            Self::Log => "log",
            Self::Accounts => "accounts",
            Self::Media => "files",
            Self::Purge => "what would be purged",
        }
    }
}

/// How to look.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// At all that there is, however long it takes; otherwise at what is newest of that of which there is most.
    pub thorough: bool,
    /// After what time devices are deleted that nobody uses, if they are.
    pub expire_devices_after: Option<Duration>,
    /// How long bytes of files stay that nothing refers to.
    pub media_grace: Duration,
    /// The time.
    pub clock: Clock,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            thorough: false,
            expire_devices_after: None,
            media_grace: Duration::from_hours(24),
            clock: Clock::system(),
        }
    }
}

/// How far a step is. Whoever started it may look at it meanwhile.
#[derive(Debug, Default)]
pub struct CheckProgress {
    done: AtomicU64,
    total: AtomicU64,
}

impl CheckProgress {
    /// How much is done, and of how much; of nothing while nobody knows.
    pub fn so_far(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Something begins that is done in so many parts.
    pub fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So many more of them are done.
    pub fn add(&self, done: usize) {
        self.done.fetch_add(done as u64, Ordering::Relaxed);
    }
}

/// A database that is looked through.
#[derive(Debug)]
pub struct Check {
    moment: Moment,
    options: CheckOptions,
}

impl Check {
    /// Opens a database to look through it. It must be there; nothing is changed, not even its schema.
    pub async fn open(url: &str, options: CheckOptions) -> Result<Self, OpenError> {
        let moment = Moment::open(url).await?;
        Ok(Self { moment, options })
    }

    /// Does a step. If one can't be finished, the next goes on with a later moment.
    pub async fn step(&mut self, step: Step, progress: &CheckProgress) -> Result<Findings> {
        let found = self.look_at(step, progress).await;
        if found.is_err() {
            // PostgreSQL says nothing more in a transaction in which a statement has failed.
            self.renew().await?;
        }
        found
    }

    async fn look_at(&mut self, step: Step, progress: &CheckProgress) -> Result<Findings> {
        let moment = &mut self.moment;
        let thorough = self.options.thorough;
        match step {
            Step::Integrity => integrity::check(moment, thorough, progress).await,
            Step::Schema => schema::check(moment).await,
            Step::Rooms => rooms::check(moment, progress).await,
            Step::States => states::check(moment, thorough, progress).await,
            Step::Events => events::check(moment, thorough, progress).await,
            Step::Log => positions::check(moment, thorough, progress).await,
            Step::Accounts => ask::all(moment, accounts::QUESTIONS, progress).await,
            Step::Media => ask::all(moment, files::QUESTIONS, progress).await,
            Step::Purge => purge::check(moment, &self.options, progress).await,
        }
    }

    /// From now on everything is as of now.
    pub async fn renew(&mut self) -> Result<()> {
        self.moment.renew().await
    }

    /// What the database says of itself; `None` if nothing of a server is in it.
    pub async fn facts(&mut self) -> Result<Option<DatabaseFacts>> {
        facts::read(&mut self.moment).await
    }

    /// Blobs that aren't being deleted, by key, after this one.
    pub async fn blobs(&mut self, after: &str, limit: usize) -> Result<Vec<Blob>> {
        files::blobs(&mut self.moment, after, limit).await
    }

    /// Those of these blobs that there are, also those that are being deleted, and whether they are.
    pub async fn known_blobs(&mut self, keys: &[&str]) -> Result<Vec<(Blob, bool)>> {
        files::known(&mut self.moment, keys).await
    }

    /// How many blobs aren't being deleted.
    pub async fn blob_count(&mut self) -> Result<u64> {
        files::count(&mut self.moment).await
    }

    /// The id that this database knows a store by.
    pub async fn media_store_id(&mut self, name: &str) -> Result<Option<String>> {
        files::store_id(&mut self.moment, name).await
    }

    /// Ends it.
    pub async fn close(self) {
        self.moment.close().await;
    }
}
