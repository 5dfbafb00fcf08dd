//! Whether the key that this process signs with has been replaced by that of another process (`old_keys.rs` says how such
//! a change is written down).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use rhizome_storage::{Store, millis};
use tokio_util::sync::CancellationToken;

use super::old_keys::{replaced, time};
use super::signing_key::KeyFile;
use crate::tasks::Tasks;

/// How often a process looks whether its key has been replaced.
const LOOK: Duration = Duration::from_secs(10);
/// So much earlier than its key is over it stops: what is under way is still signed.
const EARLIER: Duration = Duration::from_secs(30);
/// How often it is said again.
const SAID_AGAIN: Duration = Duration::from_mins(5);

/// Of several processes each looks whether another has a newer key; the token says that this one must stop.
pub(super) fn run(tasks: &Tasks, store: &Store, watch: Watch) -> CancellationToken {
    let outdated = CancellationToken::new();
    if store.is_shared() {
        let (watch, told) = (Arc::new(watch), outdated.clone());
        tasks.supervise("signing key", move |stop| {
            let (watch, told) = (watch.clone(), told.clone());
            async move { watch.run(&told, stop).await }
        });
    }
    outdated
}

/// Whether a process may go on with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is the one in use, as far as anybody knows.
    InUse,
    /// A process has been started with another. This one counts for so long (ms) on.
    Replaced(i64),
    /// It doesn't count any more, or soon won't.
    Over,
}

/// Looks whether the key that this process signs with has been replaced.
pub(super) struct Watch {
    store: Store,
    key_id: String,
    /// When the process's own file was last changed, ms: a key that has come back into use was replaced before.
    since: i64,
    /// Where the file is.
    path: String,
}

impl Watch {
    /// For a process that was started with this file, which is at `path`.
    pub(super) fn new(store: &Store, file: &KeyFile, path: &Path) -> Self {
        let replaced = file.old().iter().map(|old| old.replaced_ts);
        Self {
            store: store.clone(),
            key_id: file.current().key_id().to_owned(),
            since: replaced.max().unwrap_or(i64::MIN),
            path: path.display().to_string(),
        }
    }

    /// Looks once, at the start.
    ///
    /// # Errors
    /// The key doesn't count any more, or the database's.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        match self.standing(Duration::ZERO).await? {
            Standing::InUse => Ok(()),
            Standing::Replaced(left) => {
                self.complain(left);
                Ok(())
            }
            Standing::Over => bail!(
                "the signing key {} in {} has been replaced, and counts no more: what it signs is refused. Copy the file \
                 with the newer key here from where `rhizome keys rotate` was run. If that one is lost: `rhizome keys rotate`",
                self.key_id,
                self.path
            ),
        }
    }

    /// Looks again and again; cancels `outdated` when the process must stop.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn run(
        &self,
        outdated: &CancellationToken,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let clock = self.store.clock().clone();
        let mut said: Option<Duration> = None;
        loop {
            tokio::select! {
                () = clock.sleep(LOOK) => {}
                () = stop.cancelled() => return Ok(()),
            }
            match self.standing(EARLIER).await? {
                Standing::InUse => said = None,
                Standing::Replaced(left) => {
                    let now = clock.monotonic();
                    if said.is_none_or(|said| now.saturating_sub(said) >= SAID_AGAIN) {
                        self.complain(left);
                        said = Some(now);
                    }
                }
                Standing::Over => {
                    outdated.cancel();
                    stop.cancelled().await;
                    return Ok(());
                }
            }
        }
    }

    fn complain(&self, left: i64) {
        tracing::error!(
            key = %self.key_id,
            file = %self.path,
            minutes = left / 60_000,
            "another process has a newer signing key, and this one's counts for so long only, then this process stops: \
             see that the file is the newer one here too, and restart it"
        );
    }

    /// `margin`: so much earlier than others take it the key counts as over.
    async fn standing(&self, margin: Duration) -> anyhow::Result<Standing> {
        let mut until = None;
        for (replaced, counts_until) in self
            .store
            .settings_beginning(&replaced(&self.key_id))
            .await?
        {
            if time(&replaced)? > self.since {
                until = until.max(Some(time(&counts_until)?));
            }
        }
        let Some(until) = until else {
            return Ok(Standing::InUse);
        };
        let left = until.saturating_sub(self.store.clock().now_ms());
        Ok(if left > millis(margin) {
            Standing::Replaced(left)
        } else {
            Standing::Over
        })
    }
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::sign::KeyPair;
    use rhizome_storage::testing::{TestDatabase, eventually};
    use rhizome_storage::{Clock, Options};

    use super::*;
    use crate::config::Config;
    use crate::server::old_keys::counted;

    fn key(version: &str, seed: u8) -> KeyPair {
        KeyPair::from_seed(version, &[seed; 32]).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_goes_on_with_an_old_key_stops_in_time() {
        for postgres in [false, true] {
            let database = TestDatabase::new(postgres).await;
            let clock = Clock::manual(1_700_000_000_000);
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            let store = Store::open(options).await.unwrap();
            let hour = Duration::from_hours(1);
            let config = Config::default();
            let path = Path::new("signing.key");
            let first = KeyFile::of(key("a", 1));
            counted(&store, &first, &config).await.unwrap();
            let old = Watch::new(&store, &first, path);
            // The file is changed; nobody has been started with it.
            let second = first.rotated(key("b", 2), clock.now_ms(), hour);
            old.check().await.unwrap();
            assert_eq!(old.standing(EARLIER).await.unwrap(), Standing::InUse);

            let (outdated, stop) = (CancellationToken::new(), CancellationToken::new());
            let watching = old.run(&outdated, stop.clone());
            let story = async {
                clock.advance(hour);
                assert!(!outdated.is_cancelled());
                counted(&store, &second, &config).await.unwrap();
                let left = old.standing(EARLIER).await.unwrap();
                assert_eq!(left, Standing::Replaced(millis(hour)));
                old.check().await.unwrap();
                assert!(!outdated.is_cancelled());
                clock.advance(hour);
                eventually("the process stops", async || {
                    clock.advance(LOOK);
                    outdated.is_cancelled()
                })
                .await;
                stop.cancel();
            };
            let (watched, ()) = tokio::join!(watching, story);
            watched.unwrap();
            let why = old.check().await.unwrap_err().to_string();
            assert!(why.contains("ed25519:a in signing.key"), "{why}");

            // The newer one is in use, and so is the first when it has come back after it.
            let new = Watch::new(&store, &second, path);
            assert_eq!(new.standing(EARLIER).await.unwrap(), Standing::InUse);
            let back = second.rotated(key("a", 1), clock.now_ms(), hour);
            let back = Watch::new(&store, &back, path);
            assert_eq!(back.standing(EARLIER).await.unwrap(), Standing::InUse);
            store.close().await;
            database.remove().await;
        }
    }
}
