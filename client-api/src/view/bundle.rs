//! What relates to an event, told with it (client-server API, "Aggregations of child events"): its most recent edit, its
//! thread, what references it.
//!
//! For all the events of an answer at once: one question asks which of them have children, and mostly that is all. What
//! they have is then looked up by kind, and what relates to a thread's latest event in turn: a number of questions that
//! doesn't depend on how many events there are, nor on their children. What the reader may see of these is decided like
//! everywhere: what is counted by what they [surely see](Standing::surely_sees), what is shown one by one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rhizome_rooms::access::Standing;
use rhizome_storage::{
    Edited, EventNo, HasChildren, Parent, Pos, Store, StoredEvent, ThreadSummary, UserNo,
};
use ruma::{OwnedEventId, OwnedUserId};

use crate::{
    MatrixError,
    view::{
        dress, ignored,
        reading::Reading,
        scan::Budget,
        seen::{Relations, Seen, Thread, Viewer},
    },
};

/// Events of one room.
pub struct Piece<'e> {
    /// How the reader stands to the room.
    pub standing: Standing,
    /// The last position of which they may hear.
    pub upto: Pos,
    /// The events.
    pub events: &'e mut [Seen],
}

/// Who is told.
#[derive(Clone, Copy)]
pub struct Bundler<'a> {
    /// The database.
    pub store: &'a Store,
    /// The reader.
    pub viewer: &'a Viewer,
    /// Whom they don't hear.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// What the answer may hold: what relates to its events is left out once that is spent.
    pub budget: &'a Budget,
}

/// An event whose children are asked for, and what it has of which something is told.
struct Asked {
    event: Arc<StoredEvent>,
    has: HasChildren,
    standing: Standing,
    upto: Pos,
}

impl Bundler<'_> {
    /// Adds to events of the room that is read what relates to them.
    pub async fn in_room(
        &self,
        reading: &Reading,
        upto: Pos,
        events: &mut [Seen],
    ) -> Result<(), MatrixError> {
        let standing = reading.room.standing;
        let piece = Piece {
            standing,
            upto,
            events,
        };
        self.bundle(vec![piece]).await
    }

    /// Adds to some events what relates to them.
    pub async fn bundle(&self, pieces: Vec<Piece<'_>>) -> Result<(), MatrixError> {
        let (mut asked, mut events) = (Vec::new(), Vec::new());
        for piece in pieces {
            for seen in piece.events {
                if let Some(new) = Asked::of(&seen.event, piece.standing, piece.upto) {
                    asked.push(new);
                    events.push(seen);
                }
            }
        }
        self.look(&mut asked).await?;
        if !asked.iter().any(Asked::has_any) {
            return Ok(());
        }
        let ignored = ignored::numbers(self.store, self.ignored).await?;
        let mut threads = self.threads(&asked, &ignored).await?;
        // What relates to the latest events of threads is asked for together with the rest.
        let (first, mut at) = (asked.len(), HashMap::new());
        let mut latest = Vec::new();
        for (n, thread) in &threads {
            let root = &asked[*n];
            let event = &thread.latest.event;
            if let Some(new) = Asked::of(event, root.standing, root.upto) {
                at.insert(*n, first + latest.len());
                latest.push(new);
            }
        }
        self.look(&mut latest).await?;
        for one in &mut latest {
            one.has.thread = false;
        }
        asked.append(&mut latest);
        let mut edits = self.edits(&asked).await?;
        let mut references = self.references(&asked, &ignored).await?;
        let mut of = |n: usize| Relations {
            edit: edits.remove(&n),
            thread: None,
            references: references.remove(&n).unwrap_or_default(),
        };
        for (n, seen) in events.into_iter().enumerate() {
            let mut relations = of(n);
            relations.thread = threads.remove(&n);
            if let (Some(thread), Some(at)) = (&mut relations.thread, at.get(&n)) {
                thread.latest.relate(of(*at));
            }
            if self.budget.is_spent() {
                continue;
            }
            self.budget.take(relations.size());
            seen.relate(relations);
        }
        Ok(())
    }

    /// Asks which of some events have children.
    async fn look(&self, asked: &mut [Asked]) -> Result<(), MatrixError> {
        let parents: Vec<Parent<'_>> = asked.iter().map(Asked::parent).collect();
        let found = self.store.have_children(&parents).await?;
        for (asked, has) in asked.iter_mut().zip(found) {
            asked.has = self.told(&asked.event, has);
        }
        Ok(())
    }

    /// What is told of what an event has.
    fn told(&self, event: &StoredEvent, has: HasChildren) -> HasChildren {
        // Mostly it has nothing, and then what it says of itself needn't be read.
        if has == HasChildren::default() {
            return has;
        }
        let rel_type = rel_type(event);
        HasChildren {
            // Nothing that relates to something can be a thread's root.
            thread: has.thread && rel_type.is_none(),
            // Nor can an edit be edited; and what is redacted has none.
            edits: has.edits
                && rel_type != Some("m.replace")
                && event.redacted_by.is_none()
                && !self.ignored.contains(event.pdu.sender()),
            references: has.references,
        }
    }

    async fn threads(
        &self,
        asked: &[Asked],
        ignored: &[UserNo],
    ) -> Result<BTreeMap<usize, Thread>, MatrixError> {
        let (at, parents) = chosen(asked, |has| has.thread);
        let reader = self.viewer.user;
        let found = (self.store)
            .thread_summaries(&parents, reader, ignored)
            .await?;
        let latest = found.iter().map(|(n, summary)| (at[*n], summary.latest));
        let mut shown = self.shown(asked, latest.collect()).await?;
        let mut threads = BTreeMap::new();
        for (n, ThreadSummary { count, own, .. }) in found {
            let n = at[n];
            let by_reader = asked[n].event.pdu.sender() == self.viewer.user_id;
            let thread = |latest| Thread {
                latest,
                count,
                participated: own || by_reader,
            };
            threads.extend(shown.remove(&n).map(|latest| (n, thread(latest))));
        }
        Ok(threads)
    }

    async fn edits(&self, asked: &[Asked]) -> Result<HashMap<usize, Seen>, MatrixError> {
        let (at, parents) = chosen(asked, |has| has.edits);
        if parents.is_empty() {
            return Ok(HashMap::new());
        }
        let senders = at.iter().map(|n| asked[*n].event.pdu.sender());
        let senders: HashSet<OwnedUserId> = senders.map(ToOwned::to_owned).collect();
        let senders: Vec<OwnedUserId> = senders.into_iter().collect();
        // Who has no number has sent nothing.
        let senders = self.store.known_users(&senders).await?;
        let (mut of, mut edited) = (Vec::new(), Vec::new());
        for (n, parent) in at.into_iter().zip(parents) {
            let pdu = &asked[n].event.pdu;
            if let Some(sender) = senders.get(pdu.sender()) {
                of.push(n);
                edited.push(Edited {
                    parent,
                    sender: *sender,
                    kind: pdu.kind(),
                });
            }
        }
        let found = self.store.latest_edits(&edited).await?;
        let found = found.into_iter().map(|(n, no)| (of[n], no));
        let mut shown = self.shown(asked, found.collect()).await?;
        // What was taken from who reads changes nothing.
        shown.retain(|_, edit| !edit.event.pdu.content().is_empty());
        Ok(shown)
    }

    async fn references(
        &self,
        asked: &[Asked],
        ignored: &[UserNo],
    ) -> Result<HashMap<usize, Vec<OwnedEventId>>, MatrixError> {
        let (at, parents) = chosen(asked, |has| has.references);
        let found = self.store.references(&parents, ignored).await?;
        Ok(found.into_iter().map(|(n, ids)| (at[n], ids)).collect())
    }

    /// Of the children that were found for events, those that the reader may see.
    async fn shown(
        &self,
        asked: &[Asked],
        found: Vec<(usize, EventNo)>,
    ) -> Result<HashMap<usize, Seen>, MatrixError> {
        let nos: Vec<EventNo> = found.iter().map(|(_, no)| *no).collect();
        let events = self.store.events_by_no(&nos).await?;
        let mut rooms: BTreeMap<_, (Standing, Vec<Arc<StoredEvent>>)> = BTreeMap::new();
        for ((n, _), event) in found.iter().zip(events) {
            let standing = asked[*n].standing;
            let (_, events) = rooms
                .entry(event.room)
                .or_insert_with(|| (standing, Vec::new()));
            events.push(event);
        }
        let mut seen = HashMap::new();
        for (standing, events) in rooms.into_values() {
            let visible = dress::visible(self.store, self.viewer, &standing, events).await?;
            seen.extend(visible.into_iter().map(|one| (one.event.no, one)));
        }
        let shown = found.into_iter();
        Ok(shown
            .filter_map(|(n, no)| Some((n, seen.get(&no)?.clone())))
            .collect())
    }
}

impl Asked {
    /// `None` for what is told without its children: state, and what isn't of a history.
    fn of(event: &Arc<StoredEvent>, standing: Standing, upto: Pos) -> Option<Asked> {
        let is_told = event.pdu.state_key().is_none() && event.is_history();
        is_told.then(|| Asked {
            event: event.clone(),
            has: HasChildren::default(),
            standing,
            upto,
        })
    }

    fn has_any(&self) -> bool {
        self.has != HasChildren::default()
    }

    fn parent(&self) -> Parent<'_> {
        Parent {
            room: self.event.room,
            event: self.event.pdu.event_id(),
            seen: self.standing.surely_sees(self.upto),
        }
    }
}

/// Those of the events that have something, and where they are.
fn chosen(asked: &[Asked], has: impl Fn(&HasChildren) -> bool) -> (Vec<usize>, Vec<Parent<'_>>) {
    let with = asked.iter().enumerate().filter(|(_, one)| has(&one.has));
    with.map(|(n, one)| (n, one.parent())).unzip()
}

/// How an event relates to another, if it does.
pub fn rel_type(event: &StoredEvent) -> Option<&str> {
    let relation = event.pdu.content_field("m.relates_to")?;
    relation.get("rel_type")?.as_str()
}
