//! Threads by `m.relationship` ([MSC2836]): an event's parents and children, walked through here, and asked of other servers
//! where something is missing.
//!
//! What is looked at is bounded whatever is asked for: a window of levels and children, each level by a few questions.
//! Other servers are asked for clients only, never for servers.
//!
//! [MSC2836]: https://github.com/matrix-org/matrix-spec-proposals/pull/2836

mod ask;
mod children;
mod order;
mod question;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_storage::{RelatedChild, RoomHead, Status, Store, StoredEvent};
use ruma::{EventId, OwnedEventId};

use self::{
    ask::Asking,
    order::{Window, order},
};
pub use self::{children::Children, order::Way, question::Question};
use crate::{Federation, MatrixError};

/// The path between servers.
pub const PATH: &str = "/_matrix/federation/unstable/event_relationships";

/// The most events that are looked at for one answer.
const MAX_LOOKED_AT: usize = 1_000;
/// Children that are counted in one answer, and of each event however many there are.
const MAX_COUNTED: usize = 20_000;
const LEAST_COUNTED: usize = 1_000;
/// The same for who isn't told of all: each child is looked at.
const MAX_JUDGED: usize = 2_000;
const MAX_JUDGED_EACH: usize = 200;

/// Who is shown what.
pub trait Seer: Sync {
    /// Those of some events of the room that may be shown, in the same order.
    fn seen(
        &self,
        events: Vec<Arc<StoredEvent>>,
    ) -> impl Future<Output = Result<Vec<Arc<StoredEvent>>, MatrixError>> + Send;

    /// Whether all children of an event are counted, here and elsewhere; else those that may be shown.
    fn counts_all(&self) -> bool;
}

/// An answer.
#[derive(Debug)]
pub struct Found {
    /// The events, with what is known of their children.
    pub events: Vec<(Arc<StoredEvent>, Children)>,
    /// Whether there are more.
    pub limited: bool,
}

/// Answers a question about an event of a room. With `asks`, so many other servers may be asked for it.
///
/// # Errors
/// 404 for an event that isn't there for who asks; the database's.
pub async fn answer(
    fed: &Federation,
    head: &RoomHead,
    question: &Question,
    seer: &impl Seer,
    asks: usize,
) -> Result<Found, MatrixError> {
    if !question.batch.is_empty() {
        return Err(MatrixError::invalid_param(
            "`batch` isn't one of this server",
        ));
    }
    let mut walk = Walk {
        fed,
        head,
        question,
        seer,
        asking: Asking::new(fed, head, asks),
        events: HashMap::new(),
    };
    walk.answer().await
}

struct Walk<'a, S> {
    fed: &'a Federation,
    head: &'a RoomHead,
    question: &'a Question,
    seer: &'a S,
    asking: Asking<'a>,
    /// What may be shown of what was looked at.
    events: HashMap<OwnedEventId, Arc<StoredEvent>>,
}

impl<S: Seer> Walk<'_, S> {
    fn store(&self) -> &Store {
        self.fed.store()
    }

    async fn answer(&mut self) -> Result<Found, MatrixError> {
        let question = self.question;
        let id = &question.event_id;
        if self.stored(id).await?.is_none() {
            self.asking.about(question, None).await?;
        }
        let absent = || MatrixError::not_found("There is no such event, or you may not see it");
        let anchor = self.stored(id).await?.ok_or_else(absent)?;
        let anchor = self.look(vec![anchor]).await?.pop().ok_or_else(absent)?;
        let up = match self.question.direction {
            Way::Up => self.question.depth(),
            Way::Down => usize::from(self.question.include_parent),
        };
        let down = match self.question.direction {
            Way::Up => usize::from(self.question.include_children),
            Way::Down => (self.question.depth()).max(usize::from(self.question.include_children)),
        };
        let up = up.max(usize::from(self.question.include_parent));
        let window = Window {
            parents: self.parents(&anchor, up).await?,
            children: self.children(id, down).await?,
        };
        let (ids, limited) = order(id, &window, &self.bounds());
        let children = self.known_children(&ids).await?;
        let events = ids.iter().zip(children).filter_map(|(id, children)| {
            let event = self.events.get(id)?.clone();
            Some((event, children))
        });
        Ok(Found {
            events: events.collect(),
            limited,
        })
    }

    fn bounds(&self) -> order::Bounds {
        let question = self.question;
        order::Bounds {
            depth: question.depth(),
            breadth: question.breadth(),
            limit: question.limit(),
            depth_first: question.depth_first,
            include_parent: question.include_parent,
            include_children: question.include_children,
            way: question.direction,
        }
    }

    /// An event of the room that was accepted, wherever it stands.
    async fn stored(&self, id: &EventId) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let event = self.store().event(id).await?;
        Ok(event.filter(|event| event.room == self.head.room && event.status == Status::Accepted))
    }

    /// Those of some events that may be shown; they are remembered.
    async fn look(
        &mut self,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let seen = self.seer.seen(events).await?;
        for event in &seen {
            let id = event.pdu.event_id().to_owned();
            self.events.insert(id, event.clone());
        }
        Ok(seen)
    }

    /// The event's parent, that one's, and so on.
    async fn parents(
        &mut self,
        anchor: &StoredEvent,
        most: usize,
    ) -> Result<Vec<OwnedEventId>, MatrixError> {
        let mut known = HashSet::from([anchor.pdu.event_id().to_owned()]);
        let (mut parents, mut at) = (Vec::new(), anchor.no);
        let mut from = anchor.pdu.sender().server_name().to_owned();
        for _ in 0..most {
            let Some((parent, _)) = self.store().relationship_of(at).await? else {
                break;
            };
            if !known.insert(parent.clone()) {
                break;
            }
            if self.stored(&parent).await?.is_none() {
                let question = Question {
                    event_id: parent.clone(),
                    room_id: Some(self.head.room_id.clone()),
                    direction: Way::Up,
                    include_parent: true,
                    include_children: false,
                    ..self.question.clone()
                };
                self.asking.about(&question, Some(&from)).await?;
            }
            let event = match self.stored(&parent).await? {
                Some(event) => self.look(vec![event]).await?.pop(),
                None => None,
            };
            let Some(event) = event else { break };
            from = event.pdu.sender().server_name().to_owned();
            at = event.no;
            parents.push(parent);
        }
        Ok(parents)
    }

    /// The children of an event, of these, and so on: so many levels.
    async fn children(
        &mut self,
        anchor: &EventId,
        levels: usize,
    ) -> Result<HashMap<OwnedEventId, Vec<OwnedEventId>>, MatrixError> {
        let mut all: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
        let mut known = HashSet::from([anchor.to_owned()]);
        let mut level = vec![anchor.to_owned()];
        for _ in 0..levels {
            self.explore(&level).await?;
            let ids: Vec<&EventId> = level.iter().map(|id| &**id).collect();
            let left = MAX_LOOKED_AT.saturating_sub(known.len());
            let each = (left / ids.len().max(1)).max(self.question.breadth() + 1);
            let mut children = (self.store())
                .relationship_children(self.head.room, &ids, (each, left))
                .await?;
            children.retain(|child| known.insert(child.event.clone()));
            let nos: Vec<_> = children.iter().map(|child| child.no).collect();
            let mut events = self.store().events_by_no(&nos).await?;
            events.retain(|event| event.status == Status::Accepted);
            self.look(events).await?;
            children.retain(|child| self.events.contains_key(&child.event));
            if !self.question.recent_first {
                children.reverse();
            }
            let mut next = Vec::new();
            for child in children {
                let of_parent = all.entry(child.parent).or_default();
                // What is too much for one isn't gone through.
                if of_parent.len() < self.question.breadth() {
                    next.push(child.event.clone());
                }
                of_parent.push(child.event);
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        Ok(all)
    }

    /// Asks others about those of some events of which they know more.
    async fn explore(&mut self, ids: &[OwnedEventId]) -> Result<(), MatrixError> {
        if self.asking.is_over() {
            return Ok(());
        }
        let refs: Vec<&EventId> = ids.iter().map(|id| &**id).collect();
        let told = self.store().told_children(self.head.room, &refs).await?;
        if told.is_empty() {
            return Ok(());
        }
        let children = self.local_children(ids).await?;
        for (id, here) in ids.iter().zip(children) {
            let Some(told) = told.get(id) else { continue };
            if self.asking.is_over() || !here.is_unexplored(told) {
                continue;
            }
            let question = Question {
                event_id: id.clone(),
                room_id: Some(self.head.room_id.clone()),
                direction: Way::Down,
                ..self.question.clone()
            };
            let event = self.events.get(id);
            let from = event.map(|event| event.pdu.sender().server_name().to_owned());
            self.asking.about(&question, from.as_deref()).await?;
            self.store().explored_children(self.head.room, id).await?;
        }
        Ok(())
    }

    /// What is here of some events' children, one by one.
    async fn local_children(&self, ids: &[OwnedEventId]) -> Result<Vec<Children>, MatrixError> {
        let refs: Vec<&EventId> = ids.iter().map(|id| &**id).collect();
        let bounds = if self.seer.counts_all() {
            let each = (MAX_COUNTED / ids.len().max(1)).max(LEAST_COUNTED);
            (each, MAX_COUNTED)
        } else {
            (MAX_JUDGED_EACH, MAX_JUDGED)
        };
        let mut found = self
            .store()
            .relationship_children(self.head.room, &refs, bounds)
            .await?;
        if !self.seer.counts_all() {
            let nos: Vec<_> = found.iter().map(|child| child.no).collect();
            let mut events = self.store().events_by_no(&nos).await?;
            events.retain(|event| event.status == Status::Accepted);
            let seen = self.seer.seen(events).await?;
            let seen: HashSet<_> = seen.iter().map(|event| event.no).collect();
            found.retain(|child| seen.contains(&child.no));
        }
        let mut by_parent: HashMap<&EventId, Vec<&RelatedChild>> = HashMap::new();
        for child in &found {
            by_parent.entry(&child.parent).or_default().push(child);
        }
        let of = |id: &OwnedEventId| by_parent.get(&**id).map_or(&[][..], Vec::as_slice);
        Ok(ids.iter().map(|id| Children::of(of(id))).collect())
    }

    /// What is known of some events' children, here or elsewhere.
    async fn known_children(&self, ids: &[OwnedEventId]) -> Result<Vec<Children>, MatrixError> {
        let here = self.local_children(ids).await?;
        if !self.seer.counts_all() {
            return Ok(here);
        }
        let refs: Vec<&EventId> = ids.iter().map(|id| &**id).collect();
        let told = self.store().told_children(self.head.room, &refs).await?;
        let known = ids.iter().zip(here);
        Ok(known.map(|(id, here)| here.or_told(told.get(id))).collect())
    }
}
