//! What users want to be notified of.

pub(crate) mod rules;
