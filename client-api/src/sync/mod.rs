//! `/sync`.
