//! What everything stands on: the database in both dialects, opening and closing, clocks, counters, caches.

pub(crate) mod blocks;
pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod db;
pub(crate) mod dialect;
pub(crate) mod epoch;
pub(crate) mod error;
pub(crate) mod lease;
pub(crate) mod migrate;
pub(crate) mod options;
pub mod random;
pub(crate) mod scratch;
pub(crate) mod settings;
pub(crate) mod sql;
pub(crate) mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
