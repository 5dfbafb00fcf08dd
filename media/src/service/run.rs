//! What goes on beside requests.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Media;

/// Between two times that the database is told when files were asked for, and the list of forbidden ones looked at.
const TELL: Duration = Duration::from_mins(1);

impl Media {
    /// Makes pictures of new files and tells the database when files were asked for, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::join!(self.make_pictures(&stop), self.tell(&stop));
    }

    async fn make_pictures(&self, stop: &CancellationToken) {
        let mut soon = self.0.to_make.lock().await;
        let making = async {
            while let Some(of) = soon.recv().await {
                if let Err(error) = self.make_all(&of).await {
                    tracing::debug!(%error, "no pictures are made of a file");
                }
            }
        };
        stop.run_until_cancelled(making).await;
    }

    async fn tell(&self, stop: &CancellationToken) {
        let clock = self.0.store.clock();
        loop {
            let waited = stop.run_until_cancelled(clock.sleep(TELL)).await;
            self.read_forbidden_again();
            if let Err(error) = self.tell_accesses().await {
                tracing::warn!(%error, "it isn't noted when files were last asked for");
            }
            if waited.is_none() {
                return;
            }
        }
    }
}
