//! Requests as they come, in either form.

use std::{collections::BTreeMap, str::FromStr};

use serde::Deserialize;

use super::extensions::Extensions;
use crate::{MatrixError, content::pairs};

#[derive(Deserialize)]
pub struct Raw {
    pub conn_id: Option<String>,
    pub txn_id: Option<String>,
    pub pos: Option<String>,
    pub timeout: Option<u64>,
    pub set_presence: Option<String>,
    #[serde(default)]
    pub lists: BTreeMap<String, RawList>,
    #[serde(default)]
    pub room_subscriptions: BTreeMap<String, RawConfig>,
    #[serde(default)]
    pub extensions: RawExtensions,
}

/// Extensions of which nobody knows are passed over.
#[derive(Default)]
pub struct RawExtensions(pub Extensions);

impl<'de> Deserialize<'de> for RawExtensions {
    fn deserialize<D: serde::Deserializer<'de>>(raw: D) -> Result<Self, D::Error> {
        Extensions::deserialize(raw).map(Self)
    }
}

#[derive(Deserialize)]
pub struct RawList {
    pub range: Option<(u64, u64)>,
    pub ranges: Option<Vec<(u64, u64)>>,
    pub filters: Option<RawFilter>,
    #[serde(flatten)]
    pub config: RawConfig,
}

#[derive(Deserialize)]
pub struct RawConfig {
    pub timeline_limit: u64,
    #[serde(default)]
    pub required_state: RawState,
}

/// Which state is wanted.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum RawState {
    Pairs(Vec<(String, String)>),
    Elements {
        #[serde(default)]
        include: Vec<RawElement>,
        #[serde(default)]
        exclude: Vec<RawElement>,
        #[serde(default)]
        lazy_members: bool,
    },
}

impl Default for RawState {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

#[derive(Deserialize)]
pub struct RawElement {
    pub r#type: Option<String>,
    pub state_key: Option<String>,
}

#[derive(Deserialize)]
pub struct RawFilter {
    pub is_dm: Option<bool>,
    pub spaces: Option<Vec<String>>,
    pub is_encrypted: Option<bool>,
    #[serde(alias = "is_invite")]
    pub is_invited: Option<bool>,
    pub room_types: Option<Vec<Option<String>>>,
    #[serde(default)]
    pub not_room_types: Vec<Option<String>>,
    pub tags: Option<Vec<String>>,
    #[serde(default)]
    pub not_tags: Vec<String>,
}

impl Raw {
    /// Takes what clients of today put into the query.
    pub fn take_query(&mut self, query: Option<&str>) -> Result<(), MatrixError> {
        for (name, value) in pairs(query.unwrap_or_default()) {
            match name.as_str() {
                "pos" => self.pos = Some(value),
                "timeout" => self.timeout = Some(number(&value)?),
                "set_presence" => self.set_presence = Some(value),
                _ => {}
            }
        }
        Ok(())
    }
}

fn number(text: &str) -> Result<u64, MatrixError> {
    u64::from_str(text).map_err(|_| MatrixError::invalid_param("`timeout` isn't a number"))
}
