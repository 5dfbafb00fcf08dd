//! What users want to be notified of.

pub(crate) mod channels;
pub(crate) mod evaluate;
mod letters;
pub(crate) mod mail_links;
pub(crate) mod mail_pushers;
pub(crate) mod mailing;
pub(crate) mod pushers;
pub(crate) mod rules;
pub(crate) mod wishes;
