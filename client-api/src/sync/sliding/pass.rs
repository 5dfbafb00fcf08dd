//! One pass of a connection: what there is to tell after a position.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use rhizome_protocol::Membership;
use rhizome_storage::{MembershipRow, Pos, RoomNo, SlidingRoom};
use ruma::OwnedRoomId;

use super::{
    Sliding,
    extensions::{Answer, Context},
    request::config::{Config, State},
    room::{Loaded, RoomPart, Teller},
    wants::{Choice, How, News, Pick, choose},
};
use crate::{
    MatrixError,
    place::token::Token,
    sync::{
        Ask,
        reader::{self, Moment},
        room::Loader,
        window::{FIRST, RoomWindow, Window},
    },
    view::scan::Budget,
};

/// Of a client that is behind by more than this, the rooms that it wants are read one by one.
const FAR: i64 = 5_000;

/// What a pass found.
#[derive(Debug)]
pub struct Found {
    /// Rooms.
    pub rooms: Vec<RoomPart>,
    /// How many each list has.
    pub counts: BTreeMap<String, usize>,
    /// What there is beside rooms.
    pub extensions: Answer,
    /// Where the next one goes on.
    pub next: Token,
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
        let (upto, ephemeral, rows) = &moment;
        let after = self.since.as_ref().map(|token| token.pos);
        let (window, far) = self.window(after, *upto, rows).await?;
        let shared = &app.sync;
        let ignored = shared
            .ignored
            .of(store, user, after, *upto, &window)
            .await?;
        let read = after.filter(|_| !far);
        let counting = shared
            .counts
            .advance(store, user, rows, (read, *upto), &window);
        counting.await?;
        let heard = self
            .since
            .as_ref()
            .map_or(0, |token| token.ephemeral_after(*ephemeral));
        let asked = self.asked.clone();
        let rooms = shared.sliding.rooms.of(user, rows.len());
        let mut rooms = rooms.lock().await;
        rooms
            .advance(
                store,
                &self.viewer,
                rows_of(&moment),
                (read, *upto),
                &window,
            )
            .await?;
        let filters = asked.lists.values().map(|list| &list.filter);
        rooms.bring(store, &self.viewer, filters).await?;
        let mut news = News {
            after,
            rows,
            rooms: window.rooms.keys().copied().collect(),
            typing: self.typing(rows, heard, *ephemeral),
            direct: window
                .account_data
                .iter()
                .any(|data| data.kind == "m.direct"),
            subscriptions: self.subscriptions(&asked.rooms).await?,
        };
        if let (true, Some(after)) = (far, after) {
            let active = rows.iter().map(|row| row.room);
            let active =
                active.filter(|room| rooms.get(*room).is_some_and(|it| it.activity > after));
            news.rooms.extend(active);
            news.rooms
                .extend(store.receipt_rooms_since(user, after, *upto).await?);
            news.direct = true;
        }
        let choice = choose(&asked, &rooms, &self.memory, &news);
        drop(rooms);
        drop(news);
        self.fall_behind(&choice, after);
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
            ephemeral: (heard, *ephemeral),
            budget: Budget::new(app.config.max_timeline_bytes),
            all_account_data: tokio::sync::OnceCell::new(),
            first: OnceLock::new(),
        };
        self.tell(loader, choice, &window, far, &moment).await
    }

    /// What happened after the client's position. Whoever is far behind is told room by room.
    async fn window(
        &self,
        after: Option<Pos>,
        upto: Pos,
        rows: &[MembershipRow],
    ) -> Result<(Window, bool), MatrixError> {
        let store = &self.app.store;
        let Some(after) = after else {
            return Ok((Window::default(), false));
        };
        let is_far = upto.0 - after.0 > FAR && store.log().tail(after, upto).is_none();
        // Whose devices changed is said by what happened in all rooms.
        if is_far && !self.asked.extensions.wants_e2ee() {
            let window = Window::read_by_room(store, self.viewer.user, &[], after, upto).await?;
            return Ok((window, true));
        }
        let window = Window::read(store, self.viewer.user, rows, after, upto).await?;
        Ok((window, false))
    }

    fn typing(&self, rows: &[MembershipRow], heard: i64, now: i64) -> HashSet<RoomNo> {
        if self.since.is_none() || heard >= now || self.asked.extensions.typing.is_none() {
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

    fn fall_behind(&mut self, choice: &Choice<'_>, after: Option<Pos>) {
        for room in &choice.behind {
            if let (Some(told), Some(after)) = (self.memory.of(*room).copied(), after) {
                let upto = Some(after);
                self.memory.tell(*room, SlidingRoom { upto, ..told });
            }
        }
    }

    async fn tell(
        &mut self,
        loader: Loader<'_>,
        choice: Choice<'_>,
        window: &Window,
        far: bool,
        moment: &Moment,
    ) -> Result<Found, MatrixError> {
        let store = loader.store;
        let nos: Vec<RoomNo> = choice.picks.iter().map(|pick| pick.row.room).collect();
        let ids = store.room_ids(&nos).await?;
        let mut older = HashMap::new();
        for pick in &choice.picks {
            let How::Since(from) = pick.how else { continue };
            let is_behind = far || pick.told.is_some_and(|told| told.upto.is_some());
            if is_behind && pick.row.membership == Membership::Join {
                let mut window = RoomWindow::default();
                window.load(store, pick.row.room, from, loader.upto).await?;
                older.insert(pick.row.room, window);
            }
        }
        let teller = self.teller(loader, &choice.picks, &nos).await?;
        let mut rooms = Vec::new();
        for pick in &choice.picks {
            let room = pick.row.room;
            let window = older.get(&room).or_else(|| window.rooms.get(&room));
            let has = pick.told.and_then(|told| self.memory.state(&told)).cloned();
            let loaded = teller.load(pick, window, has.as_ref()).await?;
            self.remember(pick, &loaded)?;
            rooms.extend(loaded.part.map(|part| (room, part)));
        }
        let (user, upto) = (self.viewer.user, teller.loader.upto);
        let told: HashSet<RoomNo> = rooms.iter().map(|(room, _)| *room).collect();
        let told_rows = moment.2.iter().filter(|row| told.contains(&row.room));
        let counting = teller.loader.counts.of(store, user, told_rows, upto);
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
        let picks: Vec<_> = choice.picks.into_iter().zip(ids).collect();
        let context = Context {
            app: &self.app,
            loader: &teller.loader,
            moment,
            window,
            older: &older,
            picks: &picks,
            shown: &shown.collect(),
        };
        let extensions = Answer::read(&context, &self.asked.extensions).await?;
        let named = choice.counts.into_iter();
        Ok(Found {
            rooms: rooms.into_iter().map(|(_, part)| part).collect(),
            counts: named
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            extensions,
            next: Token::new(store, upto, moment.1),
            settled: choice.settled,
        })
    }

    /// What the client knows of a room when it has this.
    fn remember(&mut self, pick: &Pick<'_>, loaded: &Loaded) -> Result<(), MatrixError> {
        let told = SlidingRoom {
            upto: None,
            timeline: loaded.timeline,
            config: self.memory.number(&loaded.state)?,
            direct: pick.facets.as_ref().is_some_and(|facets| facets.is_dm),
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
            device: (self.viewer.user, format!("{:x}", self.connection.no).into()),
            summaries: store.room_summaries(nos).await?,
            newest,
            size,
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
