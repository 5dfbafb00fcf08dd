//! What events are to users: what the push rules say, and in which thread. Both are found once per event, for all
//! who have the same rules.

use std::sync::Arc;

use rhizome_protocol::power::Power;
use rhizome_rooms::thread;
use rhizome_storage::{Cache, EventNo, RoomNo, Store, StoredEvent, UserNo};

use super::tally::{Scope, Step, Thread};
use crate::{
    MatrixError,
    push::{
        evaluate::{Asked, Known, Missing, Verdict},
        wishes::Wishes,
    },
};

/// Verdicts remembered.
const MAX_VERDICTS: usize = 50_000;
/// Events whose thread is remembered.
const MAX_THREADS: usize = 20_000;

/// What is remembered of events.
#[derive(Debug)]
pub struct Judge {
    /// By event and rules; `None`: it depends on who is asked.
    verdicts: Cache<(EventNo, u64), Option<Verdict>>,
    threads: Cache<EventNo, Thread>,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            verdicts: Cache::new(MAX_VERDICTS),
            threads: Cache::new(MAX_THREADS),
        }
    }
}

/// Whose tally it is.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The user.
    pub user: UserNo,
    /// What they want to be notified of.
    pub wishes: &'a Wishes,
}

impl Judge {
    /// What an event does to a user's tally. Whose it was says how far they have read (client-server API, "Marking
    /// notifications as read"): a message of their own, but neither a change of state, which clients also make
    /// by themselves, nor a redaction.
    pub async fn steps(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
        whose: Whose<'_>,
        steps: &mut Vec<Step>,
    ) -> Result<(), MatrixError> {
        let Some(pos) = event.pos() else {
            return Ok(());
        };
        let redacts = event.pdu.redacts();
        if let Some(target) = redacts
            && let Some(target) = store.event(target).await?
            && target.room == event.room
            && target.redacted_by.is_some()
        {
            steps.extend(target.pos().map(Step::Redacted));
        }
        if event.pdu.sender() == whose.wishes.user_id {
            if event.pdu.state_key().is_none() && redacts.is_none() {
                let thread = self.thread(store, event).await?;
                steps.push(Step::Read(Scope::Thread(thread), pos));
            }
            return Ok(());
        }
        let verdict = self.verdict(store, event, whose).await?;
        if verdict != Verdict::Silent {
            steps.push(Step::Unread {
                pos,
                thread: self.thread(store, event).await?,
                highlight: verdict == Verdict::Highlight,
            });
        }
        Ok(())
    }

    /// The thread that an event is in.
    async fn thread(&self, store: &Store, event: &Arc<StoredEvent>) -> Result<Thread, MatrixError> {
        if !event.pdu.content().contains_key("m.relates_to") {
            return Ok(None);
        }
        if let Some(known) = self.threads.get(&event.no) {
            return Ok(known);
        }
        let root = thread::root_of(store, event).await?;
        let root: Thread = root.map(|root| root.as_str().into());
        self.threads.insert(event.no, root.clone());
        Ok(root)
    }

    /// What somebody else's event is to a user.
    async fn verdict(
        &self,
        store: &Store,
        event: &StoredEvent,
        whose: Whose<'_>,
    ) -> Result<Verdict, MatrixError> {
        let wishes = whose.wishes;
        if event.redacted_by.is_some() || wishes.ignored.contains(event.pdu.sender()) {
            return Ok(Verdict::Silent);
        }
        let key = (event.no, wishes.rules.id);
        match self.verdicts.get(&key) {
            Some(Some(verdict)) => return Ok(verdict),
            Some(None) => {}
            None => {
                let verdict = ask(store, event, wishes, None).await?;
                self.verdicts.insert(key, verdict);
                if let Some(verdict) = verdict {
                    return Ok(verdict);
                }
            }
        }
        let name = if wishes.rules.set.asks_names() {
            name_of(store, event.room, whose.user).await?
        } else {
            None
        };
        let asked = Asked {
            id: &wishes.user_id,
            name: name.as_deref(),
        };
        let verdict = ask(store, event, wishes, Some(asked)).await?;
        Ok(verdict.unwrap_or_default())
    }
}

/// What the rules say; `None` if that depends on who is asked. What isn't known is looked up as it is needed.
async fn ask(
    store: &Store,
    event: &StoredEvent,
    wishes: &Wishes,
    asked: Option<Asked<'_>>,
) -> Result<Option<Verdict>, MatrixError> {
    let mut members = None;
    let mut levels: Option<Levels> = None;
    loop {
        let known = Known {
            members,
            power: levels.as_ref().map(|levels| levels.power(event)),
            user: asked,
        };
        match wishes.rules.set.judge(&event.pdu, &known) {
            Ok(verdict) => return Ok(Some(verdict)),
            Err(Missing::User) => return Ok(None),
            Err(Missing::Members) => {
                let joined = store.member_counts(event.room).await?.joined;
                members = Some(u64::try_from(joined).unwrap_or_default());
            }
            Err(Missing::Power) => levels = Some(Levels::at(store, event).await?),
        }
    }
}

/// The events that say who has which power.
struct Levels {
    create: Option<Arc<StoredEvent>>,
    levels: Option<Arc<StoredEvent>>,
}

impl Levels {
    /// Those before an event.
    async fn at(store: &Store, event: &StoredEvent) -> Result<Self, MatrixError> {
        let keys = [("m.room.create", ""), ("m.room.power_levels", "")];
        let found = match event.state_before {
            Some(at) => store.state_entries(at, &keys).await?,
            None => Vec::new(),
        };
        let mut events = [None, None];
        for (slot, no) in events.iter_mut().zip(found) {
            if let Some(no) = no {
                *slot = store.event_by_no(no).await?;
            }
        }
        let [create, levels] = events;
        Ok(Self { create, levels })
    }

    fn power<'a>(&'a self, event: &'a StoredEvent) -> Power<'a> {
        let create = self.create.as_ref().map(|event| &*event.pdu);
        let levels = self.levels.as_ref().map(|event| event.pdu.content());
        Power::new(event.pdu.rules(), create, levels)
    }
}

/// What a user is called in a room.
async fn name_of(store: &Store, room: RoomNo, user: UserNo) -> Result<Option<String>, MatrixError> {
    let row = store.membership(user, room).await?;
    let Some(event) = row.and_then(|row| row.event) else {
        return Ok(None);
    };
    let event = store.event_by_no(event).await?;
    let name = event.and_then(|event| {
        let name = event.pdu.content().get("displayname")?;
        name.as_str().map(str::to_owned)
    });
    Ok(name)
}
