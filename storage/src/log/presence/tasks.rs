//! What happens by itself: the time passes, rooms change, and those who wait are woken.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Presence;
use crate::engine::lock;
use crate::{Core, Store};

/// How often it is looked whose time has come.
const TICK: Duration = Duration::from_secs(1);
/// Between two times that those who wait are woken: what changes meanwhile they are told in one.
const PAUSE: Duration = Duration::from_secs(1);
/// How many users are woken for presence in that time. An answer and the next request take some tenths of a
/// millisecond: so that is a small part of a core, however many are there. Where more wait, it takes longer until all are
/// told; whoever is woken by something else, or asks anew, is told at once.
const MOST_WOKEN: usize = 180;
/// And after how many of them in which nobody was to be told other rooms are left for the next time.
const MOST_ROOMS: usize = 1_000;

/// Starts the tasks; they end with `ended`.
pub(crate) fn spawn(core: &Arc<Core>, ended: &CancellationToken) {
    if !core.options.presence.enabled {
        return;
    }
    let presence = &core.presence;
    let weak = || Arc::downgrade(core);
    let run = |task| ended.clone().run_until_cancelled_owned(task);
    tokio::spawn(run(boxed(tick(presence.clone()))));
    tokio::spawn(run(boxed(wake(weak(), presence.clone()))));
    tokio::spawn(run(boxed(look_up(weak(), presence.clone()))));
}

fn boxed(
    task: impl Future<Output = ()> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(task)
}

/// Ends what has lasted long enough.
async fn tick(presence: Arc<Presence>) {
    loop {
        presence.clock.sleep(TICK).await;
        let mut people = presence.people();
        people.expire(presence.clock.monotonic());
        presence.changed(people);
    }
}

/// Wakes those who wait in rooms in which something has changed: at once, but not again for a while.
async fn wake(core: Weak<Core>, presence: Arc<Presence>) {
    loop {
        presence.untold.notified().await;
        while presence.people().rooms.has_untold() {
            let Some(core) = core.upgrade() else { return };
            let mut rooms = 0;
            let next = || {
                rooms += 1;
                let mut people = presence.people();
                (rooms <= MOST_ROOMS)
                    .then(|| people.rooms.next_untold())
                    .flatten()
            };
            let woken =
                lock(&core.tail.waiting).wake_for_presence(next, MOST_WOKEN, &core.counters);
            drop(core);
            let pauses = u32::try_from(woken / MOST_WOKEN).unwrap_or(u32::MAX).max(1);
            presence.clock.sleep(PAUSE * pauses).await;
        }
    }
}

/// Asks for the rooms of those who have come into one, and for their words if these may have been missed.
async fn look_up(core: Weak<Core>, presence: Arc<Presence>) {
    loop {
        presence.moved.notified().await;
        loop {
            let (moved, missed) = {
                let mut people = presence.people();
                (people.moved(), std::mem::take(&mut people.words_missed))
            };
            if moved.is_empty() {
                break;
            }
            let Some(core) = core.upgrade() else { return };
            let store = Store { core, queue: None };
            for user in moved {
                if let Err(error) = store.know_again(user, missed).await {
                    tracing::warn!(%error, "in which rooms a user is to be seen isn't known");
                    presence.people().words_missed |= missed;
                    presence.clock.sleep(PAUSE).await;
                }
            }
        }
    }
}
