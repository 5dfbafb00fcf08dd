//! The supervisor: every long-lived task has a name, is started here, and is started again with
//! back-off when it fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A task that ran this long has recovered: its next failure starts with the first pause again.
const RECOVERED: Duration = Duration::from_mins(1);

/// The tasks of one server. Ends with its token.
#[derive(Clone, Debug)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    /// How often each was started again.
    restarts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Tasks {
    /// No tasks yet; those that come end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            tracker: TaskTracker::new(),
            restarts: Arc::default(),
        }
    }

    /// How often each task was started again, by name.
    pub fn restarts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.restarts).clone()
    }

    /// Runs `task` under `name` until the server stops; starts it again when it returns, fails or
    /// panics. `task` gets the token on which it should end by itself.
    pub fn supervise<F, Fut>(&self, name: &'static str, task: F)
    where
        F: Fn(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = self.stop.clone();
        let restarts = self.restarts.clone();
        lock(&restarts).entry(name).or_default();
        self.tracker.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                // A task of its own, so that a panic ends only this run of it.
                let ended = tokio::spawn(task(stop.clone())).await;
                if stop.is_cancelled() {
                    return;
                }
                if started.elapsed() >= RECOVERED {
                    pause = FIRST_PAUSE;
                }
                *lock(&restarts).entry(name).or_default() += 1;
                tracing::error!(task = name, pause = ?pause, "task ended: {}; starting it again", why(ended));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// Waits until every task has ended, at most `limit`; `false` when some had not.
    pub async fn wait(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn why(ended: Result<anyhow::Result<()>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "it returned".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_failing_task_starts_again_and_stops_with_the_server() {
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let (reached, mut third) = tokio::sync::mpsc::channel::<()>(1);
        tasks.supervise("test", move |stop| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            let reached = reached.clone();
            async move {
                match run {
                    0 => anyhow::bail!("first"),
                    1 => panic!("second"),
                    _ => {
                        let _ = reached.try_send(());
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        third.recv().await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert_eq!(tasks.restarts(), BTreeMap::from([("test", 2)]));
        stop.cancel();
        assert!(tasks.wait(Duration::from_secs(5)).await);
    }
}
