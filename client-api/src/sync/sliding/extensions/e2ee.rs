//! Whose devices to look at again, and what the device has to give out (MSC3884).

use std::sync::Arc;

use rhizome_storage::KeyCounts;

use super::Context;
use crate::{
    MatrixError,
    sync::{Devices, write},
    view::json::Json,
};

/// What is told for encryption.
#[derive(Debug)]
pub struct E2ee {
    devices: Devices,
    keys: Arc<KeyCounts>,
}

/// Reads it.
pub async fn read(context: &Context<'_>) -> Result<E2ee, MatrixError> {
    let (loader, (_, _, rows)) = (context.loader, context.moment);
    let viewer = loader.viewer;
    Ok(E2ee {
        devices: loader.devices(rows, context.window).await?,
        keys: loader
            .store
            .key_counts(viewer.user, &viewer.device_id)
            .await?,
    })
}

impl E2ee {
    /// Whether nobody's devices changed.
    pub fn is_empty(&self) -> bool {
        self.devices.0.is_empty() && self.devices.1.is_empty()
    }

    /// Writes it.
    pub fn write(&self, json: &mut Json) {
        json.open();
        write::device_lists(json, &self.devices);
        write::key_counts(json, &self.keys);
        json.close();
    }
}
