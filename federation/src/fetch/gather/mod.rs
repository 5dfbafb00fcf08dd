//! Fetching what a received event needs before it can be decided: missing prev events, the state where
//! the gap stays open, missing auth events. Bounded in requests, events and time; no lock is held.
//!
//! 0. What comes before all that we have seen of the room, and is known to, is no news: it comes by
//!    `/backfill` when somebody pages back to it.
//! 1. [`rhizome_rooms::receive::receive`] is asked. It decides, or says what it [`Need`]s.
//! 2. Missing auth events: `/event_auth`, then `/event` for what is still missing.
//! 3. Missing prev events: `/get_missing_events` until it meets what we have, or enough came; what comes is
//!    received in order, each by 1, 2 and 4. A server that pushes an event and doesn't give what it builds
//!    on isn't believed: its event waits. One event that can't be had blocks nothing but the one after it, and that
//!    only until a third event builds on both: then the second one comes by step 3 itself.
//! 4. Where what came by step 3 has missing prevs, the history gets a gap: the states after the prevs come by
//!    `/state_ids` and `/event` (or `/state`, when most of it is unknown), as outliers. Where nobody gives one of these, so
//!    does the state before the event.
//! 5. What then lacks nothing but the signature of the room's policy server gets it from that.
//!
//! For a server that isn't in the room, as far as we know, steps 2 and 4 ask its members, and what the room doesn't allow of what it
//! gives isn't kept: it could fill our disk with what nobody is in need of.

mod lacking;
mod once;
mod search;
mod servers;
mod state;
mod whole;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rhizome_protocol::{Pdu, topological::by_prev_events};
use rhizome_rooms::{
    Error,
    policy_server::Asked,
    receive::{self, Gathered, Need, Received},
};
use rhizome_storage::{Direction, HistoryToken, Placement, Pos, RoomHead};
use ruma::{EventId, OwnedEventId, ServerName, UInt, api::federation::event::get_missing_events};

pub(super) use self::state::{at_gap, auth_events};
pub(crate) use self::{
    lacking::Lacking,
    once::Once,
    servers::Servers,
    whole::{Source, Unfit, at_gap_before, state_before},
};
use self::{
    lacking::What,
    search::{Search, Sought, ask, note_lack},
};
use crate::{
    Federation,
    fetch::verify,
    outbound::answer,
    policy::{self, Answer},
};

/// How many missing events are asked for at once.
const MISSING_LIMIT: u32 = 50;
/// A shorter answer than this holds all that the other server has to give.
const FULL_ANSWER: usize = 10;
/// The most missing events that are fetched before an event; what is before those stays a gap.
const MAX_MISSING: usize = 200;
/// How many events are named as the ends of what is missing.
const MAX_ENDS: usize = 20;
/// How often the core is asked again after something came.
const MAX_ROUNDS: usize = 6;

/// What came of an event.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is decided, whichever way.
    Decided(Received),
    /// What it needs can't be had now.
    Undecided(Need),
    /// Nobody could be asked for what it needs: to be tried after this time.
    NotNow(Duration),
}

/// How much time there is for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Haste {
    /// A first try: who doesn't answer soon isn't waited for.
    Quick,
    /// Servers have the time that they need.
    Patient,
}

/// Decides a checked event that `origin` gave us, fetching what is missing.
///
/// # Errors
/// Those of the database, and [`Error::UnknownRoom`]. What other servers fail to give is no error.
pub(crate) async fn receive(
    fed: &Federation,
    origin: &ServerName,
    pdu: Arc<Pdu>,
    haste: Haste,
) -> Result<Outcome, Error> {
    let outcome = look(fed, Arc::clone(&pdu)).await?;
    let (Outcome::Undecided(_), Some(head)) = (&outcome, fed.store().room(pdu.room_id()).await?)
    else {
        return Ok(outcome);
    };
    let sender = pdu.sender().server_name();
    let mut search = Search::new(fed, &head, origin, sender, haste).await?;
    let gathered = Gathered::default();
    let outcome = settle(fed, &mut search, &head, pdu, (Came::Pushed, gathered)).await?;
    Ok(match outcome {
        Outcome::Undecided(need) => search
            .not_now(fed)
            .map_or(Outcome::Undecided(need), Outcome::NotNow),
        decided => decided,
    })
}

/// [`receive`] without asking anybody: steps 0 and 1.
///
/// # Errors
/// The same.
pub(crate) async fn look(fed: &Federation, pdu: Arc<Pdu>) -> Result<Outcome, Error> {
    let head = fed
        .store()
        .room(pdu.room_id())
        .await?
        .ok_or_else(|| Error::UnknownRoom(pdu.room_id().to_owned()))?;
    // Step 0.
    let is_missing = fed
        .store()
        .is_missing_prev(head.room, pdu.event_id())
        .await?;
    if is_missing && is_before_us(fed, &head, &pdu).await? {
        return Ok(Outcome::Decided(Received::Known));
    }
    let received = receive::pushed(fed.rooms(), pdu, &Gathered::default()).await?;
    Ok(match received {
        Received::Need(need) => Outcome::Undecided(need),
        decided => Outcome::Decided(decided),
    })
}

/// Whether an event lies before the first that was news here.
pub(crate) async fn is_before_us(
    fed: &Federation,
    head: &RoomHead,
    pdu: &Pdu,
) -> Result<bool, Error> {
    let (store, upto) = (fed.store(), fed.store().log().head());
    let first = store.live_after(head.room, Pos(0), upto, 1).await?;
    Ok(first.first().is_some_and(|first| pdu.depth() < first.depth))
}

/// How an event came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    /// A server sent it: missing prevs are asked for, and it isn't decided without them. With a state of
    /// the sender's choice before it, it could become the room's only end.
    Pushed,
    /// We asked for it as a missing prev: it gets the state at the gap, so that this doesn't go on for ever.
    Fetched,
}

/// The procedure of this module for one event.
async fn settle(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    mut pdu: Arc<Pdu>,
    (came_by, mut gathered): (Came, Gathered),
) -> Result<Outcome, Error> {
    let mut chased = false;
    let mut need = Need::default();
    for _ in 0..MAX_ROUNDS {
        let received = if came_by == Came::Fetched && search.is_of_member() {
            receive::receive(fed.rooms(), Arc::clone(&pdu), &gathered).await?
        } else {
            receive::pushed(fed.rooms(), Arc::clone(&pdu), &gathered).await?
        };
        need = match received {
            Received::Need(need) => need,
            decided => return Ok(Outcome::Decided(decided)),
        };
        if let Some(policy) = need.signature.take() {
            // Step 5.
            let answer = policy::ask_about(fed, search.cause(), &policy, &pdu).await;
            match answer {
                Answer::Signed(signed) => pdu = signed,
                Answer::Refused => gathered.policy = Asked::Refused(policy),
                Answer::NotNow(wait) => return Ok(Outcome::NotNow(wait)),
            }
            continue;
        }
        let mut came = false;
        if !need.auth.is_empty() {
            came |= auth_events(fed, search, head, pdu.event_id(), &need.auth).await?;
        }
        if !need.prev.is_empty() {
            if came_by == Came::Pushed {
                if chased {
                    break;
                }
                chased = true;
                missing_events(fed, search, head, &pdu, &need.prev).await?;
                // The core says which prevs are missing even so.
                continue;
            }
            let (id, unknown) = (pdu.event_id(), &need.prev);
            let told = at_gap(fed, search, head, id, unknown, &mut gathered);
            came |= Box::pin(told).await?;
        }
        if !came {
            break;
        }
    }
    Ok(Outcome::Undecided(need))
}

/// Step 3: what lies between our newest events and this one, of whose prevs these are `unknown`.
async fn missing_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    pdu: &Pdu,
    unknown: &[OwnedEventId],
) -> Result<(), Error> {
    let events = ask_for_missing(fed, search, head, pdu, unknown).await?;
    // All at once, as far as possible.
    let looked = policy::look_at(fed, search.cause(), head, events, policy::TIME_OF_ANSWER).await?;
    for event in by_prev_events(&looked.pdus) {
        let id = event.event_id().to_owned();
        let _alone = search.alone(fed, &id).await;
        if is_placed(fed, &id).await? {
            continue;
        }
        let came = (Came::Fetched, looked.gathered(&id));
        match Box::pin(settle(fed, search, head, event, came)).await? {
            Outcome::Decided(outcome) => {
                tracing::debug!(event = %id, ?outcome, "fetched a missing event");
            }
            Outcome::Undecided(_) | Outcome::NotNow(_) => {
                tracing::info!(event = %id, "a missing event can't be decided");
            }
        }
    }
    Ok(())
}

/// Asks for the events before this one until they meet what we have. One answer holds few (twenty, from
/// Synapse), so the next question starts from those that came and whose prevs are unknown even so. What is
/// before all of our history is no gap in it: of that, only what the first answer gave.
async fn ask_for_missing(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    pdu: &Pdu,
    unknown: &[OwnedEventId],
) -> Result<Vec<Arc<Pdu>>, Error> {
    // The head as it is now: what was fetched before may have moved it.
    let now = fed.store().room_by_no(head.room).await?;
    let earliest: Vec<OwnedEventId> = now
        .iter()
        .flat_map(|head| head.extremities.iter())
        .map(|extremity| extremity.event_id.clone())
        .take(MAX_ENDS)
        .collect();
    let upto = fed.store().log().head();
    let start = HistoryToken::START;
    let first = fed
        .store()
        .history(head.room, start, Direction::Forward, 1, upto)
        .await?;
    let floor = first.first().map_or(0, |event| event.depth);
    let mut came: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
    let mut latest = vec![pdu.event_id().to_owned()];
    let mut what: Vec<What> = unknown.iter().cloned().map(What::Prev).collect();
    let sought = Sought::Before(pdu.event_id());
    while !latest.is_empty() && came.len() < MAX_MISSING {
        let mut request = get_missing_events::v1::Request::new(
            head.room_id.clone(),
            earliest.clone(),
            std::mem::take(&mut latest),
        );
        request.limit = UInt::from(MISSING_LIMIT);
        let shape = &answer::MISSING_EVENTS;
        let asked = ask(fed, search, sought, &request, &what, shape);
        let Some((server, mut answer)) = asked.await else {
            break;
        };
        let mut texts = answer.take(0);
        let is_full = texts.len() >= FULL_ANSWER;
        texts.truncate(MISSING_LIMIT as usize);
        if !search.is_of_member() && *server == *search.cause() {
            texts = Box::pin(of_a_stranger(fed, head, &server, texts)).await?;
        }
        let mut events = verify::texts(fed, head.rules, &head.room_id, texts).await;
        events.retain(|event| {
            event.event_id() != pdu.event_id() && !came.contains_key(event.event_id())
        });
        came.extend(
            events
                .iter()
                .map(|event| (event.event_id().to_owned(), Arc::clone(event))),
        );
        // Of the first answer only: the questions after it are about others.
        let asked_for = what.len();
        what.retain(|what| !matches!(what, What::Prev(prev) if came.contains_key(prev)));
        let has_more = is_full && what.len() < asked_for;
        let lack = std::mem::take(&mut what);
        // Who gives some of them, and many events, may have had no place for the others.
        if !has_more {
            note_lack(fed, &server, &search.lack_of(&server, sought, &lack));
        }
        if is_full {
            events.retain(|event| event.depth() > floor);
            latest = resting_on_unknown(fed, &came, &events).await?;
        }
    }
    Ok(came.into_values().collect())
}

/// Of what a server gives that isn't in the room: events that only members and itself must have signed, and others as long as
/// it hasn't made us look for the keys of too many. They may have nothing to do with it.
async fn of_a_stranger(
    fed: &Federation,
    head: &RoomHead,
    server: &ServerName,
    texts: Vec<Bytes>,
) -> Result<Vec<Bytes>, Error> {
    let members = fed.store().joined_servers(head.room).await?;
    let stranger = server.to_owned();
    let is_known = move |server: &ServerName| {
        *server == *stranger || members.iter().any(|member| *member == *server)
    };
    let (mut known, others) = verify::by_signers(head.rules, texts, is_known).await;
    if fed.budgets().newcomers(server, others.len()).is_ok() {
        known.extend(others);
    }
    Ok(known)
}

/// Those of `events` with a prev that neither came nor is part of the room's history.
async fn resting_on_unknown(
    fed: &Federation,
    came: &HashMap<OwnedEventId, Arc<Pdu>>,
    events: &[Arc<Pdu>],
) -> Result<Vec<OwnedEventId>, Error> {
    let prevs: Vec<OwnedEventId> = events
        .iter()
        .flat_map(|event| event.prev_events())
        .filter(|prev| !came.contains_key(*prev))
        .cloned()
        .collect();
    let stored = fed.store().events(&prevs).await?;
    let placed: HashSet<&EventId> = stored
        .iter()
        .filter(|event| event.placement != Placement::Outlier)
        .map(|event| event.pdu.event_id())
        .collect();
    let is_unknown = |prev: &OwnedEventId| {
        !came.contains_key(prev) && !placed.contains(prev.as_ref() as &EventId)
    };
    let mut resting = events.to_vec();
    resting.retain(|event| event.prev_events().iter().any(is_unknown));
    resting.truncate(MAX_ENDS);
    Ok(ids(&resting))
}

/// Whether we have the event as part of the room's history, not just as an outlier.
pub(super) async fn is_placed(fed: &Federation, id: &EventId) -> Result<bool, Error> {
    let event = fed.store().event(id).await?;
    Ok(event.is_some_and(|event| event.placement != Placement::Outlier))
}

/// What may be asked for a page of history that `origin` gave us, by steps 2 and 4.
pub(super) async fn for_history(
    fed: &Federation,
    head: &RoomHead,
    origin: &ServerName,
) -> Result<Search, Error> {
    // It has just told us of the events.
    fed.fetching().servers.answered(origin);
    Search::new(fed, head, origin, origin, Haste::Patient).await
}

fn ids(events: &[Arc<Pdu>]) -> Vec<OwnedEventId> {
    events
        .iter()
        .map(|event| event.event_id().to_owned())
        .collect()
}
