//! What one reader is shown of an event, and in which form.

pub(crate) mod client_event;
pub(crate) mod filter;
pub(crate) mod json;
pub(crate) mod redactions;
pub(crate) mod seen;
pub(crate) mod sight;
