//! Files of users: where they lie, and what goes on beside requests for them.

use std::sync::Arc;

use anyhow::Context as _;
use rhizome_media::{Media, MediaConfig, NoPictures};
use rhizome_storage::Store;

use crate::config::Config;
use crate::tasks::Tasks;

/// Opens the place for files; it is made if it isn't there.
///
/// # Errors
/// It can't be used.
pub(super) fn open(store: &Store, config: &Config) -> anyhow::Result<Media> {
    let path = config.media.path(&config.server.data_dir);
    let mut settings = MediaConfig::new(config.server.name.clone(), &path);
    settings.max_upload_size = config.media.max_upload_size.0;
    Media::open(store.clone(), settings, Arc::new(NoPictures)).with_context(|| {
        format!(
            "the folder for files {} can't be used; set media.path to a place that this user may write to",
            path.display()
        )
    })
}

/// Makes pictures of what was uploaded, and sweeps up what nobody needs.
pub(super) fn look_after(tasks: &Tasks, media: &Media) {
    let running = media.clone();
    tasks.supervise("files", move |stop| {
        let media = running.clone();
        async move {
            media.run(stop).await;
            Ok(())
        }
    });
    let sweeping = media.clone();
    tasks.supervise("sweep of files", move |stop| {
        let media = sweeping.clone();
        async move {
            media.sweep_now_and_then(stop).await;
            Ok(())
        }
    });
}
