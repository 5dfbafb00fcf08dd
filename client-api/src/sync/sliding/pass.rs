//! One pass of a connection: what there is to tell after a position.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use rhizome_protocol::Membership;
use rhizome_storage::{Heard, MembershipRow, Pos, RoomNo, SlidingRoom};
use ruma::OwnedRoomId;

use super::{
    Sliding,
    connection::ProfilesPos,
    extensions::{Answer, Context, profiles},
    request::{
        Shape,
        config::{Config, State},
    },
    room::{Loaded, RoomPart, Teller},
    wants::{Choice, How, News, Pick, choose},
};
use crate::{
    MatrixError,
    auth::standing,
    place::token::Token,
    sync::{
        Ask,
        reader::{self, Moment},
        room::Loader,
        window::{FIRST, RoomWindow, Window},
    },
    view::{ignored, scan::Budget},
};

/// What a pass found.
#[derive(Debug)]
pub struct Found {
    /// Rooms.
    pub rooms: Vec<RoomPart>,
    /// How many each list has.
    pub counts: BTreeMap<String, usize>,
    /// What there is beside rooms.
    pub extensions: Answer,
    /// Where the next one goes on, …
    pub next: Token,
    /// … and with what it was told of profiles.
    pub profiles: Option<ProfilesPos>,
    /// What was wanted, and how often each list had changed, if nothing is left to tell.
    pub settled: Option<(u64, Vec<u64>)>,
}

impl Found {
    /// Whether there is nothing that anybody waits for.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.extensions.is_empty() && self.settled.is_some()
    }
}

impl Sliding {
    /// Looks what is new. What the client is told goes into its memory.
    pub async fn pass(&mut self) -> Result<Found, MatrixError> {
        let app = self.app.clone();
        let (store, user) = (&app.store, self.viewer.user);
        let moment = reader::moment(store, user, &self.interest).await?;
        let (upto, now, rows) = &moment;
        let after = self.since.as_ref().map(|token| token.pos);
        let window = match after {
            Some(after) => Window::read(store, user, rows, after, *upto).await?,
            None => Window::default(),
        };
        standing::may_listen(&app, user, window.to_device.ended).await?;
        let shared = &app.sync;
        let ignored = shared
            .ignored
            .of(store, user, after, *upto, &window)
            .await?;
        let (counts, span) = (&shared.counts, (after, *upto));
        let counting = counts.advance(store, user, rows, span, &window);
        counting.await?;
        let has = |kind: &str| window.account_data.iter().any(|data| data.kind == kind);
        if window.account_data.iter().any(|data| ignored::is_of(data)) {
            // What was withheld may be told now, wherever it is.
            self.memory.settled = None;
        }
        let heard = self.since.as_ref().map_or_else(Heard::default, |token| {
            token.heard(now, store.ephemeral().process())
        });
        let asked = self.asked.clone();
        let shared_rooms = shared.sliding.rooms.of(user, rows.len());
        let mut rooms = shared_rooms.lock().await;
        rooms
            .advance(
                store,
                &self.viewer,
                (rows_of(&moment), &ignored),
                (after, *upto),
                &window,
            )
            .await?;
        let filters = asked.lists.values().map(|list| &list.filter);
        rooms.bring(store, &self.viewer, filters).await?;
        (shared.sliding.rooms).weigh(user, &shared_rooms, &mut rooms);
        let wanted = asked.extensions.profiles();
        let go_on = |wanted| ProfilesPos::go_on(self.profiles, wanted, store, span);
        let profiles = wanted.map(|(_, wanted)| go_on(wanted));
        let news = News {
            profiles,
            after,
            rows,
            rooms: window.rooms.keys().copied().collect(),
            typing: self.typing(rows, now, &heard),
            direct: has("m.direct"),
            recounts: asked.shape == Shape::Unstable && window.changes_counts(),
            subscriptions: self.subscriptions(&asked.rooms).await?,
        };
        let choice = choose(&asked, &rooms, &self.memory, &news);
        drop(rooms);
        drop(news);
        for room in &choice.behind {
            self.fall_behind(*room, after);
        }
        let loader = Loader {
            store,
            lazy: &shared.sliding.lazy,
            counts: &shared.counts,
            viewer: &self.viewer.clone(),
            ask: &Ask {
                state_after: true,
                ..Ask::default()
            },
            ignored: &ignored,
            after,
            upto: *upto,
            heard,
            budget: Budget::new(app.config.max_timeline_bytes),
            all_account_data: tokio::sync::OnceCell::new(),
            first: OnceLock::new(),
            sticky: HashMap::new(),
        };
        self.tell(loader, choice, &window, &moment, profiles).await
    }

    fn typing(&self, rows: &[MembershipRow], now: &Heard, heard: &Heard) -> HashSet<RoomNo> {
        let asked = self.since.is_some() && self.asked.extensions.typing.is_some();
        if !asked || !now.exceeds(heard) {
            return HashSet::new();
        }
        let joined = rows.iter().filter(|row| row.membership == Membership::Join);
        let joined: Vec<RoomNo> = joined.map(|row| row.room).collect();
        let changed = self.app.store.ephemeral().changed(&joined, heard);
        changed.into_iter().collect()
    }

    async fn subscriptions<'a>(
        &self,
        rooms: &'a BTreeMap<OwnedRoomId, Config>,
    ) -> Result<HashMap<RoomNo, &'a Config>, MatrixError> {
        let mut subscriptions = HashMap::new();
        for (id, config) in rooms {
            if let Some(room) = self.app.store.known_room(id).await? {
                subscriptions.insert(room, config);
            }
        }
        Ok(subscriptions)
    }

    /// The client isn't told what happened in a room after this.
    fn fall_behind(&mut self, room: RoomNo, after: Option<Pos>) {
        if let (Some(told), Some(after)) = (self.memory.of(room).copied(), after)
            && told.upto.is_none()
        {
            let upto = Some(after);
            self.memory.tell(room, SlidingRoom { upto, ..told });
        }
    }

    async fn tell(
        &mut self,
        loader: Loader<'_>,
        mut choice: Choice<'_>,
        window: &Window,
        moment: &Moment,
        told_profiles: Option<ProfilesPos>,
    ) -> Result<Found, MatrixError> {
        let store = loader.store;
        let nos: Vec<RoomNo> = choice.picks.iter().map(|pick| pick.row.room).collect();
        let ids = store.room_ids(&nos).await?;
        let older = self.older(&choice.picks, loader.upto).await?;
        let mut teller = self.teller(loader, &choice.picks, &nos).await?;
        teller.recounts = window.changes_counts();
        let mut rooms = Vec::new();
        for pick in &choice.picks {
            let room = pick.row.room;
            let window = older.get(&room).or_else(|| window.rooms.get(&room));
            let has = pick.told.and_then(|told| self.memory.state(&told)).cloned();
            let loaded = teller.load(pick, window, has.as_ref()).await?;
            if loaded.withheld {
                self.fall_behind(room, teller.loader.after);
            } else {
                self.remember(pick, &loaded)?;
            }
            rooms.extend(loaded.part.map(|part| (room, part)));
        }
        let timelines = rooms.iter_mut().map(|(_, part)| &mut part.timeline);
        teller.loader.bundle(timelines).await?;
        let (user, upto, device) = (self.viewer.user, teller.loader.upto, self.device());
        let told: HashSet<RoomNo> = rooms.iter().map(|(room, _)| *room).collect();
        let told_rows = moment.2.iter().filter(|row| told.contains(&row.room));
        let told_rows: Vec<&MembershipRow> = told_rows.collect();
        let counting = teller.loader.counts.of(store, user, &told_rows, upto);
        let mut counts = counting.await?;
        for (room, part) in &mut rooms {
            part.unread = counts.remove(room);
        }
        let shown = rooms.iter().map(|(room, part)| {
            let events = part.timeline.events.iter();
            (
                *room,
                events.map(|seen| seen.event.pdu.event_id()).collect(),
            )
        });
        let picks: Vec<_> = (std::mem::take(&mut choice.picks).into_iter())
            .zip(ids)
            .collect();
        let context = Context {
            app: &self.app,
            loader: &teller.loader,
            since: self.since.as_ref(),
            moment,
            window,
            older: &older,
            picks: &picks,
            shown: &shown.collect(),
        };
        let mut extensions = Answer::read(&context, &self.asked.extensions).await?;
        let mut profiles = self.profiles;
        if let (Some(told), Some(wanted)) = (told_profiles, self.asked.extensions.profiles()) {
            let lazy = &self.app.sync.sliding.profiles;
            let owed = profiles::Owed {
                wanted,
                told,
                members: &choice.members,
                parts: &rooms,
                known: (lazy, &device),
            };
            let told = profiles::read(&context, owed, &mut self.memory).await?;
            profiles = Some(told.next);
            choice.settled = choice.settled.filter(|_| told.is_whole);
            extensions.set_profiles(told);
        }
        let heard = moment.1.clone().after(&teller.loader.heard);
        let mut next = Token::new(store, upto, heard);
        next.sticky = extensions.sticky_upto();
        let named = choice.counts.into_iter();
        Ok(Found {
            rooms: rooms.into_iter().map(|(_, part)| part).collect(),
            counts: named
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            extensions,
            next,
            profiles,
            settled: choice.settled,
        })
    }

    /// What happened in rooms that were told up to another position than the client's.
    async fn older(
        &self,
        picks: &[Pick<'_>],
        upto: Pos,
    ) -> Result<HashMap<RoomNo, RoomWindow>, MatrixError> {
        let mut behind: BTreeMap<Pos, Vec<RoomNo>> = BTreeMap::new();
        for pick in picks {
            let told = pick.told.and_then(|told| told.upto);
            if let (How::Since(from), Some(_)) = (pick.how, told) {
                behind.entry(from).or_default().push(pick.row.room);
            }
        }
        let mut older = HashMap::new();
        for (from, rooms) in behind {
            older.extend(Window::of_rooms(&self.app.store, &rooms, from, upto).await?);
        }
        Ok(older)
    }

    /// What the client knows of a room when it has this.
    fn remember(&mut self, pick: &Pick<'_>, loaded: &Loaded) -> Result<(), MatrixError> {
        let told = SlidingRoom {
            upto: None,
            timeline: loaded.timeline,
            config: self.memory.number(&loaded.state)?,
            direct: pick.facets.as_ref().is_some_and(|facets| facets.is_dm),
            profiles: pick
                .told
                .filter(|_| pick.how != How::Whole)
                .and_then(|told| told.profiles),
        };
        self.memory.tell(pick.row.room, told);
        Ok(())
    }

    /// Reads what rooms of an answer share, for all of them at once.
    async fn teller<'a>(
        &self,
        loader: Loader<'a>,
        picks: &[Pick<'_>],
        nos: &[RoomNo],
    ) -> Result<Teller<'a>, MatrixError> {
        let store = loader.store;
        let is_whole =
            |pick: &&Pick<'_>| pick.how == How::Whole && pick.row.membership == Membership::Join;
        let whole: Vec<&Pick<'_>> = picks.iter().filter(is_whole).collect();
        let rooms: Vec<RoomNo> = whole.iter().map(|pick| pick.row.room).collect();
        let most = whole
            .iter()
            .map(|pick| pick.config.timeline)
            .max()
            .unwrap_or(0);
        let size = FIRST.min(usize::try_from(most).unwrap_or(FIRST) + 1);
        let mut newest: HashMap<RoomNo, Vec<Arc<_>>> = HashMap::new();
        if !rooms.is_empty() {
            for event in store.room_timelines(&rooms, loader.upto, size).await? {
                newest.entry(event.room).or_default().push(event);
            }
        }
        let teller = Teller {
            device: self.device(),
            summaries: store.room_summaries(nos).await?,
            newest,
            size,
            counts: self.asked.shape == Shape::Unstable,
            recounts: false,
            loader,
        };
        let states = whole.iter().map(|pick| (pick.row.room, &pick.config.state));
        teller
            .read_ahead(&states.collect::<Vec<(RoomNo, &State)>>())
            .await?;
        Ok(teller)
    }
}

fn rows_of(moment: &Moment) -> &Arc<[MembershipRow]> {
    &moment.2
}
