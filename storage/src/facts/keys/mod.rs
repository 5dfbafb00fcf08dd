//! Keys for end-to-end encryption: what devices say of themselves, what they give out, and what users sign with.

pub(crate) mod cross_signing;
pub(crate) mod device;
pub(crate) mod one_time;
pub(crate) mod signature;
