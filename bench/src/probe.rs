//! CPU time between two moments: of the servers, of their database, and of this tool.

use std::time::{Duration, Instant};

use crate::process::{self, Memory};

/// Whose CPU time and memory are read.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// The first server's process.
    pub one: Option<u32>,
    /// The second server's process.
    pub two: Option<u32>,
    /// Whether the second server's CPU time counts.
    pub federated: bool,
    /// The database's first process, if it isn't part of the servers.
    pub database: Option<u32>,
}

/// CPU times so far.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    server: Option<Duration>,
    database: Option<Duration>,
    own: Duration,
}

/// What was used between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on the clock.
    pub wall: Duration,
    /// CPU of the servers; `None` if no process is known.
    pub server: Option<Duration>,
    /// CPU of the database.
    pub database: Option<Duration>,
    /// CPU of this tool.
    pub own: Duration,
}

impl Probe {
    /// Reads the CPU times.
    pub fn read(&self) -> anyhow::Result<Reading> {
        let known = |roots: &[u32]| match roots {
            [] => Ok(None),
            roots => process::cpu(roots).map(Some),
        };
        let second = self.two.filter(|_| self.federated);
        let servers: Vec<u32> = self.one.into_iter().chain(second).collect();
        Ok(Reading {
            server: known(&servers)?,
            database: known(self.database.as_slice())?,
            own: process::cpu(&[std::process::id()])?,
            at: Instant::now(),
        })
    }

    /// What was used since `before`.
    pub fn since(&self, before: Reading) -> anyhow::Result<Usage> {
        let now = self.read()?;
        let used = |now: Option<Duration>, before: Option<Duration>| {
            Some(now?.saturating_sub(before.unwrap_or_default()))
        };
        Ok(Usage {
            wall: now.at - before.at,
            server: used(now.server, before.server),
            database: used(now.database, before.database),
            own: now.own.saturating_sub(before.own),
        })
    }

    /// The first server's memory, if its process is known.
    pub fn memory(&self) -> anyhow::Result<Option<Memory>> {
        self.one.map(|root| process::memory(&[root])).transpose()
    }
}
