//! What one reader is shown of a room, and in which form.

pub(crate) mod bundle;
pub(crate) mod client_event;
pub(crate) mod complete;
pub(crate) mod direct;
pub(crate) mod dress;
pub(crate) mod filter;
pub(crate) mod gaps;
pub(crate) mod heroes;
pub(crate) mod ignored;
pub(crate) mod json;
pub(crate) mod moment;
pub(crate) mod presence;
pub(crate) mod reading;
pub(crate) mod scan;
pub(crate) mod seen;
pub(crate) mod without_members;
