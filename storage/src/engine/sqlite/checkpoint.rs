//! Taking SQLite's write-ahead log into the file, beside whoever writes: it means to write many pages to random places and to
//! wait for the disk, for which no commit should wait.
//!
//! While much is written one after the other the log never is taken in whole, and only then it begins anew; so beyond a length
//! the thread that writes sees to the rest, which isn't much by then.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::lane::Lane;
use super::opening::{Care, Opening};

/// After so many pages more the log is taken in, …
const PAGES: u32 = 2_000;
/// … and from so many on by the thread that writes.
const MOST_PAGES: u32 = 8_000;

thread_local! {
    /// How many pages the log has since the last commit of this thread's connection; 0: there was none.
    static LOG: Cell<u32> = const { Cell::new(0) };
}

/// The thread that takes the log in, as one that writes sees that it is time.
#[derive(Debug)]
pub(super) struct Checkpoints {
    lane: Lane,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    running: AtomicBool,
    /// How long the log was when it was last asked for.
    asked: AtomicU32,
}

#[expect(clippy::unnecessary_wraps, reason = "SQLite wants to know")]
fn note(_: &Wal, pages: c_int) -> rusqlite::Result<()> {
    LOG.set(u32::try_from(pages).unwrap_or_default());
    Ok(())
}

impl Care for Checkpoints {
    fn opened(&self, connection: &Connection) {
        connection.wal_hook(Some(note));
    }

    fn done(&self, connection: &Connection) {
        let pages = LOG.take();
        if pages >= MOST_PAGES {
            take_in(connection);
            self.state.asked.store(0, Ordering::Relaxed);
        } else if self.state.is_due(pages) {
            let state = self.state.clone();
            // A store that is being closed takes in the log as its last connection goes.
            let _ = self.lane.give(Box::new(move |connection| {
                if let Ok(connection) = connection {
                    take_in(connection);
                }
                state.running.store(false, Ordering::Release);
            }));
        }
    }
}

impl Checkpoints {
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            lane: Lane::new("sqlite-log", 1, opening),
            state: Arc::default(),
        }
    }

    pub(super) async fn close(&self) {
        self.lane.close().await;
    }
}

impl State {
    fn is_due(&self, pages: u32) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        // It has begun anew.
        let asked = if pages < asked { 0 } else { asked };
        if pages < asked + PAGES || self.running.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.asked.store(pages, Ordering::Relaxed);
        true
    }
}

/// As much as nobody reads any more, without waiting for anybody.
fn take_in(connection: &Connection) {
    let asked = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)");
    let done = asked.and_then(|mut asked| asked.query_row([], |row| row.get::<_, i64>(0)));
    if let Err(error) = done {
        // As long as there is room for the log nothing is lost; that there is none the next commit says.
        tracing::debug!(%error, "the write-ahead log can't be taken in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_once_for_so_many_pages() {
        let state = State::default();
        assert!(!state.is_due(PAGES - 1));
        assert!(state.is_due(PAGES));
        assert!(!state.is_due(2 * PAGES), "one at a time");
        state.running.store(false, Ordering::Release);
        assert!(!state.is_due(2 * PAGES - 1));
        assert!(state.is_due(2 * PAGES));
        state.running.store(false, Ordering::Release);
        assert!(!state.is_due(0), "nothing was written");
        assert!(state.is_due(PAGES), "it began anew");
    }
}
