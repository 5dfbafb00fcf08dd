//! What events are to users: what the push rules say, and in which thread. Both are found once per event, for all
//! who have the same rules.

use std::sync::Arc;

use rhizome_rooms::thread;
use rhizome_storage::{Cache, EventNo, Store, StoredEvent, UserNo};
use ruma::EventId;

use super::{
    asking::{Levels, Person, name_of, related_of, to_be_seen},
    tally::{Scope, Step, Thread},
};
use crate::{
    MatrixError,
    push::{
        evaluate::{Alert, Asked, Known, Missing},
        wishes::Wishes,
    },
};

/// Alerts remembered.
const MAX_ALERTS: usize = 50_000;
/// Events whose thread is remembered.
const MAX_THREADS: usize = 20_000;

/// What is remembered of events.
#[derive(Debug)]
pub struct Alerts {
    /// By event and rules; `None`: it depends on who is asked.
    alerts: Cache<(EventNo, u64), Option<Alert>>,
    threads: Cache<EventNo, Thread>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            alerts: Cache::new(MAX_ALERTS),
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

impl Alerts {
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
        let own = |event: &StoredEvent| event.pdu.sender() == whose.wishes.user_id;
        if let Some(target) = event.pdu.redacts()
            && let Some(target) = store.event(target).await?
            && target.room == event.room
            && target.redacted_by.is_some()
        {
            steps.extend(target.pos().map(Step::Redacted));
            steps.extend(own(&target).then_some(Step::Anew));
        }
        if own(event) {
            if reads(event) {
                let thread = self.thread(store, event).await?;
                steps.push(Step::Read(Scope::Thread(thread), pos));
            }
            return Ok(());
        }
        let alert = self.alert(store, event, whose).await?;
        if alert != Alert::Silent {
            steps.push(Step::Unread {
                pos,
                thread: self.thread(store, event).await?,
                highlight: alert == Alert::Highlight,
            });
        }
        Ok(())
    }

    /// The thread that an event is in.
    pub async fn thread(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
    ) -> Result<Thread, MatrixError> {
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
    async fn alert(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
        whose: Whose<'_>,
    ) -> Result<Alert, MatrixError> {
        let wishes = whose.wishes;
        if is_nothing(event, wishes) {
            return Ok(Alert::Silent);
        }
        let key = (event.no, wishes.rules.id);
        let judge = |known: &Known<'_>| wishes.rules.set.alert(&event.pdu, known);
        match self.alerts.get(&key) {
            Some(Some(alert)) => return Ok(alert),
            Some(None) => {}
            None => {
                let alert = self.ask(store, event, None, judge).await?;
                self.alerts.insert(key, alert);
                if let Some(alert) = alert {
                    return Ok(alert);
                }
            }
        }
        let person = self.person(store, event, whose).await?;
        let alert = self.ask(store, event, Some(person.asked(wishes)), judge);
        Ok(alert.await?.unwrap_or_default())
    }

    /// What a user is notified by of somebody else's event, and what is to be done then, as a JSON array of actions.
    pub async fn notification<'a>(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
        whose: Whose<'a>,
    ) -> Result<Option<(Alert, &'a str)>, MatrixError> {
        let wishes = whose.wishes;
        if event.pdu.sender() == wishes.user_id || is_nothing(event, wishes) {
            return Ok(None);
        }
        let person = self.person(store, event, whose).await?;
        let judge = |known: &Known<'_>| wishes.rules.set.actions(&event.pdu, known);
        let found = self.ask(store, event, Some(person.asked(wishes)), judge);
        let found = found.await?.flatten();
        Ok(found.filter(|(alert, _)| *alert != Alert::Silent))
    }

    /// What `judge` says; `None` if that depends on who is asked. What isn't known is looked up as it is needed.
    async fn ask<T>(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
        asked: Option<Asked<'_>>,
        judge: impl Fn(&Known<'_>) -> Result<T, Missing>,
    ) -> Result<Option<T>, MatrixError> {
        let (mut members, mut in_thread) = (None, None);
        let mut levels: Option<Levels> = None;
        let mut related: Option<Vec<Arc<StoredEvent>>> = None;
        loop {
            let others = related.as_deref().map(to_be_seen);
            let known = Known {
                members,
                power: levels.as_ref().map(|levels| levels.power(event)),
                in_thread,
                related: others.as_deref(),
                user: asked,
            };
            match judge(&known) {
                Ok(said) => return Ok(Some(said)),
                Err(Missing::User) => return Ok(None),
                Err(Missing::Members) => {
                    let joined = store.member_counts(event.room).await?.joined;
                    members = Some(u64::try_from(joined).unwrap_or_default());
                }
                Err(Missing::Power) => levels = Some(Levels::at(store, event).await?),
                Err(Missing::Thread) => {
                    in_thread = Some(self.thread(store, event).await?.is_some());
                }
                Err(Missing::Related) => related = Some(related_of(store, event).await?),
            }
        }
    }

    /// Who is asked, as far as their rules look at it.
    async fn person(
        &self,
        store: &Store,
        event: &Arc<StoredEvent>,
        whose: Whose<'_>,
    ) -> Result<Person, MatrixError> {
        let set = &whose.wishes.rules.set;
        let mut person = Person::default();
        if set.asks_names() {
            person.name = name_of(store, event.room, whose.user).await?;
        }
        if set.asks_threads()
            && let Some(root) = self.thread(store, event).await?
            && let Ok(root) = <&EventId>::try_from(&*root)
        {
            let followers = store.thread_followers(event.room, root).await?;
            person.follows = followers.contains(&whose.user);
        }
        if set.asks_related() {
            let row = store.membership(whose.user, event.room).await?;
            person.since = row.map_or(i64::MAX, |row| row.since.0);
        }
        Ok(person)
    }
}

/// Whether an event is nothing to be notified of, whatever the rules say.
fn is_nothing(event: &StoredEvent, wishes: &Wishes) -> bool {
    event.redacted_by.is_some() || wishes.ignored.contains(event.pdu.sender())
}

/// Whether its sender has read up to an event. Of a redacted one isn't known any more in which thread it was.
fn reads(event: &StoredEvent) -> bool {
    let pdu = &event.pdu;
    pdu.state_key().is_none() && pdu.redacts().is_none() && event.redacted_by.is_none()
}
