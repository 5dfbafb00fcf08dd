//! End-to-end encryption: what clients store for each other and for themselves, and can read alone.

pub(crate) mod backup;
