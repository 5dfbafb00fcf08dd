//! The durable inbox: received events that couldn't be decided yet.
//!
//! One worker per room takes its events in order of arrival, gathers what each needs and has it decided;
//! rooms are worked on side by side. What can't be decided even so is tried again later, ever less often,
//! and given up in the end: an event that later ones build on is fetched again with them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rhizome_protocol::{Pdu, RoomRules};
use rhizome_rooms::read;
use rhizome_storage::{Dialect, Error, InboxEvent};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};

use crate::{
    Federation,
    gather::{self, Outcome},
};

/// How many rooms are worked on at the same time.
const ROOMS_AT_ONCE: usize = 16;
/// How many events a worker claims at once.
const CLAIM: usize = 20;
/// How long a claim lasts.
const CLAIMED_FOR: Duration = Duration::from_mins(6);
/// After this long nothing more of a claim is begun: gathering for one event may take the rest.
const BEGUN_WITHIN: Duration = Duration::from_mins(3);
/// The first wait after a vain attempt; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// After so many vain attempts an event is given up.
const MAX_ATTEMPTS: i64 = 14;
/// How long the inbox sleeps at most: other processes may put something in.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// How long the answers of transactions are remembered.
const REMEMBERED: Duration = Duration::from_hours(3 * 24);
/// How often old answers are forgotten.
const TIDY_EVERY: Duration = Duration::from_hours(1);

/// Works through the inbox until it is dropped.
///
/// # Errors
/// The database's. What was claimed comes due again by itself.
pub async fn run(fed: &Federation) -> Result<(), Error> {
    let store = fed.store();
    if store.dialect() == Dialect::Sqlite {
        // Nobody else has this database: what is claimed was claimed by a process that has ended.
        store.inbox_wake_all().await?;
    }
    let mut working: HashSet<OwnedRoomId> = HashSet::new();
    let mut workers = FuturesUnordered::new();
    let mut tidy_at = 0;
    loop {
        let now = store.clock().now_ms();
        if now >= tidy_at {
            store.forget_inbound_txns(now - millis(REMEMBERED)).await?;
            tidy_at = now + millis(TIDY_EVERY);
        }
        for room in store.inbox_rooms(now, ROOMS_AT_ONCE * 4).await? {
            if working.len() < ROOMS_AT_ONCE && working.insert(room.clone()) {
                workers.push(async move { (work(fed, &room).await, room) });
            }
        }
        let next = store
            .inbox_next_due(now)
            .await?
            .map_or(LONGEST_SLEEP, |due| {
                Duration::from_millis(u64::try_from(due - now).unwrap_or(0)).min(LONGEST_SLEEP)
            });
        tokio::select! {
            Some((done, room)) = workers.next(), if !workers.is_empty() => {
                working.remove(&room);
                done?;
            }
            () = fed.inbound().inbox.notified() => {}
            () = store.clock().sleep(next) => {}
        }
    }
}

/// Decides what is due in one room.
async fn work(fed: &Federation, room_id: &RoomId) -> Result<(), Error> {
    let store = fed.store();
    let mut woken = false;
    loop {
        let now = store.clock().now_ms();
        let claimed = store
            .inbox_claim(room_id, now, now + millis(CLAIMED_FOR), CLAIM)
            .await?;
        let mut progress = false;
        let empty = claimed.is_empty();
        for event in claimed {
            if store.clock().now_ms() > now + millis(BEGUN_WITHIN) {
                later(fed, &event, Duration::ZERO).await?;
            } else {
                progress |= one(fed, &event).await?;
            }
        }
        if progress && !woken {
            // Others may have waited for what has come, even if their time hasn't.
            woken = true;
            store.inbox_wake(room_id).await?;
        } else if empty {
            return Ok(());
        }
    }
}

/// Tries one event. Whether the room has got on.
async fn one(fed: &Federation, event: &InboxEvent) -> Result<bool, Error> {
    let store = fed.store();
    let Some(pdu) = read_back(event) else {
        tracing::error!(event = %event.event_id, "an event of the inbox can't be read: dropped");
        store.inbox_give_up(&event.event_id, &event.origin).await?;
        return Ok(false);
    };
    let resident = read::server_in_room(fed.rooms(), &event.room_id, fed.server_name()).await;
    if !resident.map_err(database)? {
        if fed.inbound().joining.rules(&event.room_id).is_some() {
            later(fed, event, Duration::from_secs(1)).await?;
        } else {
            tracing::info!(event = %event.event_id, room = %event.room_id, "not in the room: event dropped");
            store.inbox_give_up(&event.event_id, &event.origin).await?;
        }
        return Ok(false);
    }
    let is_whole = pdu.is_whole();
    match gather::receive(fed, &event.origin, pdu).await {
        Ok(Outcome::Decided(outcome)) => {
            tracing::debug!(event = %event.event_id, ?outcome, "decided an event of the inbox");
            if is_whole {
                store.inbox_done(&event.event_id).await?;
            } else {
                // The copy of another server may have the content that this one came without.
                store.inbox_give_up(&event.event_id, &event.origin).await?;
            }
            Ok(true)
        }
        Ok(Outcome::Undecided(need)) => {
            if event.attempts + 1 >= MAX_ATTEMPTS {
                let lacks: Vec<&OwnedEventId> = need.prev.iter().chain(&need.auth).collect();
                tracing::warn!(event = %event.event_id, origin = %event.origin, ?lacks, "given up an event");
                store.inbox_give_up(&event.event_id, &event.origin).await?;
            } else {
                later(fed, event, wait(event.attempts)).await?;
            }
            Ok(false)
        }
        Err(rhizome_rooms::Error::Store(error)) => Err(error),
        Err(rhizome_rooms::Error::Contended) => {
            later(fed, event, Duration::from_secs(1)).await?;
            Ok(false)
        }
        Err(error) => {
            tracing::info!(event = %event.event_id, %error, "dropped an event of the inbox");
            store.inbox_give_up(&event.event_id, &event.origin).await?;
            Ok(false)
        }
    }
}

fn read_back(event: &InboxEvent) -> Option<Arc<Pdu>> {
    let rules = RoomRules::named(&event.room_version)?;
    Pdu::from_stored(rules, event.event_id.clone(), event.event.clone())
        .ok()
        .map(Arc::new)
}

async fn later(fed: &Federation, event: &InboxEvent, wait: Duration) -> Result<(), Error> {
    let due = fed.store().clock().now_ms() + millis(wait);
    fed.store()
        .inbox_later(&event.event_id, &event.origin, due)
        .await
}

fn wait(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What asking about a room can fail with is the database.
fn database(error: rhizome_rooms::Error) -> Error {
    match error {
        rhizome_rooms::Error::Store(error) => error,
        other => Error::broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        assert_eq!(wait(0), FIRST_WAIT);
        assert_eq!(wait(3), Duration::from_secs(40));
        assert_eq!(wait(i64::MAX), LONGEST_WAIT);
    }
}
