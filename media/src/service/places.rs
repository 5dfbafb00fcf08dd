//! The stores by their names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::blobs::{self, Blobs};
use crate::config::MediaConfig;
use crate::error::MediaError;

/// The stores by their names.
pub(super) struct Places {
    by_name: HashMap<String, Arc<dyn Blobs>>,
    newest: (String, Arc<dyn Blobs>),
}

impl Places {
    pub(super) fn open(config: &MediaConfig) -> Result<Self, MediaError> {
        let mut by_name = HashMap::new();
        let mut newest = None;
        for one in &config.stores {
            let opened = blobs::open(one)
                .map_err(|error| MediaError::bytes(format_args!("store {}: {error}", one.name)))?;
            newest.get_or_insert_with(|| (one.name.clone(), opened.clone()));
            by_name.insert(one.name.clone(), opened);
        }
        let newest = newest.ok_or_else(|| MediaError::bytes("no store is configured"))?;
        Ok(Self { by_name, newest })
    }

    /// Where new bytes go.
    pub(super) fn newest(&self) -> (&str, &Arc<dyn Blobs>) {
        (&self.newest.0, &self.newest.1)
    }

    /// The store of this name.
    pub(super) fn get(&self, name: &str) -> Result<&Arc<dyn Blobs>, MediaError> {
        self.by_name.get(name).ok_or_else(|| {
            MediaError::bytes(format_args!(
                "files lie in the store {name:?}, which isn't configured"
            ))
        })
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Arc<dyn Blobs>)> {
        self.by_name.iter()
    }
}
