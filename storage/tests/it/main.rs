//! The store on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod check;
mod collect;
mod commit;
mod committed;
mod creating;
mod delayed;
mod device_lists;
mod epoch;
mod factory;
mod facts;
mod given;
mod growth;
mod held;
mod hostile;
mod joined_at;
mod keys;
mod log;
mod outbound;
mod partial;
mod plans;
mod processes;
mod reader;
mod receipts;
mod redaction;
mod relations;
mod relatives;
mod restored;
mod sessions;
mod state;
mod summaries;
mod throughput;
mod turns;
mod unread;
mod unwritable;
