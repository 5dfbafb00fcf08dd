//! One room's part of an answer.

pub mod state;

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Membership, StateKey};
use rhizome_rooms::access::{self, Standing};
use rhizome_storage::{Pos, RoomNo, RoomSummary, SlidingRoom, SnapshotNo, StoredEvent};
use ruma::OwnedRoomId;

use self::state::Found;
use super::{
    request::config::State,
    wants::{How, Pick},
};
use crate::{
    MatrixError,
    sync::{
        counts::Counts,
        room::Loader,
        room::timeline::Timeline,
        window::{RoomWindow, Window},
    },
    view::{
        heroes::{self, Hero},
        seen::Seen,
    },
};

/// By so many members a nameless room is named.
const HEROES: usize = 5;

/// A room's part of an answer.
#[derive(Debug, Default)]
pub struct RoomPart {
    /// Its id.
    pub id: Option<OwnedRoomId>,
    /// The user's membership.
    pub membership: Option<Membership>,
    /// The lists that have it.
    pub lists: Vec<String>,
    /// When something happened that counts as activity.
    pub bump: Pos,
    /// Stripped state, as JSON, for who isn't in it and never was.
    pub stripped: Option<String>,
    /// Whether this is all that there is.
    pub initial: bool,
    /// Whether the timeline has events that were before it.
    pub expanded: bool,
    /// Its name, if that is news; `Some(None)`: it has none any more.
    #[allow(clippy::option_option, reason = "not news, none any more, or a text")]
    pub name: Option<Option<String>>,
    /// The same of its avatar.
    #[allow(clippy::option_option, reason = "not news, none any more, or a text")]
    pub avatar: Option<Option<String>>,
    /// Whether it is a direct chat, if that is news.
    pub is_dm: Option<bool>,
    /// Whom it is named by.
    pub heroes: Option<Vec<Hero>>,
    /// How many are joined and invited, if that is news.
    pub members: Option<(i64, i64)>,
    /// State.
    pub state: Vec<Seen>,
    /// State that is gone.
    pub gone: Vec<Arc<StateKey>>,
    /// What happened.
    pub timeline: Timeline,
    /// How many of its events have just happened.
    pub live: usize,
    /// How much the user hasn't read.
    pub unread: Option<Counts>,
    /// Whether it is told with nothing in it.
    pub always: bool,
}

impl RoomPart {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        !self.always
            && !self.initial
            && self.timeline.events.is_empty()
            && !self.timeline.limited
            && self.state.is_empty()
            && self.gone.is_empty()
            && self.name.is_none()
            && self.avatar.is_none()
            && self.is_dm.is_none()
            && self.members.is_none()
    }
}

/// A room that was loaded.
pub struct Loaded {
    /// What is told, if anything is.
    pub part: Option<RoomPart>,
    /// What state the client has by then.
    pub state: State,
    /// How many of the newest events it has.
    pub timeline: u32,
    /// Whether there is something that the user doesn't want to hear of as long as they ignore someone.
    pub withheld: bool,
}

/// What all rooms of an answer share.
pub struct Teller<'a> {
    /// How rooms are read.
    pub loader: Loader<'a>,
    /// Under which name members are remembered that were told.
    pub device: (rhizome_storage::UserNo, ruma::OwnedDeviceId),
    /// What names rooms.
    pub summaries: HashMap<RoomNo, Arc<RoomSummary>>,
    /// The newest events of rooms that are told as a whole.
    pub newest: HashMap<RoomNo, Vec<Arc<StoredEvent>>>,
    /// How many of them were asked for.
    pub size: usize,
    /// Whether counts are told: what the user has read changes them, …
    pub counts: bool,
    /// … and so has what they want to be notified of.
    pub recounts: bool,
}

/// How the client knows a room, and how it is read.
struct Scope<'p> {
    pick: &'p Pick<'p>,
    /// After this everything is news; `None`: all of it is.
    from: Option<Pos>,
    /// The state of which the client has everything up to there.
    has: Option<&'p State>,
    upto: Pos,
    standing: Standing,
    /// The room's state when the user's stay ended; `None`: as it is now.
    left: Option<SnapshotNo>,
}

impl Teller<'_> {
    /// Loads a room. `has` is the state that the client has of it.
    pub async fn load(
        &self,
        pick: &Pick<'_>,
        window: Option<&RoomWindow>,
        has: Option<&State>,
    ) -> Result<Loaded, MatrixError> {
        let nothing = RoomWindow {
            whole: true,
            ..RoomWindow::default()
        };
        let window = window.unwrap_or(&nothing);
        // Who wants all members is told of them when they are known.
        let is_new = window.completed.is_some() && pick.config.state.members().is_none();
        let from = match pick.how {
            How::Since(from) if !is_new => Some(from),
            How::Since(_) | How::Whole => None,
        };
        let (row, upto) = (&pick.row, self.loader.upto);
        let scope = |standing, upto, left| Scope {
            pick,
            from,
            has: has.filter(|_| from.is_some()),
            upto,
            standing,
            left,
        };
        match row.membership {
            Membership::Join => {
                let standing = Standing::joined(row.since);
                self.inside(scope(standing, upto, None), window).await
            }
            Membership::Invite | Membership::Knock => self.outside(pick).await,
            Membership::Leave | Membership::Ban => {
                let viewer = &self.loader.viewer.user_id;
                // Who forgets a room leaves it all the same.
                let row = rhizome_storage::MembershipRow {
                    forgotten: false,
                    ..*row
                };
                let end = access::end_of_stay(self.loader.store, viewer, &row).await?;
                match end.as_ref().and_then(|end| end.state_after) {
                    Some(left) => {
                        let standing = Standing::left(row.membership, end.as_deref());
                        let upto = row.pos.min(upto);
                        let scope = scope(standing, upto, Some(left));
                        let mut windows = match from.filter(|from| *from < upto) {
                            Some(from) => {
                                Window::of_rooms(self.loader.store, &[row.room], from, upto).await?
                            }
                            None => HashMap::new(),
                        };
                        let window = windows.remove(&row.room).unwrap_or_default();
                        self.inside(scope, &window).await
                    }
                    None if row.membership == Membership::Ban && pick.told.is_none() => {
                        Ok(Self::nothing(pick))
                    }
                    None => self.outside(pick).await,
                }
            }
        }
    }

    fn nothing(pick: &Pick<'_>) -> Loaded {
        Loaded {
            part: None,
            state: pick.config.state.clone(),
            timeline: 0,
            withheld: false,
        }
    }

    /// A room that the user isn't in and never was.
    async fn outside(&self, pick: &Pick<'_>) -> Result<Loaded, MatrixError> {
        let Some(stripped) = self.loader.stripped(&pick.row).await? else {
            let membership = pick.row.membership;
            return Ok(Loaded {
                withheld: matches!(membership, Membership::Invite | Membership::Knock),
                ..Self::nothing(pick)
            });
        };
        let mut part = self.part(pick).await?;
        part.initial = pick.how == How::Whole;
        part.stripped = Some(stripped);
        part.always = true;
        let told = pick.told.filter(|_| pick.how != How::Whole);
        part.is_dm = direct(pick, told.as_ref());
        Ok(Loaded {
            part: Some(part),
            ..Self::nothing(pick)
        })
    }

    async fn part(&self, pick: &Pick<'_>) -> Result<RoomPart, MatrixError> {
        let facets = pick.facets.as_ref();
        Ok(RoomPart {
            id: Some(self.loader.store.room_id(pick.row.room).await?),
            membership: Some(pick.row.membership),
            lists: pick.lists.iter().map(|list| (*list).to_owned()).collect(),
            bump: facets.map_or(pick.row.pos, |facets| facets.bump),
            ..RoomPart::default()
        })
    }

    /// A room that the user is or was in.
    async fn inside(&self, scope: Scope<'_>, window: &RoomWindow) -> Result<Loaded, MatrixError> {
        let pick = scope.pick;
        let mut part = self.part(pick).await?;
        part.initial = scope.from.is_none();
        let told = pick.told.filter(|_| scope.from.is_some());
        let timeline = self
            .timeline(&scope, window, told.as_ref(), &mut part)
            .await?;
        let Found {
            events,
            gone,
            knows,
        } = self.state(&scope, window, &part.timeline).await?;
        part.state = events;
        part.gone = gone;
        self.describe(&scope, window, &mut part).await?;
        part.is_dm = direct(pick, told.as_ref());
        let own = self.loader.viewer.user;
        let mut receipts = window.receipts.iter();
        let has_read = receipts.any(|receipt| receipt.user == own);
        // Of a room that has fallen behind nobody knows why.
        let was_behind = told.is_some_and(|told| told.upto.is_some());
        let recounts = self.counts && (has_read || self.recounts || was_behind);
        part.always = scope.left.is_some() || part.expanded || recounts;
        Ok(Loaded {
            part: (!part.is_empty()).then_some(part),
            state: knows,
            timeline,
            withheld: false,
        })
    }

    /// Reads the timeline; gives how many of the newest events the client has with it.
    async fn timeline(
        &self,
        scope: &Scope<'_>,
        window: &RoomWindow,
        told: Option<&SlidingRoom>,
        part: &mut RoomPart,
    ) -> Result<u32, MatrixError> {
        let room = scope.pick.row.room;
        let wanted = scope.pick.config.timeline;
        let limit = usize::try_from(wanted).unwrap_or(usize::MAX);
        let span = |after| (after, scope.upto);
        let more = told.is_some_and(|told| wanted > told.timeline);
        let newest = |after, known| {
            self.loader
                .newest(room, &scope.standing, span(after), known, limit)
        };
        part.timeline = match scope.from {
            Some(from) if !more => newest(from, (&window.events[..], window.whole)).await?,
            _ => {
                let known = self.newest.get(&room).filter(|_| scope.left.is_none());
                let known = known.map_or((&[][..], false), |known| {
                    (&known[..], known.len() < self.size)
                });
                newest(Pos(0), known).await?
            }
        };
        let positions = part
            .timeline
            .events
            .iter()
            .filter_map(|seen| seen.event.pos());
        if let (Some(from), true) = (scope.from, more) {
            let mut positions = positions.clone();
            part.expanded = positions.any(|pos| pos <= from);
        }
        // What has just happened is what happened since the client asked before, wherever the room was then.
        let after = self.loader.after.unwrap_or(scope.upto);
        part.live = positions.filter(|pos| *pos > after).count();
        let limited = part.timeline.limited;
        Ok(match told {
            Some(told) if !limited && !more => told.timeline.max(wanted),
            _ if limited => wanted,
            _ => u32::MAX,
        })
    }

    /// What names the room, and who is there.
    async fn describe(
        &self,
        scope: &Scope<'_>,
        window: &RoomWindow,
        part: &mut RoomPart,
    ) -> Result<(), MatrixError> {
        let store = self.loader.store;
        let (room, whole) = (scope.pick.row.room, scope.from.is_none());
        let keys = [("m.room.name", ""), ("m.room.avatar", "")];
        let keys = store.known_keys(&keys).await?;
        let changed = |at: usize| {
            let mut changes = window.changes.iter();
            whole || changes.any(|change| Some(change.key) == keys[at])
        };
        let now = self.summaries.get(&room).filter(|_| scope.left.is_none());
        let (name, avatar) = match (now, scope.left) {
            (Some(summary), _) => (summary.name.clone(), summary.avatar.clone()),
            (None, Some(left)) if changed(0) || changed(1) => self.names_at(left).await?,
            _ => (None, None),
        };
        let named = name.is_some();
        part.name = changed(0)
            .then_some(name)
            .filter(|name| !whole || name.is_some());
        part.avatar = changed(1)
            .then_some(avatar)
            .filter(|it| !whole || it.is_some());
        let moved = !window.members.is_empty() || window.completed.is_some();
        if scope.left.is_some() {
            return Ok(());
        }
        if whole || moved {
            let counts = store.member_counts(room).await?;
            part.members = Some((counts.joined, counts.invited));
        }
        if !named && (whole || moved || changed(0)) {
            let viewer = self.loader.viewer.user;
            part.heroes = Some(heroes::of(store, room, viewer, HEROES).await?);
        }
        Ok(())
    }

    async fn names_at(
        &self,
        at: SnapshotNo,
    ) -> Result<(Option<String>, Option<String>), MatrixError> {
        let text = async |kind, field| -> Result<Option<String>, MatrixError> {
            let event = self.loader.store.state_event(at, kind, "").await?;
            let text = event
                .as_ref()
                .and_then(|event| event.pdu.content().get(field)?.as_str());
            Ok(text.filter(|text| !text.is_empty()).map(str::to_owned))
        };
        Ok((
            text("m.room.name", "name").await?,
            text("m.room.avatar", "url").await?,
        ))
    }
}

/// Whether it is a direct chat, if that is news to who was told this.
fn direct(pick: &Pick<'_>, told: Option<&SlidingRoom>) -> Option<bool> {
    let is_dm = pick.facets.as_ref().is_some_and(|facets| facets.is_dm);
    let was = told.is_some_and(|told| told.direct);
    (was != is_dm).then_some(is_dm)
}
