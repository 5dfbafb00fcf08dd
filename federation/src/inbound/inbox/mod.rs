//! The durable inbox: received events that couldn't be decided yet.
//!
//! Workers take turns at what one origin has waiting in one room ([`turns`]), gather what each event needs and have it
//! decided. What can't be decided even so is tried again later, ever less often, and given up in the end: an event
//! that later ones build on is fetched again with them. Only what somebody was asked for counts as an attempt.

mod sticky;
mod turns;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rhizome_protocol::{Pdu, RoomRules};
use rhizome_rooms::access;
use rhizome_storage::{Dialect, Error, InboxEvent, millis};
use ruma::{OwnedEventId, RoomId, ServerName};

use self::turns::{Lane, Turns};
use crate::{
    Federation, acl,
    fetch::gather::{self, Haste, Outcome},
};

/// How many lanes are looked at for the next turns, and how many of one origin.
const LANES: usize = 1_000;
const LANES_OF_ONE: usize = 16;
/// How many events a worker claims at once.
const CLAIM: usize = 10;
/// How long a claim lasts.
const CLAIMED_FOR: Duration = Duration::from_mins(6);
/// The first wait after a vain attempt; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// After so many vain attempts an event is given up.
const MAX_ATTEMPTS: i64 = 14;
/// The same for events of servers that aren't in the room: their join may be under way to us.
const MAX_ATTEMPTS_OF_STRANGERS: i64 = 3;
/// However few attempts there were, an event isn't kept longer.
const KEPT: Duration = Duration::from_hours(3 * 24);
/// How long to wait for what ends soon: a join, a busy room.
const A_MOMENT: Duration = Duration::from_secs(1);
/// How many waiting events of one origin, and of all, are looked at again when a room has got on.
const LOOKED_AT: (usize, usize) = (50, 200);
/// How often that is done for what follows from it.
const LOOKS: usize = 4;
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
    let mut turns = Turns::default();
    let mut workers = FuturesUnordered::new();
    let mut tidy_at = 0;
    loop {
        // Time goes on while all this is looked at.
        let (now, looked_at) = (store.clock().now_ms(), store.clock().monotonic());
        if now >= tidy_at {
            tidy(fed, now).await?;
            tidy_at = now + millis(TIDY_EVERY);
        }
        if !turns.is_full() {
            let due = store.inbox_lanes(now, LANES_OF_ONE, LANES).await?;
            let is_slow = |server: &ServerName| fed.fetching().servers.is_slow(server);
            for (lane, haste) in turns.begin(&due, store.clock().monotonic(), is_slow) {
                workers.push(async move { (take_turn(fed, &lane, haste).await, lane) });
            }
        }
        let due = store.inbox_next_due(now).await?.map(|due| due - now);
        let due = due.map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or(0)));
        let rest = turns.rest(looked_at);
        let next = [due, rest].into_iter().flatten().min();
        let next = next.map_or(LONGEST_SLEEP, |next| next.min(LONGEST_SLEEP));
        tokio::select! {
            Some((done, lane)) = workers.next(), if !workers.is_empty() => {
                let until = done?.map(|rest| store.clock().monotonic() + rest);
                turns.end(lane, until);
            }
            () = fed.inbox().notified(), if !turns.is_full() => {}
            () = store.clock().sleep_until(looked_at + next), if !turns.is_full() => {}
        }
    }
}

/// Forgets what nobody will ask for again.
async fn tidy(fed: &Federation, now: i64) -> Result<(), Error> {
    let store = fed.store();
    store.forget_inbound_txns(now - millis(REMEMBERED)).await?;
    let given_up = store.inbox_forget(now - millis(KEPT)).await?;
    if given_up > 0 {
        tracing::warn!(given_up, "events could not be decided for days");
    }
    fed.keys().forget_strangers().await;
    Ok(())
}

/// How long after its beginning a turn begins with nothing new, and the longest that one event may take. What
/// gathering does has times of its own; this one is for everything.
const fn times(haste: Haste) -> (Duration, Duration) {
    match haste {
        Haste::Quick => (Duration::from_secs(5), Duration::from_secs(20)),
        Haste::Patient => (Duration::from_mins(1), Duration::from_mins(4)),
    }
}

/// What became of an event in a turn.
enum Done {
    /// It is out of the inbox. Whether the room has got on.
    Out(bool),
    /// It stays, to be tried again.
    Stays,
    /// Neither it nor what follows it can be tried before this time is over.
    NotNow(Duration),
}

/// Decides a few of the due events that one origin gave us of one room. How long the others can't be tried.
async fn take_turn(fed: &Federation, lane: &Lane, haste: Haste) -> Result<Option<Duration>, Error> {
    let (room_id, origin) = lane;
    let store = fed.store();
    let begun = store.clock().monotonic();
    let now = store.clock().now_ms();
    let claim = (now, now + millis(CLAIMED_FOR));
    let only_new = haste == Haste::Quick;
    let claimed = store
        .inbox_claim(room_id, origin, only_new, claim, CLAIM)
        .await?;
    let (begin_within, _) = times(haste);
    let mut got_on = false;
    let mut rest = None;
    for event in &claimed {
        let late = store.clock().monotonic().saturating_sub(begun) > begin_within;
        // Who has turned out to be slow goes on with those who have time.
        let is_slow = haste == Haste::Quick && fed.fetching().servers.is_slow(origin);
        if late || is_slow || rest.is_some() {
            put_off(fed, event, Duration::ZERO).await?;
            continue;
        }
        match one(fed, event, haste).await? {
            Done::Out(progress) => got_on |= progress,
            Done::Stays => {}
            Done::NotNow(wait) => {
                rest = Some(wait);
                put_off(fed, event, Duration::ZERO).await?;
            }
        }
    }
    if got_on {
        look_again(fed, room_id).await?;
    }
    Ok(rest)
}

/// Others may have waited for what has come, even if their time hasn't.
async fn look_again(fed: &Federation, room_id: &RoomId) -> Result<(), Error> {
    let store = fed.store();
    for _ in 0..LOOKS {
        let (of_one, of_all) = LOOKED_AT;
        let now = store.clock().now_ms();
        let mut got_on = false;
        for event in store.inbox_waiting(room_id, now, of_one, of_all).await? {
            let Some(pdu) = read_back(&event) else {
                continue;
            };
            // It goes in its own turn.
            if !is_let_in(fed, &event).await? {
                continue;
            }
            // What fails here is found out at its next attempt.
            let is_whole = pdu.is_whole();
            if let Ok(Outcome::Decided(outcome)) = gather::look(fed, pdu).await {
                tracing::debug!(event = %event.event_id, ?outcome, "decided an event that waited");
                decided(fed, &event, is_whole).await?;
                got_on = true;
            }
        }
        if !got_on {
            break;
        }
    }
    Ok(())
}

/// Tries one event.
async fn one(fed: &Federation, event: &InboxEvent, haste: Haste) -> Result<Done, Error> {
    let store = fed.store();
    let Some(pdu) = read_back(event) else {
        tracing::error!(event = %event.event_id, "an event of the inbox can't be read: dropped");
        return give_up(fed, event).await;
    };
    let resident = access::server_in_room(fed.store(), &event.room_id, fed.server_name()).await;
    if !resident.map_err(database)? {
        if fed.joining().rules(&event.room_id).is_some() {
            return Ok(Done::NotNow(A_MOMENT));
        }
        tracing::info!(event = %event.event_id, room = %event.room_id, "not in the room: event dropped");
        return give_up(fed, event).await;
    }
    if !is_let_in(fed, event).await? {
        tracing::info!(event = %event.event_id, origin = %event.origin, "denied by the room's server ACL: event dropped");
        return give_up(fed, event).await;
    }
    let is_whole = pdu.is_whole();
    let gathering = async {
        sticky::fetch(fed, &event.origin, &pdu).await?;
        gather::receive(fed, &event.origin, pdu, haste).await
    };
    let Ok(outcome) = tokio::time::timeout(times(haste).1, gathering).await else {
        let now = store.clock().monotonic();
        fed.fetching().servers.was_slow(&event.origin, now);
        return vain(fed, event, &[]).await;
    };
    match outcome {
        Ok(Outcome::Decided(outcome)) => {
            tracing::debug!(event = %event.event_id, ?outcome, "decided an event of the inbox");
            decided(fed, event, is_whole).await?;
            Ok(Done::Out(true))
        }
        Ok(Outcome::Undecided(need)) => {
            let lacks: Vec<&OwnedEventId> = need.prev.iter().chain(&need.auth).collect();
            vain(fed, event, &lacks).await
        }
        Ok(Outcome::NotNow(wait)) => Ok(Done::NotNow(wait)),
        Err(rhizome_rooms::Error::Store(error)) => Err(error),
        Err(rhizome_rooms::Error::Contended) => {
            put_off(fed, event, A_MOMENT).await?;
            Ok(Done::Stays)
        }
        Err(error) => {
            tracing::info!(event = %event.event_id, %error, "dropped an event of the inbox");
            give_up(fed, event).await
        }
    }
}

/// Whether the room's ACL lets in who gave us an event. When it came there may have been no room to ask: we were joining it.
async fn is_let_in(fed: &Federation, event: &InboxEvent) -> Result<bool, Error> {
    match fed.store().room(&event.room_id).await? {
        Some(head) => acl::is_allowed(fed, &event.origin, &head).await,
        None => Ok(true),
    }
}

/// A decided event goes. If it came without its content, the copy of another server may have it.
async fn decided(fed: &Federation, event: &InboxEvent, is_whole: bool) -> Result<(), Error> {
    let (store, id) = (fed.store(), &event.event_id);
    if is_whole {
        store.inbox_done(id).await
    } else {
        store.inbox_give_up(id, &event.origin).await
    }
}

/// An attempt was made and didn't help.
async fn vain(
    fed: &Federation,
    event: &InboxEvent,
    lacks: &[&OwnedEventId],
) -> Result<Done, Error> {
    let is_member = access::server_in_room(fed.store(), &event.room_id, &event.origin).await;
    let most = if is_member.map_err(database)? {
        MAX_ATTEMPTS
    } else {
        MAX_ATTEMPTS_OF_STRANGERS
    };
    if event.attempts + 1 >= most {
        tracing::warn!(event = %event.event_id, origin = %event.origin, ?lacks, "given up an event");
        return give_up(fed, event).await;
    }
    let due = fed.store().clock().now_ms() + millis(wait(event.attempts));
    fed.store()
        .inbox_later(&event.event_id, &event.origin, due)
        .await?;
    Ok(Done::Stays)
}

async fn give_up(fed: &Federation, event: &InboxEvent) -> Result<Done, Error> {
    fed.store()
        .inbox_give_up(&event.event_id, &event.origin)
        .await?;
    Ok(Done::Out(false))
}

/// Leaves an event for later that wasn't tried.
async fn put_off(fed: &Federation, event: &InboxEvent, wait: Duration) -> Result<(), Error> {
    let due = fed.store().clock().now_ms() + millis(wait);
    fed.store()
        .inbox_put_off(&event.event_id, &event.origin, due)
        .await
}

fn read_back(event: &InboxEvent) -> Option<Arc<Pdu>> {
    let rules = RoomRules::named(&event.room_version)?;
    Pdu::from_stored(rules, event.event_id.clone(), event.event.clone())
        .ok()
        .map(Arc::new)
}

fn wait(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
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
