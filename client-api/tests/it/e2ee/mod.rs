//! Keys for end-to-end encryption, as clients upload and see them.

mod cross_signing;
mod keys;
mod lists;
mod lists_model;
mod servers;
pub mod several;
pub mod signer;
mod trust;
