//! `[profiles]`: what users may say of themselves.

use serde::Deserialize;

/// What users may say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// The only fields that they may change; all if there is none.
    pub allowed_fields: Vec<String>,
    /// Fields that they may not change.
    pub disallowed_fields: Vec<String>,
}
