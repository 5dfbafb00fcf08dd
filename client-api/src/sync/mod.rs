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
//! again from where it was. The WebSocket stream ([`crate::ws`]) is the same pass with frames in
//! place of answers.

pub mod decide;
pub mod ignored;
pub mod lazy;
pub mod room;
pub mod token;
pub mod window;
pub mod write;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::State;
use rhizome_federation::RawJson;
use rhizome_protocol::Membership;
use rhizome_storage::{AccountData, Interest, MembershipRow, Pos, RoomNo, Store, UserNo};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::{
        filter::FilterDefinition,
        sync::sync_events::v3::{self, Filter},
    },
};

use self::{
    ignored::Ignored,
    lazy::LazyMembers,
    room::{Loader, RoomPart},
    token::Token,
    window::Window,
};
use crate::{
    App, MatrixError, Ruma, filter,
    seen::{self, Viewer},
};

/// The longest that a request may wait.
const MAX_TIMEOUT: Duration = Duration::from_mins(3);

/// Stored filters remembered; beyond it all are forgotten.
const MAX_FILTERS: usize = 10_000;

/// What outlives a request: one of these is in the [`App`].
#[derive(Default, Debug)]
pub struct Shared {
    /// What devices have been told of members.
    pub lazy: LazyMembers,
    /// Whose messages users don't want to see.
    pub ignored: Ignored,
    /// Stored filters that were used; they never change.
    filters: Mutex<HashMap<(UserNo, i64), Arc<FilterDefinition>>>,
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
    /// … is invited to, with their stripped state as JSON, …
    pub invite: Vec<(OwnedRoomId, String)>,
    /// … knocks on, …
    pub knock: Vec<(OwnedRoomId, String)>,
    /// … or has left.
    pub leave: Vec<(OwnedRoomId, RoomPart)>,
    /// Global account data.
    pub account_data: Vec<Arc<AccountData>>,
    /// Users whose devices changed, and users whom the reader shares no room with any more.
    pub devices: (BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>),
}

impl News {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
            && self.account_data.is_empty()
            && self.devices.0.is_empty()
            && self.devices.1.is_empty()
    }
}

/// `GET /_matrix/client/v3/sync`
pub async fn sync(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v3::Request>,
) -> Result<RawJson, MatrixError> {
    let viewer = Viewer::of(&who);
    let filter = match &req.filter {
        None => Arc::default(),
        Some(Filter::FilterDefinition(filter)) => Arc::new(filter.clone()),
        Some(Filter::FilterId(id)) => stored_filter(&app, viewer.user, id).await?,
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
    let mut reader = Reader::new(app, viewer, ask, since);
    let news = reader.next(timeout).await?;
    Ok(RawJson(reader.write(&news, None).into()))
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
    if let Some(filter) = known {
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
    filters.insert((user, number), filter.clone());
    Ok(filter)
}

/// Where a client's token points to. `None`, as though the client had sent none, for a token of
/// another epoch or from the future: it knows things that this database doesn't.
pub async fn position(store: &Store, text: &str) -> Result<Option<Token>, MatrixError> {
    let token = Token::parse(text)
        .map_err(|_| MatrixError::invalid_param("`since` is not a token of this server"))?;
    if token.epoch != store.epoch() {
        return Ok(None);
    }
    let known = token.pos <= store.log().head() || token.pos <= store.log().refresh().await?;
    Ok(known.then_some(token))
}

/// A reader of the log for one device, kept by a request or a socket.
pub struct Reader {
    app: App,
    viewer: Viewer,
    ask: Ask,
    /// Up to where the client has been told everything.
    since: Option<Token>,
    interest: Option<Interest>,
}

impl Reader {
    /// A reader that goes on from `since`.
    pub fn new(app: App, viewer: Viewer, ask: Ask, since: Option<Token>) -> Reader {
        Reader {
            app,
            viewer,
            ask,
            since,
            interest: None,
        }
    }

    /// Whether the client has been told anything yet.
    pub fn has_position(&self) -> bool {
        self.since.is_some()
    }

    /// The next news. Waits for some at most `timeout`; the first answer of all, one with
    /// `full_state`, and one at the end of the server are given at once.
    pub async fn next(&mut self, timeout: Duration) -> Result<News, MatrixError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let at_once = self.since.is_none() || self.ask.full_state;
        self.app.store.log().refresh().await?;
        loop {
            let news = self.pass().await?;
            let over = at_once
                || tokio::time::Instant::now() >= deadline
                || self.app.shutdown.is_cancelled();
            if !news.is_empty() || over {
                return Ok(news);
            }
            tokio::select! {
                () = self.woken() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(news),
                () = self.app.shutdown.cancelled() => return Ok(news),
            }
        }
    }

    /// Waits until something may concern the reader. To be called after a pass.
    pub async fn woken(&self) {
        match &self.interest {
            Some(interest) => interest.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Writes news as an answer, or, with `kind`, as a frame.
    pub fn write(&self, news: &News, kind: Option<&str>) -> String {
        write::answer(
            news,
            &self.viewer,
            &self.ask,
            self.app.store.clock().now_ms(),
            kind,
        )
    }

    /// One pass: what is new since the reader's position, which moves on.
    pub async fn pass(&mut self) -> Result<News, MatrixError> {
        let (upto, ephemeral, rows) = self.moment().await?;
        let store = &self.app.store;
        let after = self.since.as_ref().map(|token| token.pos);
        let heard = self
            .since
            .as_ref()
            .map_or(0, |token| token.ephemeral_after(ephemeral));
        let next = Token {
            epoch: store.epoch(),
            pos: upto,
            ephemeral,
        };
        let window = if let Some(after) = after {
            Window::read(store, self.viewer.user, &rows, after, upto).await?
        } else {
            self.app
                .sync
                .lazy
                .forget(&(self.viewer.user, self.viewer.device_id.clone()));
            Window::default()
        };
        let ignored = self
            .app
            .sync
            .ignored
            .of(store, self.viewer.user, after, upto, &window)
            .await?;
        let loader = Loader {
            store,
            lazy: &self.app.sync.lazy,
            viewer: &self.viewer,
            ask: &self.ask,
            ignored: &ignored,
            after,
            upto,
            ephemeral: (heard, ephemeral),
            all_account_data: tokio::sync::OnceCell::new(),
        };
        let mut news = loader.rooms(&rows, &window, next.clone()).await?;
        news.account_data = loader.global_account_data(&window).await?;
        news.devices = loader.devices(&rows, &window).await?;
        self.since = Some(next);
        Ok(news)
    }

    /// The position at which this pass ends, and the reader's memberships as of it; from here on
    /// wakes what comes later.
    async fn moment(&mut self) -> Result<(Pos, i64, Arc<[MembershipRow]>), MatrixError> {
        let store = &self.app.store;
        let log = store.log();
        loop {
            let rows = store.memberships_of(self.viewer.user).await?;
            let joined: Vec<RoomNo> = rows
                .iter()
                .filter(|row| row.membership == Membership::Join)
                .map(|row| row.room)
                .collect();
            // Interest first: what comes between it and reading the head must not be slept over.
            match &mut self.interest {
                Some(interest) => interest.set_rooms(&joined),
                None => self.interest = Some(log.interest(&joined, Some(self.viewer.user))),
            }
            let ephemeral = store.ephemeral().head();
            let upto = log.head();
            let again = store.memberships_of(self.viewer.user).await?;
            // Nothing may have moved beyond the position, or before it but after `rows` was read.
            if again == rows && rows.iter().all(|row| row.pos <= upto && row.since <= upto) {
                return Ok((upto, ephemeral, rows));
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Loader<'_> {
    async fn rooms(
        &self,
        rows: &[MembershipRow],
        window: &Window,
        next: Token,
    ) -> Result<News, MatrixError> {
        let mut news = News {
            next,
            join: Vec::new(),
            invite: Vec::new(),
            knock: Vec::new(),
            leave: Vec::new(),
            account_data: Vec::new(),
            devices: Default::default(),
        };
        let typing: HashSet<RoomNo> = match self.after {
            Some(_) => {
                let joined: Vec<RoomNo> = rows.iter().map(|row| row.room).collect();
                self.store
                    .ephemeral()
                    .changed(&joined, self.ephemeral.0)
                    .into_iter()
                    .collect()
            }
            None => HashSet::new(),
        };
        for row in rows.iter().filter(|row| !row.forgotten) {
            let fresh = self.after.is_none_or(|after| row.since > after);
            let touched =
                fresh || window.rooms.contains_key(&row.room) || typing.contains(&row.room);
            match row.membership {
                Membership::Join if touched || self.ask.full_state => {
                    let Some(room_id) = self.wanted(row.room).await? else {
                        continue;
                    };
                    let part = self.joined(row, window.rooms.get(&row.room)).await?;
                    if !part.is_empty() {
                        news.join.push((room_id, part));
                    }
                }
                Membership::Invite | Membership::Knock if fresh => {
                    let Some(room_id) = self.wanted(row.room).await? else {
                        continue;
                    };
                    let Some(stripped) = self.stripped(row).await? else {
                        continue;
                    };
                    let list = if row.membership == Membership::Invite {
                        &mut news.invite
                    } else {
                        &mut news.knock
                    };
                    list.push((room_id, stripped));
                }
                Membership::Leave | Membership::Ban
                    if fresh || window.rooms.contains_key(&row.room) =>
                {
                    let tell = match self.after {
                        None => self.ask.filter.room.include_leave,
                        Some(after) => row.pos > after,
                    };
                    if !tell {
                        continue;
                    }
                    let Some(room_id) = self.wanted(row.room).await? else {
                        continue;
                    };
                    news.leave.push((room_id, self.left(row).await?));
                }
                _ => {}
            }
        }
        Ok(news)
    }

    async fn wanted(&self, room: RoomNo) -> Result<Option<OwnedRoomId>, MatrixError> {
        let room_id = self.store.room_id(room).await?;
        Ok(filter::room_wanted(&self.ask.filter.room, &room_id).then_some(room_id))
    }

    async fn global_account_data(
        &self,
        window: &Window,
    ) -> Result<Vec<Arc<AccountData>>, MatrixError> {
        let mut data: Vec<_> = if self.after.is_some() {
            window.account_data.clone()
        } else {
            let load = || {
                self.store
                    .account_data_since(self.viewer.user, Pos(0), self.upto)
            };
            let all = self.all_account_data.get_or_try_init(load).await?;
            all.iter()
                .filter(|data| data.room.is_none())
                .cloned()
                .collect()
        };
        data.retain(|data| filter::wants_global(&self.ask.filter.account_data, &data.kind));
        Ok(data)
    }

    /// Users whose devices the reader must look at again, and those it may forget
    /// ("Tracking the device list for a user"). An initial answer names nobody: the client knows
    /// nothing yet.
    async fn devices(
        &self,
        rows: &[MembershipRow],
        window: &Window,
    ) -> Result<(BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>), MatrixError> {
        let (mut changed, mut left) = (BTreeSet::new(), BTreeSet::new());
        let Some(after) = self.after else {
            return Ok((changed, left));
        };
        let mut met: HashSet<UserNo> = HashSet::new();
        let mut parted: HashSet<UserNo> = HashSet::new();
        for row in rows {
            let here = row.membership == Membership::Join;
            if row.since > after && (here || self.was_joined_after(row, after).await?) {
                let members = self.store.members(row.room, Some(Membership::Join)).await?;
                let group = if here { &mut met } else { &mut parted };
                group.extend(members.into_iter().map(|member| member.user));
            } else if here && let Some(room) = window.rooms.get(&row.room) {
                for (user, membership) in &room.members {
                    let group = if *membership == Membership::Join {
                        &mut met
                    } else {
                        &mut parted
                    };
                    group.insert(*user);
                }
            }
        }
        if met.is_empty() && parted.is_empty() && window.device_lists.is_empty() {
            return Ok((changed, left));
        }
        met.remove(&self.viewer.user);
        parted.remove(&self.viewer.user);
        met.extend(&window.device_lists);
        let candidates: HashSet<UserNo> = met.union(&parted).copied().collect();
        let sharing = self.sharing(&candidates, rows).await?;
        for user in candidates {
            if sharing.contains(&user) {
                if met.contains(&user) {
                    changed.insert(self.store.user(user).await?);
                }
            } else if parted.contains(&user) {
                left.insert(self.store.user(user).await?);
            }
        }
        Ok((changed, left))
    }

    /// Those of some users who share a room with the reader; the reader counts as one of them.
    async fn sharing(
        &self,
        users: &HashSet<UserNo>,
        rows: &[MembershipRow],
    ) -> Result<HashSet<UserNo>, MatrixError> {
        if users.len() > MOST_ASKED {
            let mut sharing = HashSet::from([self.viewer.user]);
            sharing.extend(self.store.users_sharing_rooms(self.viewer.user).await?);
            return Ok(sharing);
        }
        // A few are answered from the cache of memberships.
        let here = |row: &MembershipRow| row.membership == Membership::Join;
        let joined: HashSet<RoomNo> = rows
            .iter()
            .filter(|row| here(row))
            .map(|row| row.room)
            .collect();
        let mut sharing = HashSet::new();
        for user in users {
            let theirs = self.store.memberships_of(*user).await?;
            if *user == self.viewer.user
                || theirs
                    .iter()
                    .any(|row| here(row) && joined.contains(&row.room))
            {
                sharing.insert(*user);
            }
        }
        Ok(sharing)
    }

    /// Whether the reader, who isn't in the room now, was joined at or after a position.
    async fn was_joined_after(&self, row: &MembershipRow, after: Pos) -> Result<bool, MatrixError> {
        let (Membership::Leave | Membership::Ban, Some(event)) = (row.membership, row.event) else {
            return Ok(false);
        };
        let left_at = seen::end_of_stay(self.store, self.viewer, event).await?;
        Ok(left_at.is_some_and(|left| left > after))
    }

    /// The stripped state of a room that the reader is invited to or knocks on, as a JSON array.
    /// `None` for someone's invite that isn't wanted.
    async fn stripped(&self, row: &MembershipRow) -> Result<Option<String>, MatrixError> {
        if let Some(invite) = self.store.remote_invite(self.viewer.user, row.room).await? {
            let hidden = self.ignored.contains(&invite.sender);
            return Ok((!hidden).then(|| write::remote_stripped(&invite)));
        }
        let Some(own) = row.event else {
            return Ok(None);
        };
        let Some(own) = self.store.event_by_no(own).await? else {
            return Ok(None);
        };
        if self.ignored.contains(own.pdu.sender()) {
            return Ok(None);
        }
        let mut events = Vec::new();
        if let Some(at) = own.state_before.or(own.state_after) {
            let sender = own.pdu.sender().as_str();
            let mut keys: Vec<(&str, &str)> = STRIPPED.iter().map(|kind| (*kind, "")).collect();
            keys.push(("m.room.member", sender));
            let nos: Vec<_> = self
                .store
                .state_entries(at, &keys)
                .await?
                .into_iter()
                .flatten()
                .collect();
            events = self.store.events_by_no(&nos).await?;
        }
        events.retain(|event| event.no != own.no);
        events.push(own);
        Ok(Some(write::stripped(&events)))
    }
}

/// Up to this many users are asked one by one whether they share a room with the reader.
const MOST_ASKED: usize = 16;

/// The state that an invited user is shown ("Stripped state").
const STRIPPED: [&str; 8] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.history_visibility",
];
