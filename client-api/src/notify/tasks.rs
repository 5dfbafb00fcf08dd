//! Which pushers are being told: one task at a time for each.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use rhizome_storage::{Lease, PusherKey};
use tokio::sync::Notify;

/// Pushers for which a task is at work.
#[derive(Default)]
pub struct Tasks(Mutex<HashMap<PusherKey, Task>>);

struct Task {
    /// Something has come since it last looked.
    is_rung: bool,
    /// What it was rung with last: a task may outlive a lease, and go on with the next one of this process.
    lease: Lease,
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

    /// Something waits for a pusher, which is told as long as the lease is ours. A task that is to begin, unless one is
    /// at work for it.
    pub fn ring(self: &Arc<Self>, key: PusherKey, lease: &Lease) -> Option<AtWork> {
        let calls = self.tasks(|tasks| match tasks.entry(key.clone()) {
            Entry::Occupied(mut task) => {
                let task = task.get_mut();
                task.is_rung = true;
                task.lease = lease.clone();
                task.calls.rung.notify_one();
                None
            }
            Entry::Vacant(place) => {
                let (lease, calls) = (lease.clone(), Arc::<Calls>::default());
                place.insert(Task {
                    is_rung: true,
                    lease,
                    calls: calls.clone(),
                });
                Some(calls)
            }
        })?;
        Some(AtWork {
            tasks: self.clone(),
            key,
            calls,
            rests: false,
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
}

/// A task's entry: whatever ends the task, another can begin.
pub struct AtWork {
    tasks: Arc<Tasks>,
    key: PusherKey,
    calls: Arc<Calls>,
    /// Its entry may be another's by now.
    rests: bool,
}

impl AtWork {
    pub fn key(&self) -> &PusherKey {
        &self.key
    }

    /// What rings from now on is seen by the next look. `false`: the lease is lost, there is nothing to look at unless
    /// something rings with another.
    pub fn looks(&self) -> bool {
        self.tasks.tasks(|tasks| {
            tasks.get_mut(&self.key).is_some_and(|task| {
                task.is_rung = false;
                task.lease.held()
            })
        })
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
            let rests = tasks.get(&self.key).is_none_or(|task| !task.is_rung);
            if rests {
                tasks.remove(&self.key);
            }
            rests
        });
        self.rests
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if !self.rests {
            self.tasks.tasks(|tasks| tasks.remove(&self.key));
        }
    }
}
