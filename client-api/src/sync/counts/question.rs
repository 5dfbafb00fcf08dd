//! An event of which is asked what it is to users, and what has been found out for that: each thing once, however
//! many are asked.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::Membership;
use rhizome_rooms::loose_ends::is_dummy;
use rhizome_storage::{Store, StoredEvent, UserNo};
use ruma::{EventId, ServerName};

use super::{
    alerts::{Alerts, Verdict, Whose},
    asking::{Levels, Person, name_of, related_of, to_be_seen},
    tally::{Scope, Step, Thread},
};
use crate::{
    MatrixError,
    push::{
        evaluate::{Alert, Asked, Known, Missing, Named, Seen},
        wishes::{Shared, Wishes},
    },
};

/// So many users of this server whom an event names are looked up; of one that names more anybody is asked.
const MAX_NAMED: usize = 100;

/// Whom of those who have the same rules an event may do something to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerned {
    /// Any of them.
    Any,
    /// Whom it names, and its sender; and who follows its thread, if the rules ask for that.
    Named {
        /// Whether they do.
        followers: bool,
    },
}

/// An event that another redacts, if that has one and it is done.
type Redacted = Option<Arc<StoredEvent>>;

/// See the module.
pub struct Question<'a> {
    alerts: &'a Alerts,
    store: &'a Store,
    event: &'a Arc<StoredEvent>,
    seen: Seen<'a>,
    /// How many are joined to the room.
    members: Option<u64>,
    levels: Option<Levels>,
    related: Option<Vec<Arc<StoredEvent>>>,
    thread: Option<Thread>,
    /// Who follows that.
    followers: Option<Arc<HashSet<UserNo>>>,
    /// What it redacts.
    redacted: Option<Redacted>,
    named: Option<Named>,
    /// What the rules say that were asked last: most who come after one another have the same.
    last: Option<(u64, Verdict)>,
}

impl<'a> Question<'a> {
    /// Of which nothing is known yet.
    pub fn new(alerts: &'a Alerts, store: &'a Store, event: &'a Arc<StoredEvent>) -> Self {
        Self {
            alerts,
            store,
            event,
            seen: Seen::new(&event.pdu),
            members: None,
            levels: None,
            related: None,
            thread: None,
            followers: None,
            redacted: None,
            named: None,
            last: None,
        }
    }

    /// What the event does to a user's tally. Whose it was says how far they have read (client-server API, "Marking
    /// notifications as read"): a message of their own, but neither a change of state, which clients also make
    /// by themselves, nor a redaction.
    pub async fn steps(
        &mut self,
        whose: Whose<'_>,
        steps: &mut Vec<Step>,
    ) -> Result<(), MatrixError> {
        let event = self.event;
        let Some(pos) = event.pos().filter(|_| !is_dummy(&event.pdu)) else {
            return Ok(());
        };
        let own = |event: &StoredEvent| event.pdu.sender() == whose.wishes.user_id;
        if let Some(target) = self.redacted().await? {
            steps.extend(target.pos().map(Step::Redacted));
            steps.extend(own(target).then_some(Step::Anew));
        }
        if own(event) {
            if reads(event) {
                let thread = self.thread().await?;
                steps.push(Step::Read(Scope::Thread(thread), pos));
            }
            return Ok(());
        }
        let alert = self.alert(whose).await?;
        if alert != Alert::Silent {
            steps.push(Step::Unread {
                pos,
                thread: self.thread().await?,
                highlight: alert == Alert::Highlight,
            });
        }
        Ok(())
    }

    /// Whom of those who have these rules the event may do something to, if their ids are in lower case.
    pub async fn concerned(&mut self, rules: &Shared) -> Result<Concerned, MatrixError> {
        if self.redacted().await?.is_some() {
            return Ok(Concerned::Any);
        }
        let followers = match self.verdict(rules).await? {
            Verdict::Same(Alert::Silent) => false,
            Verdict::OfStrangers(Alert::Silent) => rules.set.asks_threads(),
            _ => return Ok(Concerned::Any),
        };
        Ok(Concerned::Named { followers })
    }

    /// The users of this server whom the event names, with its sender; `None`: there are too many to look for.
    pub async fn named_users(
        &mut self,
        server: &ServerName,
    ) -> Result<Option<Vec<UserNo>>, MatrixError> {
        let named = self.named.get_or_insert_with(|| Named::of(&self.event.pdu));
        let Some(ids) = named.ids(server, MAX_NAMED) else {
            return Ok(None);
        };
        let known = self.store.known_users(&ids).await?;
        Ok(Some(known.into_values().collect()))
    }

    /// What a user is notified by of somebody else's event, and what is to be done then, as a JSON array of actions.
    pub async fn notification<'w>(
        &mut self,
        whose: Whose<'w>,
    ) -> Result<Option<(Alert, &'w str)>, MatrixError> {
        let wishes = whose.wishes;
        if self.event.pdu.sender() == wishes.user_id || self.is_nothing(wishes).await? {
            return Ok(None);
        }
        let person = self.person(whose).await?;
        let judge = |seen: &mut Seen<'_>, known: &Known<'_>| wishes.rules.set.actions(seen, known);
        let found = self.ask(Some(person.asked(wishes)), judge).await?.flatten();
        Ok(found.filter(|(alert, _)| *alert != Alert::Silent))
    }

    /// The event of the room that this one redacts.
    async fn redacted(&mut self) -> Result<Option<&Arc<StoredEvent>>, MatrixError> {
        if self.redacted.is_none() {
            let target = match self.event.pdu.redacts() {
                Some(target) => self.store.event(target).await?,
                None => None,
            };
            let is_it = |target: &Arc<StoredEvent>| {
                target.room == self.event.room && target.redacted_by.is_some()
            };
            self.redacted = Some(target.filter(is_it));
        }
        Ok(self.redacted.iter().flatten().next())
    }

    /// The thread that the event is in.
    async fn thread(&mut self) -> Result<Thread, MatrixError> {
        if let Some(known) = &self.thread {
            return Ok(known.clone());
        }
        let thread = self.alerts.thread(self.store, self.event).await?;
        Ok(self.thread.insert(thread).clone())
    }

    /// Whether a user follows that.
    async fn is_followed_by(&mut self, user: UserNo) -> Result<bool, MatrixError> {
        Ok(self.followers().await?.contains(&user))
    }

    /// Who follows its thread.
    pub async fn followers(&mut self) -> Result<Arc<HashSet<UserNo>>, MatrixError> {
        if let Some(known) = &self.followers {
            return Ok(known.clone());
        }
        let thread = self.thread().await?;
        let root = thread.as_deref().map(<&EventId>::try_from);
        let followers = match root {
            Some(Ok(root)) => self.store.thread_followers(self.event.room, root).await?,
            _ => Arc::default(),
        };
        Ok(self.followers.insert(followers).clone())
    }

    /// Whether it is nothing to be notified of, whatever the rules say.
    async fn is_nothing(&mut self, wishes: &Wishes) -> Result<bool, MatrixError> {
        let pdu = &self.event.pdu;
        let is_ignored = || wishes.ignored.contains(pdu.sender());
        if self.event.redacted_by.is_some() || is_dummy(pdu) || is_ignored() {
            return Ok(true);
        }
        let invites = pdu.is_state("m.room.member", wishes.user_id.as_str())
            && pdu.membership() == Some(Membership::Invite);
        if !invites {
            return Ok(false);
        }
        Ok(wishes.ignored.hides_invite(pdu.sender())
            || self.store.blocks().await?.room(pdu.room_id()))
    }

    /// What somebody else's event is to a user.
    async fn alert(&mut self, whose: Whose<'_>) -> Result<Alert, MatrixError> {
        let wishes = whose.wishes;
        if self.is_nothing(wishes).await? {
            return Ok(Alert::Silent);
        }
        match self.verdict(&wishes.rules).await? {
            Verdict::Same(alert) => return Ok(alert),
            Verdict::OfStrangers(alert) if self.is_stranger(whose).await? => return Ok(alert),
            Verdict::OfStrangers(_) | Verdict::Each => {}
        }
        let person = self.person(whose).await?;
        let alert = self
            .ask_alert(&wishes.rules, Some(person.asked(wishes)))
            .await?;
        Ok(alert.unwrap_or_default())
    }

    /// What it is to those who have these rules.
    async fn verdict(&mut self, rules: &Shared) -> Result<Verdict, MatrixError> {
        let id = rules.id;
        if let Some((_, known)) = self.last.filter(|(last, _)| *last == id) {
            return Ok(known);
        }
        let key = (self.event.no, id);
        let verdict = if let Some(known) = self.alerts.verdicts.get(&key) {
            known
        } else {
            let found = self.find_verdict(rules).await?;
            self.alerts.verdicts.insert(key, found);
            found
        };
        self.last = Some((id, verdict));
        Ok(verdict)
    }

    async fn find_verdict(&mut self, rules: &Shared) -> Result<Verdict, MatrixError> {
        if let Some(alert) = self.ask_alert(rules, None).await? {
            return Ok(Verdict::Same(alert));
        }
        let set = &rules.set;
        // What somebody is called, and since when they are there, is different for each.
        if set.asks_names() || set.asks_related() {
            return Ok(Verdict::Each);
        }
        let alert = self.ask_alert(rules, Some(Asked::STRANGER)).await?;
        Ok(Verdict::OfStrangers(alert.unwrap_or_default()))
    }

    /// Whether a user has nothing to do with the event but that they are in the room.
    async fn is_stranger(&mut self, whose: Whose<'_>) -> Result<bool, MatrixError> {
        let event = self.event;
        let named = self.named.get_or_insert_with(|| Named::of(&event.pdu));
        if named.may_be(&whose.wishes.user_id) {
            return Ok(false);
        }
        let asks_threads = whose.wishes.rules.set.asks_threads();
        Ok(!(asks_threads && self.is_followed_by(whose.user).await?))
    }

    async fn ask_alert(
        &mut self,
        rules: &Shared,
        asked: Option<Asked<'_>>,
    ) -> Result<Option<Alert>, MatrixError> {
        let set = &rules.set;
        let judge = |seen: &mut Seen<'_>, known: &Known<'_>| set.alert(seen, known);
        self.ask(asked, judge).await
    }

    /// What `judge` says; `None` if that depends on who is asked. What isn't known is looked up as it is needed.
    async fn ask<T>(
        &mut self,
        asked: Option<Asked<'_>>,
        judge: impl Fn(&mut Seen<'_>, &Known<'_>) -> Result<T, Missing>,
    ) -> Result<Option<T>, MatrixError> {
        let (store, event) = (self.store, self.event);
        loop {
            let others = self.related.as_deref().map(to_be_seen);
            let known = Known {
                members: self.members,
                power: self.levels.as_ref().map(|levels| levels.power(event)),
                in_thread: self.thread.as_ref().map(Option::is_some),
                related: others.as_deref(),
                user: asked,
            };
            match judge(&mut self.seen, &known) {
                Ok(said) => return Ok(Some(said)),
                Err(Missing::User) => return Ok(None),
                Err(Missing::Members) => {
                    let joined = store.member_counts(event.room).await?.joined;
                    self.members = Some(u64::try_from(joined).unwrap_or_default());
                }
                Err(Missing::Power) => self.levels = Some(Levels::at(store, event).await?),
                Err(Missing::Thread) => drop(self.thread().await?),
                Err(Missing::Related) => self.related = Some(related_of(store, event).await?),
            }
        }
    }

    /// Who is asked, as far as their rules look at it.
    async fn person(&mut self, whose: Whose<'_>) -> Result<Person, MatrixError> {
        let (store, room) = (self.store, self.event.room);
        let set = &whose.wishes.rules.set;
        let mut person = Person::default();
        if set.asks_names() {
            person.name = name_of(store, room, whose.user).await?;
        }
        if set.asks_threads() {
            person.follows = self.is_followed_by(whose.user).await?;
        }
        if set.asks_related() {
            let row = store.membership(whose.user, room).await?;
            person.since = row.map_or(i64::MAX, |row| row.since.0);
        }
        Ok(person)
    }
}

/// Whether its sender has read up to an event. Of a redacted one isn't known any more in which thread it was.
fn reads(event: &StoredEvent) -> bool {
    let pdu = &event.pdu;
    pdu.state_key().is_none() && pdu.redacts().is_none() && event.redacted_by.is_none()
}
