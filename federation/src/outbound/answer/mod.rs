//! What other servers answer, and how much of it we take.
//!
//! Every answer has a limit, in the table below. Those that hold many events are never there as a whole: they are
//! cut into their events while they come ([`cut`]), elements are counted and bounded, and an answer that grows
//! large waits for its turn ([`budget`]), so that several don't add up.

mod budget;
mod cut;

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use futures_util::StreamExt as _;
use ruma::ServerName;

use crate::outbound::error::{OutboundError, cause};
pub(crate) use budget::{AnswerBudget, Budgets};
use cut::Cutter;

/// `make_join`, `make_leave`, `make_knock`: an event of a few fields.
pub(crate) const TEMPLATE: usize = 256 << 10;
/// `send_leave`: nothing that matters.
pub(crate) const NOTHING: usize = 64 << 10;
/// `event`, `invite`: one event.
pub(crate) const EVENT: usize = LONGEST_EVENT + (64 << 10);
/// `send_knock`: the state that tells what a room is.
pub(crate) const STRIPPED: usize = 1 << 20;
/// A profile, and what software a server runs.
pub(crate) const PROFILE: usize = 256 << 10;
/// Where an alias leads: big servers name every server of a room.
pub(crate) const ALIAS: usize = 1 << 20;
/// A page of a room directory.
pub(crate) const PUBLIC_ROOMS: usize = 4 << 20;
/// A server's own keys: two hundred at most.
pub(crate) const KEYS: usize = 64 << 10;
/// The keys of fifty servers.
pub(crate) const NOTARY: usize = 4 << 20;
/// Lists of devices, and keys of many users.
pub(crate) const DEVICES: usize = 16 << 20;
/// A signature of a policy server, as others may be beside it.
pub(crate) const SIGNATURES: usize = 64 << 10;
/// The text of a refusal.
pub(crate) const REFUSAL: usize = 64 << 10;

/// `send_join`: all of a room. Rooms of 100,000 members take about 100 MiB.
pub(crate) static SEND_JOIN: Shape = Shape {
    lists: &["state", "auth_chain"],
    single: Some("event"),
    names: Some("servers_in_room"),
    flag: Some("members_omitted"),
    of: Of::Events,
    body: 256 << 20,
    elements: 500_000,
    purpose: Purpose::Joining,
};
/// `state`: the same.
pub(crate) static STATE: Shape = Shape {
    lists: &["pdus", "auth_chain"],
    single: None,
    names: None,
    flag: None,
    of: Of::Events,
    body: 192 << 20,
    elements: 400_000,
    purpose: Purpose::Gathering,
};
/// `state_ids`: the same as ids, each once in the state and once among the auth events.
pub(crate) static STATE_IDS: Shape = Shape {
    lists: &["pdu_ids", "auth_chain_ids"],
    single: None,
    names: None,
    flag: None,
    of: Of::Ids,
    body: 32 << 20,
    elements: 400_000,
    purpose: Purpose::Gathering,
};
/// `event_auth`: the history of a room's powers and of some memberships.
pub(crate) static EVENT_AUTH: Shape = Shape {
    lists: &["auth_chain"],
    single: None,
    names: None,
    flag: None,
    of: Of::Events,
    body: 16 << 20,
    elements: 20_000,
    purpose: Purpose::Gathering,
};
/// `get_missing_events`: of 50 that were asked for, but some servers give more.
pub(crate) static MISSING_EVENTS: Shape = Shape {
    lists: &["events"],
    single: None,
    names: None,
    flag: None,
    of: Of::Events,
    body: 8 << 20,
    elements: 500,
    purpose: Purpose::Gathering,
};
/// `backfill`: of 100.
pub(crate) static BACKFILL: Shape = Shape {
    lists: &["pdus"],
    single: None,
    names: None,
    flag: None,
    of: Of::Events,
    body: 16 << 20,
    elements: 1_000,
    purpose: Purpose::Gathering,
};

/// No event is shorter: it has a hash and a signature.
const SHORTEST_EVENT: usize = 100;
/// An event has at most 64 KiB in its shortest form; escapes make that longer, and what is unsigned.
const LONGEST_EVENT: usize = 512 << 10;
/// Ids have at most 255 bytes; escapes make them longer.
const LONGEST_ID: usize = 512;
/// So many servers are believed to be in a room.
pub(crate) const MOST_NAMES: usize = 10_000;
/// Nothing more of an answer for so long, and it is given up.
const STALLED: Duration = Duration::from_secs(30);
/// How much is looked at before others get their turn.
const SLICE: usize = 64 << 10;

/// The form of an answer that holds many events or ids, and its limits.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Members that are lists.
    pub(crate) lists: &'static [&'static str],
    /// A member that is one of what the lists have many of.
    pub(crate) single: Option<&'static str>,
    /// A member that is a list of servers' names.
    pub(crate) names: Option<&'static str>,
    /// A member that is true or not.
    pub(crate) flag: Option<&'static str>,
    pub(crate) of: Of,
    /// The most bytes.
    pub(crate) body: usize,
    /// The most elements of all lists together.
    pub(crate) elements: usize,
    pub(crate) purpose: Purpose,
}

/// What the elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Events,
    Ids,
}

/// What for: who waits for a room isn't to wait for what strangers make us ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Joining,
    Gathering,
}

impl Of {
    fn longest(self) -> usize {
        match self {
            Self::Events => LONGEST_EVENT,
            Self::Ids => LONGEST_ID,
        }
    }

    /// Whether this may be one, by what shows at a glance.
    fn fits(self, text: &[u8]) -> bool {
        match self {
            Self::Events => text.len() >= SHORTEST_EVENT && text[0] == b'{',
            Self::Ids => text.first() == Some(&b'"'),
        }
    }
}

/// An answer in pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    lists: Vec<Vec<Bytes>>,
    /// The value of the shape's single member.
    pub(crate) single: Option<Bytes>,
    /// The elements of the shape's list of names, the first [`MOST_NAMES`].
    pub(crate) names: Vec<Bytes>,
    /// Whether the shape's flag is set.
    pub(crate) flag: bool,
    /// How many elements were left out, as they can't be what was asked for.
    pub(crate) unfit: usize,
    /// The answer's share of what all may hold; to be kept until it is dealt with.
    pub(crate) held: AnswerBudget,
}

impl Pieces {
    fn new(shape: &Shape) -> Self {
        Self {
            lists: shape.lists.iter().map(|_| Vec::new()).collect(),
            single: None,
            names: Vec::new(),
            flag: false,
            unfit: 0,
            held: AnswerBudget::default(),
        }
    }

    /// Whether there is anything in the shape's first list.
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.first().is_none_or(Vec::is_empty)
    }

    /// How many elements its lists have, with those that were left out.
    pub(crate) fn count(&self) -> usize {
        self.lists.iter().map(Vec::len).sum::<usize>() + self.unfit
    }

    /// Takes the elements of one of the shape's lists.
    pub(crate) fn take(&mut self, list: usize) -> Vec<Bytes> {
        self.lists
            .get_mut(list)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

/// Cuts an answer of this shape into pieces as it comes.
///
/// # Errors
/// It is larger than it may be, isn't of that shape, breaks off, or nothing more of it comes.
pub(crate) async fn read(
    body: Body,
    shape: &'static Shape,
    from: &ServerName,
    budgets: &Budgets,
) -> Result<Pieces, OutboundError> {
    let too_large = || OutboundError::Answer(format!("it has more than {} bytes", shape.body));
    if body.size_hint().lower() > shape.body as u64 {
        return Err(too_large());
    }
    let mut cutter = Cutter::new(shape);
    let mut held = AnswerBudget::default();
    let mut size = 0;
    let mut stream = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(STALLED, stream.next()).await;
        let Some(part) = next.map_err(|_| OutboundError::Timeout)? else {
            break;
        };
        let part = part.map_err(|error| OutboundError::Transport(cause(&error)))?;
        size += part.len();
        if size > shape.body {
            return Err(too_large());
        }
        budgets.grow(&mut held, shape.purpose, from, size).await;
        for slice in part.chunks(SLICE) {
            cutter.feed(slice).map_err(OutboundError::Answer)?;
            if slice.len() == SLICE {
                tokio::task::yield_now().await;
            }
        }
    }
    let mut pieces = cutter.finish().map_err(OutboundError::Answer)?;
    pieces.held = held;
    Ok(pieces)
}
