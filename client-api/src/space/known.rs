//! Rooms as one user may know of them: ours, and what other servers tell. Many are looked up together.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use rhizome_federation::spaces::{self, Entry, Told};
use rhizome_rooms::access::{Doors, Visitor};
use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use tokio::time::{Instant, timeout_at};

use crate::{App, MatrixError};

/// Of how many rooms others are asked for one page.
const MAX_ASKED: usize = 60;
/// Of how many at a time.
const MAX_TOGETHER: usize = 8;
/// For how long, in all.
const TIME: Duration = Duration::from_secs(20);

/// A room that may be shown.
#[derive(Debug)]
pub struct Node {
    /// What is told of it.
    pub entry: Arc<Entry>,
    /// What the server that tells of it told besides, if it isn't ours.
    told: Option<Arc<Told>>,
}

/// A room that has to be looked up.
pub struct Wanted {
    /// Which.
    pub room_id: OwnedRoomId,
    /// Whom to ask of it, if we aren't in it.
    pub via: Vec<OwnedServerName>,
    /// The space that holds it.
    pub parent: Option<Arc<Node>>,
}

/// What is known of a room.
pub enum Found<'a> {
    /// It has to be looked up.
    Unknown,
    /// The user can't know of it.
    Nothing,
    /// What may be shown of it.
    Room(&'a Arc<Node>),
}

/// What has been looked up for one user.
pub struct Known<'a> {
    app: &'a App,
    visitor: Visitor,
    /// Whether it is all that this server knows, and nobody else is asked.
    is_operators: bool,
    rooms: HashMap<OwnedRoomId, Option<Arc<Node>>>,
    asked: usize,
    until: Instant,
}

impl<'a> Known<'a> {
    /// Nothing yet.
    pub fn new(app: &'a App, visitor: Visitor) -> Self {
        Self {
            app,
            visitor,
            is_operators: false,
            rooms: HashMap::new(),
            asked: 0,
            until: Instant::now() + TIME,
        }
    }

    /// The same for an operator, who is shown every room of this server, and no other.
    pub fn of_operator(app: &'a App) -> Self {
        Self {
            is_operators: true,
            ..Self::new(app, Visitor::nobody())
        }
    }

    /// What is known of a room.
    pub fn find(&self, room: &RoomId) -> Found<'_> {
        match self.rooms.get(room) {
            None => Found::Unknown,
            Some(None) => Found::Nothing,
            Some(Some(node)) => Found::Room(node),
        }
    }

    /// The room, if it was looked up and the user may know of it.
    pub fn shown(&self, room: &RoomId) -> Option<&Arc<Node>> {
        self.rooms.get(room)?.as_ref()
    }

    /// Who looks.
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Whether nobody is asked any more for this page: what isn't known yet is left for the next one.
    pub fn is_exhausted(&self) -> bool {
        self.asked >= MAX_ASKED || Instant::now() >= self.until
    }

    /// Looks rooms up, as far as others may be asked of them.
    pub async fn look_up(&mut self, wanted: Vec<Wanted>) -> Result<(), MatrixError> {
        let (app, fed) = (self.app, &self.app.federation);
        let ids: Vec<OwnedRoomId> = wanted.iter().map(|it| it.room_id.clone()).collect();
        let mut ours = spaces::ours(fed, &ids).await?;
        let mut found = Vec::with_capacity(wanted.len());
        let mut elsewhere = Vec::new();
        for wanted in wanted {
            match ours.remove(&wanted.room_id) {
                Some(ours) => found.push((
                    wanted.room_id,
                    Some(Node {
                        entry: ours.entry,
                        told: None,
                    }),
                )),
                None if self.is_operators => found.push((wanted.room_id, None)),
                None => elsewhere.push(wanted),
            }
        }
        elsewhere.truncate(MAX_ASKED.saturating_sub(self.asked));
        self.asked += elsewhere.len();
        let until = self.until;
        let asking = elsewhere.into_iter().map(|wanted| async move {
            // Of what nobody was asked in time, nothing is known: it is left for the next page.
            if Instant::now() >= until {
                return None;
            }
            let answer = timeout_at(until, ask(app, &wanted)).await;
            Some((wanted.room_id, answer.unwrap_or_default()))
        });
        // Boxed: most spaces are all here.
        let answers = stream::iter(asking).buffer_unordered(MAX_TOGETHER);
        let answers = Box::pin(answers.collect::<Vec<_>>()).await;
        found.extend(answers.into_iter().flatten());

        let shown = found.iter().filter_map(|(id, node)| {
            let node = node.as_ref()?;
            Some((&**id, &node.entry.doors))
        });
        let shown: Vec<(&RoomId, &Doors)> = shown.collect();
        self.visitor.learn(&app.store, shown).await?;
        for (id, node) in found {
            let (visitor, all) = (&self.visitor, self.is_operators);
            let node = node.filter(|node| all || visitor.may_preview(&id, &node.entry.doors));
            self.rooms.insert(id, node.map(Arc::new));
        }
        Ok(())
    }
}

/// What others tell of a room that we aren't in.
async fn ask(app: &App, wanted: &Wanted) -> Option<Node> {
    let of_parent = wanted
        .parent
        .as_ref()
        .and_then(|parent| parent.told.as_ref());
    let told_before = of_parent.and_then(|told| told.children.get(&wanted.room_id));
    if of_parent.is_some_and(|told| told.inaccessible.contains(&wanted.room_id)) {
        return None;
    }
    // Who told of the space told of all that it knows in it. What a space in it holds, it has to be asked for.
    if let Some(entry) = told_before.filter(|entry| !entry.is_space) {
        return Some(Node {
            entry: entry.clone(),
            told: None,
        });
    }
    let told = spaces::theirs(&app.federation, &wanted.room_id, &wanted.via).await;
    match told {
        Some(told) => Some(Node {
            entry: told.entry.clone(),
            told: Some(told),
        }),
        None => told_before.map(|entry| Node {
            entry: entry.clone(),
            told: None,
        }),
    }
}
