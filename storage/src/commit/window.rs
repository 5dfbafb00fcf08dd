//! Whom a group waits for.
//!
//! Who writes again and again, one write set after the other, comes again soon after the last one was written; those
//! that come together share a transaction. So a group waits a moment for as many as the last one had. Who writes alone
//! waits for nobody.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use super::Job;

/// How long at the most.
const WAIT: Duration = Duration::from_micros(250);

/// How many write sets the last group had.
#[derive(Debug, Default)]
pub(super) struct Window {
    last: usize,
}

impl Window {
    /// Adds what waits already to a group, up to `limit`, and then what comes in a moment, until there is as much as last
    /// time.
    pub(super) async fn fill(
        &mut self,
        group: &mut Vec<Job>,
        jobs: &mut Receiver<Job>,
        limit: usize,
    ) {
        // Whoever is about to send gets the chance to come along.
        tokio::task::yield_now().await;
        let mut until = None;
        while group.len() < limit {
            match jobs.try_recv() {
                Ok(next) => group.push(next),
                Err(TryRecvError::Empty) if group.len() < self.last => {
                    // The runtime's timer counts whole milliseconds; meanwhile its other tasks run.
                    let now = Instant::now();
                    if *until.get_or_insert(now + WAIT) <= now {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                Err(_) => break,
            }
        }
    }

    /// What became of it.
    pub(super) fn filled(&mut self, group: &[Job]) {
        self.last = group.len();
    }
}
