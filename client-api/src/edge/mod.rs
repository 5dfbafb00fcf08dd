//! From HTTP to a handler and back: what doesn't depend on an endpoint.

pub(crate) mod body;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod finish;
pub(crate) mod limits;
