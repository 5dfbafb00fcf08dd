//! What everything stands on: the database in both dialects, opening and closing, clocks, counters, caches.

pub(crate) mod alone;
pub(crate) mod blocks;
pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod database;
pub(crate) mod db;
pub(crate) mod dialect;
pub(crate) mod epoch;
pub(crate) mod error;
pub(crate) mod failover;
pub(crate) mod lease;
pub(crate) mod migrate;
pub(crate) mod numbers;
pub(crate) mod options;
pub(crate) mod pool;
pub(crate) mod postgres;
pub mod random;
pub(crate) mod scratch;
pub(crate) mod settings;
pub(crate) mod sql;
pub(crate) mod sqlite;
mod task;
pub(crate) mod timings;
pub(crate) mod trouble;

/// Locks a mutex whose holder never runs foreign code.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
