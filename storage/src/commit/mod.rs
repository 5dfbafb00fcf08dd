//! The commit queue.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{CommitError, Committed, Error, Store, WriteSet};

/// A write set on its way, and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) set: WriteSet,
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
}

impl Store {
    /// Writes everything in `set`, or nothing. When this returns `Ok`, it is durable and the log's tail
    /// has it. When the caller stops waiting, it may be written all the same.
    pub async fn commit(&self, set: WriteSet) -> Result<Committed, CommitError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue().ok_or_else(|| Error::broken("no queue"))?;
        queue
            .send(Job { set, answer })
            .await
            .map_err(|_| Error::Busy("the store is closing".into()))?;
        answered
            .await
            .map_err(|_| Error::Busy("the store is closing".into()))?
    }
}

pub(crate) async fn run(_store: Store, _jobs: mpsc::Receiver<Job>, _ended: CancellationToken) {
    unimplemented!()
}
