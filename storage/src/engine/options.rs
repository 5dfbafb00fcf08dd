//! How to open a store, and the places at which tests break it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Clock;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite:path` or `postgres://…`.
    pub url: String,
    /// How many connections at most, readers and writers together.
    pub max_connections: u32,
    /// The time.
    pub clock: Clock,
    /// How often to ask what other processes have committed. `None` is the dialect's default: 100 ms on
    /// PostgreSQL, and whenever another process says that it has, never on SQLite, where there are no others.
    pub poll_interval: Option<Duration>,
    /// How often a database that one server has to itself is asked what the operator's commands have written beside it;
    /// `None`: never. No request asks for it.
    pub outside_interval: Option<Duration>,
    /// How many bytes the process is to take, about: caches and the log's tail have half of it together, SQLite's pages a
    /// quarter or so.
    pub memory: usize,
    /// How many of the log's last entries stay in memory.
    pub tail_entries: usize,
    /// How many write sets one transaction takes at most.
    pub group_limit: usize,
    /// Who is there.
    pub presence: PresenceOptions,
    /// Whether it is measured how long things take ([`crate::Timings`]).
    pub timed: bool,
    /// For tests that are about something else: `false` means that what is committed need not outlive the
    /// machine. Only the feature `testing` has it, so that no server can be told so.
    #[cfg(any(test, feature = "testing"))]
    pub durable: bool,
    /// For tests: where to end the process.
    pub crash_point: Option<CrashPoint>,
    /// For tests: COMMITs whose answer gets lost, in this order. Shared by clones of the options.
    pub lost_answers: Arc<Mutex<Vec<LostAnswer>>>,
}

impl Options {
    /// What [`Options::memory`] is if nobody says otherwise.
    pub const MEMORY: usize = 256 << 20;

    /// The defaults with this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 16,
            clock: Clock::system(),
            poll_interval: None,
            outside_interval: None,
            memory: Self::MEMORY,
            tail_entries: 20_000,
            group_limit: 256,
            presence: PresenceOptions::default(),
            timed: false,
            #[cfg(any(test, feature = "testing"))]
            durable: true,
            crash_point: None,
            lost_answers: Arc::default(),
        }
    }

    /// Whether what is committed must outlive the machine.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether what is committed must outlive the machine.
    #[cfg(not(any(test, feature = "testing")))]
    #[expect(clippy::unused_self, reason = "tests may decide otherwise")]
    pub(crate) fn is_durable(&self) -> bool {
        true
    }
}

/// Whether it matters who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceOptions {
    /// `false`: nothing is noted, and nobody is told anything.
    pub enabled: bool,
    /// In rooms with more members than this nobody is to be seen.
    pub max_room_size: usize,
}

/// Off: who wants it says so.
impl Default for PresenceOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            max_room_size: 500,
        }
    }
}

/// A place in the commit at which the process ends at once, as if its machine had lost power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// Where.
    pub at: CrashAt,
    /// After how many groups that got there unharmed.
    pub after: u64,
}

/// What really became of a COMMIT that didn't answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostAnswer {
    /// It is durable.
    Committed,
    /// Nothing is.
    RolledBack,
}

/// Where a process may end itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashAt {
    /// Everything is written, COMMIT is not sent.
    BeforeCommit,
    /// COMMIT has returned; nobody knows.
    AfterCommit,
    /// The tail has the entries and readers were woken; the senders have no answer.
    BeforeAnswer,
}

impl std::str::FromStr for CrashPoint {
    type Err = String;

    /// `before-commit`, `after-commit` or `before-answer`, with `:N` to let N groups pass.
    fn from_str(text: &str) -> Result<Self, String> {
        let (at, after) = text.split_once(':').unwrap_or((text, "0"));
        let at = match at {
            "before-commit" => CrashAt::BeforeCommit,
            "after-commit" => CrashAt::AfterCommit,
            "before-answer" => CrashAt::BeforeAnswer,
            _ => {
                return Err(format!(
                    "{at:?} is none of before-commit, after-commit, before-answer"
                ));
            }
        };
        let after = after
            .parse()
            .map_err(|_| format!("{after:?} is not a number of commits"))?;
        Ok(Self { at, after })
    }
}
