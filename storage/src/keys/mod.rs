//! Keys for end-to-end encryption: reading them, and the write sets that change them.

pub(crate) mod change;
pub(crate) mod claim;
pub(crate) mod counts;
pub(crate) mod query;
pub(crate) mod read;
