//! What was handed over, deleted for all who are as far by one transaction.

use std::sync::{Mutex, PoisonError};

use rhizome_storage::{Result, Store, Told};
use tokio::sync::Mutex as AsyncMutex;

/// See the module.
#[derive(Debug, Default)]
pub struct Acknowledged {
    waiting: Mutex<Vec<Told>>,
    writing: AsyncMutex<()>,
}

impl Acknowledged {
    /// It is deleted, durably when this returns. After an error it waits for the next one.
    pub async fn note(&self, store: &Store, told: Told) -> Result<()> {
        self.waiting(|waiting| waiting.push(told));
        let _one = self.writing.lock().await;
        // Another may have written it with theirs.
        let all = self.waiting(std::mem::take);
        let written = store.pushes_told(&all).await;
        if written.is_err() {
            self.waiting(|waiting| waiting.extend(all));
        }
        written
    }

    fn waiting<T>(&self, change: impl FnOnce(&mut Vec<Told>) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
