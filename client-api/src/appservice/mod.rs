//! What application services alone may ask.

pub(crate) mod list;
pub(crate) mod ping;
