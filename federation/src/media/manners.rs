//! How other servers are treated: not too much at once, and not again and again when they aren't there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rhizome_storage::{Cache, millis, random};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Federation, outbound::OutboundError};

/// So many files of one server come at a time; others wait.
const AT_ONCE: usize = 64;
/// So long.
const QUEUE: Duration = Duration::from_secs(20);
/// Servers that didn't answer are left alone for a while: each who asks would wait as long to find that out. At first,
/// and at most.
const LEFT_ALONE: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(5)];
/// So many such servers are remembered.
const ABSENT: usize = 2_000;

/// What is known of servers that are asked for files.
#[derive(Debug)]
pub(crate) struct Manners {
    turns: Mutex<HashMap<OwnedServerName, Arc<Semaphore>>>,
    /// How often they have not answered, and until when (ms) they are left alone.
    absent: Cache<OwnedServerName, (u32, i64)>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            turns: Mutex::default(),
            absent: Cache::new(ABSENT),
        }
    }
}

/// A turn to fetch something, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[allow(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Manners {
    /// Waits for a turn to fetch a file of a server; `None` if that takes too long.
    pub(super) async fn turn(&self, server: &ServerName) -> Option<Turn> {
        let semaphore = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // As many as there are turns taken or waited for.
            turns.retain(|_, turns| Arc::strong_count(turns) > 1);
            turns
                .entry(server.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)))
                .clone()
        };
        let turn = tokio::time::timeout(QUEUE, semaphore.acquire_owned()).await;
        turn.ok()?.ok().map(Turn)
    }
}

/// Whether a server isn't asked for now, as it couldn't be reached lately. That it doesn't take what is sent to it says nothing
/// of its files.
pub(super) fn is_left_alone(fed: &Federation, server: &ServerName) -> bool {
    let now = fed.store().clock().now_ms();
    let absent = fed.manners().absent.get(server);
    absent.is_some_and(|(_, until)| now < until)
}

/// Remembers whether a server has answered.
pub(super) fn remember<T>(fed: &Federation, server: &ServerName, asked: &Result<T, OutboundError>) {
    let absent = &fed.manners().absent;
    match asked {
        Err(error) if error.is_unreachable() => {
            let failures = absent.get(server).map_or(0, |(failures, _)| failures) + 1;
            let [least, most] = LEFT_ALONE;
            let [jitter] = random::bytes().unwrap_or_default();
            let wait = crate::sender::backoff::wait(failures, least, most, jitter);
            let until = fed.store().clock().now_ms() + millis(wait);
            absent.insert(server.to_owned(), (failures, until));
        }
        _ => {
            if absent.get(server).is_some() {
                absent.remove(server);
            }
        }
    }
}
