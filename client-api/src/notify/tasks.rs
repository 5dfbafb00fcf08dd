//! Which pushers are being told: one task at a time for each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rhizome_storage::PusherKey;
use tokio::sync::Notify;

/// Pushers for which a task is at work.
#[derive(Default)]
pub struct Tasks(Mutex<HashMap<PusherKey, Task>>);

#[derive(Default)]
struct Task {
    /// Something has come since it last looked.
    is_rung: bool,
    calls: Arc<Calls>,
}

/// What a task listens to while it waits.
#[derive(Default)]
struct Calls {
    /// Something waits for the pusher.
    rung: Notify,
    /// The pusher was set anew: what couldn't be told before may be now.
    renewed: Notify,
}

impl Tasks {
    fn tasks<T>(&self, look: impl FnOnce(&mut HashMap<PusherKey, Task>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something waits for a pusher. `false`: no task is at work for it, and one is to begin.
    pub fn ring(&self, key: &PusherKey) -> bool {
        self.tasks(|tasks| {
            let is_at_work = tasks.contains_key(key);
            let task = tasks.entry(key.clone()).or_default();
            task.is_rung = true;
            task.calls.rung.notify_one();
            is_at_work
        })
    }

    /// A pusher was set anew.
    pub fn renew(&self, key: &PusherKey) {
        self.tasks(|tasks| {
            if let Some(task) = tasks.get(key) {
                task.calls.renewed.notify_one();
            }
        });
    }

    /// A task begins.
    pub fn begin<'a>(&'a self, key: &'a PusherKey) -> AtWork<'a> {
        let calls = self.tasks(|tasks| tasks.entry(key.clone()).or_default().calls.clone());
        AtWork {
            tasks: self,
            key,
            calls,
            rests: false,
        }
    }
}

/// A task's entry: whatever ends the task, another can begin.
pub struct AtWork<'a> {
    tasks: &'a Tasks,
    key: &'a PusherKey,
    calls: Arc<Calls>,
    /// Its entry may be another's by now.
    rests: bool,
}

impl AtWork<'_> {
    /// What rings from now on is seen by the next look.
    pub fn looks(&self) {
        self.tasks.tasks(|tasks| {
            if let Some(task) = tasks.get_mut(self.key) {
                task.is_rung = false;
            }
        });
    }

    /// Something has rung since this was asked last.
    pub async fn rung(&self) {
        self.calls.rung.notified().await;
    }

    /// The pusher was set anew.
    pub async fn renewed(&self) {
        self.calls.renewed.notified().await;
    }

    /// Whether nothing has rung since the last look: who rings from now on begins a new task.
    pub fn rests(&mut self) -> bool {
        self.rests = self.tasks.tasks(|tasks| {
            let rests = tasks.get(self.key).is_none_or(|task| !task.is_rung);
            if rests {
                tasks.remove(self.key);
            }
            rests
        });
        self.rests
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if !self.rests {
            self.tasks.tasks(|tasks| tasks.remove(self.key));
        }
    }
}
