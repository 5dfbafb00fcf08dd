//! The files of a user whose account ends.

use rhizome_storage::Store;
use ruma::UserId;

use super::{Chosen, Desk, Which};
use crate::config::Config;
use crate::server;

/// Deletes the files that a user has uploaded, but those that are protected; gives how many.
pub(crate) async fn delete_of(
    store: &Store,
    config: &Config,
    user: &UserId,
) -> anyhow::Result<u64> {
    let media = server::open_media(store, config, server::decoders(config))?;
    let at = Desk {
        store,
        media: &media,
    };
    let chosen = Chosen {
        files: Vec::new(),
        which: Which {
            user: Some(user.to_string()),
            server: None,
            room: None,
            older_than: None,
            unused_for: None,
        },
    };
    at.each(&chosen, false, async |names| {
        Ok(media.delete(names).await?)
    })
    .await
}
