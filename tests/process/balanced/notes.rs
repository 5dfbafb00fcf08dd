//! What those who write note down: what they were told is done, and how long it took.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rhizome_storage::testing::eventually;

#[derive(Default)]
pub(super) struct Notes {
    /// When which event was acknowledged.
    acknowledged: Mutex<HashMap<String, Instant>>,
    /// How many messages to a device are done, by who wrote to whom.
    to_devices: Mutex<BTreeMap<(usize, usize), usize>>,
    /// The longest that somebody waited for an answer, by what they wanted.
    longest: Mutex<BTreeMap<&'static str, Duration>>,
    /// How often something was asked again.
    again: AtomicUsize,
}

impl Notes {
    pub(super) fn acknowledge(&self, event_id: &str) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        acknowledged
            .entry(event_id.to_owned())
            .or_insert_with(Instant::now);
    }

    pub(super) fn acknowledged(&self) -> HashMap<String, Instant> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Waits until so many more are done.
    pub(super) async fn goes_on(&self, events: usize) {
        let count = || self.acknowledged.lock().unwrap().len();
        let before = count();
        eventually("events are acknowledged", async || {
            count() >= before + events
        })
        .await;
    }

    pub(super) fn told_a_device(&self, from: usize, to: usize) {
        let mut to_devices = self.to_devices.lock().unwrap();
        *to_devices.entry((from, to)).or_default() += 1;
    }

    /// How many messages somebody's device has been sent by somebody.
    pub(super) fn to_device(&self, from: usize, to: usize) -> usize {
        let to_devices = self.to_devices.lock().unwrap();
        to_devices.get(&(from, to)).copied().unwrap_or_default()
    }

    pub(super) fn waited(&self, kind: &'static str, time: Duration) {
        let mut longest = self.longest.lock().unwrap();
        let of_kind = longest.entry(kind).or_default();
        *of_kind = time.max(*of_kind);
    }

    pub(super) fn longest(&self) -> BTreeMap<&'static str, Duration> {
        self.longest.lock().unwrap().clone()
    }

    pub(super) fn asked_again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was asked again.
    pub(super) fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }
}
