//! Who waits for the bytes of an id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Those who wait, by the id.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, Arc<watch::Sender<()>>>>);

/// One who waits.
pub(super) struct Waiter<'a> {
    among: &'a Waiting,
    id: &'a str,
    told: Option<watch::Receiver<()>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<watch::Sender<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is missed.
    pub(super) fn enter<'a>(&'a self, id: &'a str) -> Waiter<'a> {
        let mut all = self.lock();
        let sender = match all.get(id) {
            Some(sender) => sender,
            None => all.entry(id.to_owned()).or_default(),
        };
        Waiter {
            told: Some(sender.subscribe()),
            among: self,
            id,
        }
    }

    /// The bytes have come.
    pub(super) fn wake(&self, id: &str) {
        if let Some(waiting) = self.lock().get(id) {
            waiting.send_replace(());
        }
    }
}

impl Waiter<'_> {
    /// Resolves when the bytes have come since it last did.
    pub(super) async fn woken(&mut self) {
        if let Some(told) = &mut self.told {
            // Its sender is kept for as long as somebody waits.
            let _ = told.changed().await;
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut all = self.among.lock();
        self.told = None;
        if all
            .get(self.id)
            .is_some_and(|one| one.receiver_count() == 0)
        {
            all.remove(self.id);
        }
    }
}
