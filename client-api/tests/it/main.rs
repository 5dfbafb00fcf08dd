//! Stories of clients, told to the whole client API over a real store. Each runs on both databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod absence;
mod access;
mod access_elsewhere;
mod account_data;
mod accounts;
mod asking;
mod backup;
mod carried;
mod contact;
mod contract;
mod dehydrated;
mod delayed;
mod delivery;
mod directory;
mod doors;
mod e2ee;
mod erasure;
mod former;
mod forms;
mod gaps;
mod guests;
mod hangup;
mod harness;
mod history;
mod http;
mod limits;
mod mangled;
mod media;
mod members;
mod model;
mod moderation;
mod moments;
mod notices;
mod notifications;
mod paging;
mod peeking;
mod peer;
mod policies;
mod presence;
mod profiles;
mod push_proposals;
mod push_rules;
mod pushers;
mod random;
mod reading;
mod receipts;
mod recount;
mod redactions;
mod registration;
mod related;
mod relations;
mod reports;
mod restored;
mod rooms;
mod search;
mod sessions;
mod sliding;
mod socket;
mod socket_cuts;
mod socket_limits;
mod socket_sliding;
mod spaces;
mod sticky;
mod sticky_between;
mod stream;
mod summary;
mod sync;
mod sync_cost;
mod sync_edges;
mod sync_fields;
mod sync_filters;
mod sync_truth;
mod tags;
mod threads;
mod to_device;
mod together;
mod unread;
mod upgrades;
mod visibility;
