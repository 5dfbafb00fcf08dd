//! Whom to ask for what is missing, and what asking may still cost.
//!
//! First the server that gave us the event, as it must have what it builds on; then its sender's; then a few others
//! of the room, which have nothing to do with it and are asked little. Each request is counted as it goes out; what a
//! server lacked lately isn't asked of it again, and nothing is asked of one server twice at once.
//!
//! A server that isn't in the room, as far as we know, is asked for history alone: its join may be there, on its way to us. States,
//! and what events rest on, only members tell us. What others give would be kept without a place, however much it is.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rhizome_protocol::Pdu;
use rhizome_rooms::Error;
use rhizome_storage::RoomHead;
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, api::federation::event::get_event};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{
    Haste,
    lacking::{Waits, What, is_lack},
    servers,
};
use crate::{
    Federation,
    fetch::verify,
    keyed::KeyedGuard,
    outbound::{
        Limits, OutboundError,
        answer::{self, Pieces, Shape},
    },
};

/// The longest that gathering for one event takes.
const TIME: Duration = Duration::from_mins(2);
/// The same for a first try, and the longest that one server is waited for in it.
const QUICK_TIME: Duration = Duration::from_secs(10);
const QUICK_PATIENCE: Duration = Duration::from_secs(4);
/// The longest that somebody else is waited for who fetches the same. They may have come to a server that is silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most requests for one event to the server that gave it to us, and to all others.
const MAX_REQUESTS: usize = 1_000;
const MAX_TO_OTHERS: usize = 40;
/// How many single events are asked for at the same time.
const PARALLEL: usize = 8;
/// When to look again if all that may be asked has been.
const SPENT: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought<'a> {
    /// Events before this one, that get a place in the history.
    Before(&'a EventId),
    /// Events without one: a state, or what others rest on.
    Aside,
}

/// What gathering for one event may still cost, and whom it asks.
pub(in crate::fetch) struct Search {
    /// The server whose event gives rise to this.
    cause: OwnedServerName,
    /// Whether that is in the room.
    is_of_member: bool,
    /// The server of the event's sender.
    sender: OwnedServerName,
    of_cause: AtomicUsize,
    of_others: AtomicUsize,
    asked: AtomicUsize,
    until: Instant,
    patience: Option<Duration>,
    servers: Vec<OwnedServerName>,
}

/// What became of a question.
enum Heard<T> {
    Answer(T),
    /// The server hasn't got it, or what it gives is of no use.
    Lacks,
    /// It wasn't asked, or there is no answer.
    Nothing,
}

impl Search {
    /// For an event that `origin` gave us and a user of `sender` made.
    pub(super) async fn new(
        fed: &Federation,
        head: &RoomHead,
        origin: &ServerName,
        sender: &ServerName,
        haste: Haste,
    ) -> Result<Self, Error> {
        let (time, patience) = match haste {
            Haste::Quick => (QUICK_TIME, Some(QUICK_PATIENCE)),
            Haste::Patient => (TIME, None),
        };
        let in_room = fed.store().joined_servers(head.room).await?;
        Ok(Self {
            cause: origin.to_owned(),
            is_of_member: in_room.iter().any(|server| server == origin),
            sender: sender.to_owned(),
            of_cause: MAX_REQUESTS.into(),
            of_others: MAX_TO_OTHERS.into(),
            asked: 0.into(),
            until: Instant::now() + time,
            patience,
            servers: servers::to_ask(fed.server_name(), &in_room, origin, sender),
        })
    }

    /// The server whose event gives rise to this.
    pub(super) fn cause(&self) -> &ServerName {
        &self.cause
    }

    /// Whether that server is in the room.
    pub(super) fn is_of_member(&self) -> bool {
        self.is_of_member
    }

    /// Whom to ask for this, in order.
    fn whom(&self, sought: Sought<'_>) -> Vec<&OwnedServerName> {
        let with_cause = self.is_of_member || matches!(sought, Sought::Before(_));
        let servers = self.servers.iter();
        servers
            .filter(|server| with_cause || **server != self.cause)
            .collect()
    }

    /// What a server lacks that gives nothing of this. Who mayn't even have the event says nothing about what is before it, which
    /// it may have: somebody else could make us believe that it hasn't, by an event that only they have.
    pub(super) fn lack_of<'a>(
        &self,
        server: &ServerName,
        sought: Sought<'_>,
        what: &'a [What],
    ) -> Cow<'a, [What]> {
        let has_event = *server == *self.cause || *server == *self.sender;
        match sought {
            Sought::Before(id) if !has_event && !what.is_empty() => {
                Cow::Owned(vec![What::Before(id.to_owned())])
            }
            _ => Cow::Borrowed(what),
        }
    }

    /// Takes one request to this server from the budgets.
    fn take(&self, fed: &Federation, server: &ServerName) -> bool {
        let now = fed.store().clock().monotonic();
        let servers = &fed.fetching().servers;
        let cause = &*self.cause;
        let rests = servers.rest_of(server, now).is_some();
        if Instant::now() >= self.until || rests {
            return false;
        }
        let left = if cause == server {
            &self.of_cause
        } else {
            &self.of_others
        };
        let fewer = |left: usize| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
            .is_ok()
            && servers.take(cause, server, now)
    }

    /// Whether a server needn't be asked, as it was lately, and had none of these. It counts as asked: who says that it
    /// hasn't got something isn't asked more often than who is silent.
    fn is_vain(&self, fed: &Federation, server: &ServerName, what: &[What]) -> bool {
        let is_vain = !what.is_empty() && what.iter().all(|one| lacks(fed, server, one));
        if is_vain {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        is_vain
    }

    /// Of those who are asked for states and single events, whether each lacked this lately, …
    pub(super) fn all_lack(&self, fed: &Federation, what: &What) -> bool {
        let mut servers = self.whom(Sought::Aside).into_iter();
        servers.all(|server| lacks(fed, server, what))
    }

    /// … or one did.
    pub(super) fn any_lacks(&self, fed: &Federation, what: &What) -> bool {
        let mut servers = self.whom(Sought::Aside).into_iter();
        servers.any(|server| lacks(fed, server, what))
    }

    /// Waits for others who fetch what this event needs: what they have got needn't be fetched again. Not for long.
    pub(in crate::fetch) async fn alone(
        &self,
        fed: &Federation,
        event_id: &EventId,
    ) -> Option<KeyedGuard<OwnedEventId>> {
        let turn = fed.fetching().gaps.lock(event_id.to_owned());
        let patience = self.patience.unwrap_or(PATIENCE);
        let until = self.until.min(Instant::now() + patience);
        timeout_at(until, turn).await.ok()
    }

    /// Sends a request within the budgets, and notes how the server was.
    async fn hear<T>(
        &self,
        fed: &Federation,
        server: &ServerName,
        sent: impl Future<Output = Result<T, OutboundError>>,
    ) -> Heard<T> {
        if !self.take(fed, server) {
            return Heard::Nothing;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (servers, clock) = (&fed.fetching().servers, fed.store().clock());
        let began = Instant::now();
        let until = self
            .patience
            .map_or(self.until, |patience| self.until.min(began + patience));
        let heard = timeout_at(until, sent).await;
        let (in_time, now) = (began.elapsed() < QUICK_PATIENCE, clock.monotonic());
        match &heard {
            Ok(Err(error)) if error.is_unreachable() => {
                servers.failed(server, now, fed.config().retry_min);
            }
            Ok(_) if in_time => servers.answered(server),
            Ok(_) => servers.answered_late(server, now),
            // Not its fault if little time was left.
            Err(_) if in_time => {}
            Err(_) => servers.was_slow(server, now),
        }
        match heard {
            Ok(Ok(answer)) => Heard::Answer(answer),
            Ok(Err(error)) => {
                tracing::debug!(%server, %error, "a server can't help with what is missing");
                if is_lack(&error) {
                    Heard::Lacks
                } else {
                    Heard::Nothing
                }
            }
            Err(_) => Heard::Nothing,
        }
    }

    /// If nobody was asked: when it may be of use to look again. All who could be are resting, or enough was asked
    /// of them.
    pub(super) fn not_now(&self, fed: &Federation) -> Option<Duration> {
        if self.asked.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let now = fed.store().clock().monotonic();
        let rests = self
            .servers
            .iter()
            .filter_map(|server| fed.fetching().servers.rest_of(server, now));
        Some(rests.min().unwrap_or(SPENT))
    }
}

fn lacks(fed: &Federation, server: &ServerName, what: &What) -> bool {
    let now = fed.store().clock().monotonic();
    fed.fetching().lacking.is_known(server, what, now)
}

/// Remembers that a server lacks these.
pub(super) fn note_lack(fed: &Federation, server: &ServerName, what: &[What]) {
    let now = fed.store().clock().monotonic();
    let config = fed.config();
    let waits = Waits::of(config.retry_min, config.retry_max);
    for one in what {
        fed.fetching().lacking.note(server, one, now, waits);
    }
}

/// Fetches single events, a few at a time; what can't be had or isn't right is absent. Only what one server doesn't
/// give is asked of the next.
pub(super) async fn single_events(
    fed: &Federation,
    search: &mut Search,
    head: &RoomHead,
    wanted: &[OwnedEventId],
) -> Vec<Arc<Pdu>> {
    let search: &Search = search;
    let mut missing = wanted.to_vec();
    let mut raws: Vec<Box<RawValue>> = Vec::new();
    let mut given: Vec<(OwnedEventId, &OwnedServerName)> = Vec::new();
    for server in search.whom(Sought::Aside) {
        let asked: Vec<(OwnedEventId, Option<Box<RawValue>>)> = stream::iter(missing)
            .map(|id| single_event(fed, search, server, id))
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        missing = Vec::new();
        for (id, answer) in asked {
            match answer {
                Some(raw) => {
                    raws.push(raw);
                    given.push((id, server));
                }
                None => missing.push(id),
            }
        }
        if missing.is_empty() {
            break;
        }
    }
    let wanted: HashSet<&EventId> = wanted.iter().map(AsRef::as_ref).collect();
    let mut events = verify::batch(fed, head.rules, &head.room_id, raws).await;
    events.retain(|event| wanted.contains(event.event_id()));
    let good: HashSet<&EventId> = events.iter().map(|event| event.event_id()).collect();
    for (id, server) in given {
        if !good.contains(&*id) {
            note_lack(fed, server, &[What::Event(id)]);
        }
    }
    events
}

async fn single_event(
    fed: &Federation,
    search: &Search,
    server: &ServerName,
    id: OwnedEventId,
) -> (OwnedEventId, Option<Box<RawValue>>) {
    let what = What::Event(id.clone());
    if search.is_vain(fed, server, std::slice::from_ref(&what)) {
        return (id, None);
    }
    let key = (server.to_owned(), id.clone());
    // Boxed: many wait at once.
    let question = Box::pin(async {
        let request = get_event::v1::Request::new(id.clone());
        let limits = Limits {
            max_body: answer::EVENT,
            ..Limits::default()
        };
        let sent = fed.outbound().send_limited(server, request, limits);
        match search.hear(fed, server, sent).await {
            Heard::Answer(answer) => Some(answer.pdu),
            Heard::Lacks => {
                note_lack(fed, server, &[what]);
                None
            }
            Heard::Nothing => None,
        }
    });
    let asked = fed.fetching().asked.get(key, question);
    // Who asks for somebody else as well may have more time.
    let answer = timeout_at(search.until, asked).await.ok().flatten();
    (id, answer)
}

/// Asks one server after the other until one gives something; which that was. `what` is asked for: who lacked all of it
/// lately isn't asked.
pub(super) async fn ask<R>(
    fed: &Federation,
    search: &mut Search,
    sought: Sought<'_>,
    request: &R,
    what: &[What],
    shape: &'static Shape,
) -> Option<(OwnedServerName, Pieces)>
where
    R: ruma::api::OutgoingRequest,
    for<'a> R::PathBuilder: ruma::api::path_builder::PathBuilder<Input<'a> = ()>,
{
    for server in search.whom(sought) {
        let lack = search.lack_of(server, sought, what);
        if search.is_vain(fed, server, &lack) {
            continue;
        }
        let sent = fed.outbound().pieces(server, request.clone(), shape);
        match search.hear(fed, server, sent).await {
            Heard::Answer(answer) if !answer.is_empty() => return Some((server.clone(), answer)),
            Heard::Answer(_) | Heard::Lacks => note_lack(fed, server, &lack),
            Heard::Nothing => {}
        }
    }
    None
}
