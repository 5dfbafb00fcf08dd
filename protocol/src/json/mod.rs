//! JSON from strangers, and Matrix canonical JSON.

pub mod as_sent;
pub mod canonical;
