//! The checker finds what breaks the contract, and lets pass what keeps it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod coverage;
mod exchanges;
mod watching;
