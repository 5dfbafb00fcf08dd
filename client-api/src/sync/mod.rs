//! `/sync`: a reader of the log that answers over HTTP (client-server API, "Syncing").
//!
//! One pass is **gather → decide → write**:
//!
//! 1. *gather* ([`window`], [`room`]): fix the position at which the answer ends, then the reader's
//!    rooms, then what happened between the reader's position and that one. Inside the log's tail
//!    that needs no SQL.
//! 2. *decide* ([`decide`]): which state goes with each timeline.
//! 3. *write* ([`write`]): the answer, put together from bytes that exist already.
//!
//! An answer with nothing in it isn't given: the reader waits for what concerns it, and passes
//! again from where it was. The WebSocket stream ([`crate::sync::socket`]) is the same pass with frames in
//! place of answers.

pub(crate) mod counts;
mod decide;
pub(crate) mod delivery;
mod devices;
mod first;
pub(crate) mod former;
mod ignored;
pub(crate) mod key_changes;
mod lazy;
mod left;
pub(crate) mod notifications;
pub(crate) mod pieces;
mod presence;
mod reader;
mod room;
mod sections;
pub(crate) mod sliding;
pub(crate) mod socket;
mod state;
mod sticky;
pub(crate) mod to_device;
pub mod window;
mod write;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::RawJson;
use rhizome_storage::{
    AccountData, KeyCounts, Logged, SyncPresence, Syncing, UserNo, WaitingMessage,
};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::sync::sync_events::v3::{self, Filter},
};

use self::{
    counts::Counting, ignored::Ignored, lazy::LazyMembers, presence::PresencePart, room::RoomPart,
};
pub use self::{counts::writer::WriteUnread, reader::Reader};
pub(crate) use self::{left::of_outside, sections::told_with, write::stripped};
use crate::{
    App, Caller, MatrixError, Ruma,
    account::presence::by_sync,
    content::pairs,
    place::token::{Token, position},
    view::{
        filter::{self, FilterDefinition},
        seen::{Seen, Viewer},
    },
};

/// The longest that a request may wait.
const MAX_TIMEOUT: Duration = Duration::from_mins(3);

/// Stored filters remembered; beyond it all are forgotten.
const MAX_FILTERS: usize = 10_000;
/// For how long, so that the database hears that they are used.
const FILTERS_KNOWN: Duration = Duration::from_hours(24);

/// A stored filter, and when it was read.
type ReadFilter = (Arc<FilterDefinition>, Duration);

/// What outlives a request: one of these is in the [`App`].
#[derive(Default, Debug)]
pub struct Shared {
    /// What devices have been told of members.
    pub lazy: LazyMembers,
    /// Whose messages users don't want to see.
    pub ignored: Ignored,
    /// How much users haven't read.
    pub counts: Counting,
    /// What devices have acknowledged of the messages for them.
    pub acknowledged: to_device::Acknowledged,
    /// The open sockets.
    pub sockets: socket::Sockets,
    /// What connections of sliding sync share.
    pub sliding: sliding::Shared,
    /// What users' devices have got, told to others.
    pub deliveries: delivery::Deliveries,
    /// What lets everything through, once for all who wait with it.
    no_filter: Arc<FilterDefinition>,
    /// Stored filters that were used; they never change.
    filters: Mutex<HashMap<(UserNo, i64), ReadFilter>>,
}

/// How a reader wants its answers.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// What it wants to hear of.
    pub filter: Arc<FilterDefinition>,
    /// All state, not only what changed.
    pub full_state: bool,
    /// State at the end of the timeline (`state_after`) rather than at its start.
    pub state_after: bool,
}

/// What one pass found.
#[derive(Debug)]
pub struct News {
    /// Where the next pass goes on.
    pub next: Token,
    /// Rooms that the reader is in, …
    pub join: Vec<(OwnedRoomId, RoomPart)>,
    /// … is invited to, …
    pub invite: Vec<(OwnedRoomId, Summons)>,
    /// … knocks on, …
    pub knock: Vec<(OwnedRoomId, Summons)>,
    /// … or has left.
    pub leave: Vec<(OwnedRoomId, RoomPart)>,
    /// Global account data.
    pub account_data: Vec<Arc<Logged<AccountData>>>,
    /// Users whose devices changed, and users whom the reader shares no room with any more.
    pub devices: Devices,
    /// What the reader's device has to give out.
    pub keys: Arc<KeyCounts>,
    /// Messages for the reader's device.
    pub to_device: Vec<WaitingMessage>,
    /// Who is there.
    pub presence: PresencePart,
}

/// An invite, or a knock that waits for an answer.
#[derive(Debug)]
pub struct Summons {
    /// What is known of the room: stripped state, as a JSON array.
    pub stripped: String,
    /// The membership event that it is (MSC4319).
    pub event: Option<Seen>,
}

/// Users whose devices changed, and users whom the reader shares no room with any more.
pub type Devices = (BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>);

impl News {
    /// Nothing, up to there.
    fn at(next: Token) -> Self {
        Self {
            next,
            join: Vec::new(),
            invite: Vec::new(),
            knock: Vec::new(),
            leave: Vec::new(),
            account_data: Vec::new(),
            devices: Default::default(),
            keys: Arc::default(),
            to_device: Vec::new(),
            presence: PresencePart::default(),
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
            && self.account_data.is_empty()
            && self.devices.0.is_empty()
            && self.devices.1.is_empty()
            && self.to_device.is_empty()
            && self.presence.told.is_empty()
    }
}

/// `GET /_matrix/client/v3/sync`
pub fn sync(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<v3::Request>>,
) -> impl Future<Output = Result<RawJson, MatrixError>> + Send {
    // Boxed and no part of this future, so that a poll doesn't hold the request while it waits.
    let reader = Box::pin(reader_of(app, who, req));
    async move {
        let (mut reader, timeout, _there) = reader.await?;
        let news = reader.next(timeout).await?;
        Ok(RawJson(reader.write(&news, None).into()))
    }
}

/// The reader that a request asks for, how long it may wait, and that its device is there meanwhile.
async fn reader_of(
    app: App,
    who: Caller,
    req: Undecoded<v3::Request>,
) -> Result<(Reader, Duration, Syncing), MatrixError> {
    let viewer = Viewer::of(&who);
    let query = req.query.as_deref();
    let presence = set_presence(&who, query)?;
    let req = req.decode()?;
    let filter = match req.filter {
        None => app.sync.no_filter.clone(),
        // Whole; what ruma has read of it is not all that we know.
        Some(Filter::FilterDefinition(_)) => {
            let text = filter::text_of_query(query).unwrap_or_default();
            Arc::new(filter::parse(&text).map_err(MatrixError::invalid_param)?)
        }
        Some(Filter::FilterId(id)) => stored_filter(&app, viewer.user, &id).await?,
        Some(_) => {
            return Err(MatrixError::invalid_param(
                "The filter is of an unknown kind",
            ));
        }
    };
    let ask = Ask {
        filter,
        full_state: req.full_state,
        state_after: req.use_state_after,
    };
    let since = match &req.since {
        None => None,
        Some(text) => position(&app.store, text).await?,
    };
    let timeout = req.timeout.unwrap_or_default().min(MAX_TIMEOUT);
    let there = (app.store).syncs(viewer.user, &viewer.device_id, presence);
    let there = there.await?;
    Ok((Reader::new(app, viewer, ask, since), timeout, there))
}

/// What a request says of its device: whether it says anything, `ruma` doesn't tell.
fn set_presence(who: &Caller, query: Option<&str>) -> Result<SyncPresence, MatrixError> {
    let pairs = pairs(query.unwrap_or_default());
    let said = pairs.iter().find(|(name, _)| name == "set_presence");
    by_sync(who, said.map(|(_, value)| value.as_str()))
}

/// The filter with this id.
pub async fn stored_filter(
    app: &App,
    user: UserNo,
    id: &str,
) -> Result<Arc<FilterDefinition>, MatrixError> {
    let unknown = || MatrixError::invalid_param("There is no such filter");
    let number = id.parse().map_err(|_| unknown())?;
    let known = app
        .sync
        .filters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&(user, number))
        .cloned();
    let now = app.store.clock().monotonic();
    if let Some((filter, read)) = known
        && now.saturating_sub(read) < FILTERS_KNOWN
    {
        return Ok(filter);
    }
    let json = app.store.filter(user, number).await?.ok_or_else(unknown)?;
    let filter = Arc::new(filter::parse(&json).map_err(MatrixError::invalid_param)?);
    let mut filters = app
        .sync
        .filters
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if filters.len() >= MAX_FILTERS {
        filters.clear();
    }
    filters.insert((user, number), (filter.clone(), now));
    Ok(filter)
}
