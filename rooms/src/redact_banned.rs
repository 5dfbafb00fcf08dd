//! What people have sent is redacted when they are banned or kicked, if whoever does it says so
//! ([MSC4293](https://github.com/matrix-org/matrix-spec-proposals/pull/4293)).
//!
//! A reader of the log does it, whoever bans from where: no redaction is sent, each server finds what there is. It goes
//! back to when the user came into the room: changes of name in between don't save anything. What comes late of who
//! isn't there any more is redacted as it comes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use rhizome_protocol::{
    Membership, Object, Pdu,
    power::{Action, Level, Power},
};
use rhizome_storage::{
    EntryKind, EventNo, Failure, Lease, LogWork, Pos, Redacts, Restored, RoomNo, RoomWrite,
    SnapshotNo, StateChanged, Store, StoredEvent, Stretch, UserNo,
};
use ruma::{OwnedServerName, UserId};
use serde_json::Value;

use crate::{error::Result, send::commit_error, state::powers_at};

/// The field of a member event, and of a request to ban or kick; the first is what those who know the proposal write.
pub const FIELDS: [&str; 2] = ["org.matrix.msc4293.redact_events", "redact_events"];
/// How many events are looked at, and redacted, together.
const TOGETHER: usize = 500;
/// How many events of the room one ban goes back through at most: who bans mustn't keep the server busy for hours.
const MOST_EVENTS: usize = 20_000;
/// How many changes of name are gone back through to find when somebody came.
const MOST_CHANGES: usize = 200;
/// Attempts at one stretch.
const ATTEMPTS: u32 = 3;

/// Whether content asks for it.
pub fn is_asked(content: &Object) -> bool {
    let mut fields = FIELDS.iter().filter_map(|field| content.get(*field));
    fields.any(|value| *value == Value::Bool(true))
}

/// Whether it makes somebody leave and asks for it.
pub(crate) fn asks(pdu: &Pdu) -> bool {
    let leaves = matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban));
    let by_others = pdu.state_key() != Some(pdu.sender().as_str());
    leaves && by_others && is_asked(pdu.content())
}

/// Redacts what banned people have sent, as the work of a [`rhizome_storage::LogReader`].
#[derive(Debug)]
pub struct RedactBanned {
    store: Store,
    server: OwnedServerName,
}

impl RedactBanned {
    /// In all rooms of this store, which is `server`'s.
    pub fn new(store: &Store, server: OwnedServerName) -> Self {
        Self {
            store: store.clone(),
            server,
        }
    }

    /// Somebody was made to leave.
    async fn left(&self, change: &StateChanged) -> Result<()> {
        let Some(ban) = self.asked(change.new).await? else {
            return Ok(());
        };
        let Some(until) = ban.pos() else {
            return Ok(());
        };
        let mut old = change.old;
        if old == change.new {
            // Only now it is known that it is allowed.
            old = match (ban.state_before, ban.pdu.state_key()) {
                (Some(at), Some(user)) => self.store.state_entry(at, "m.room.member", user).await?,
                _ => None,
            };
        }
        let Some(since) = self.came(old).await? else {
            return Ok(());
        };
        let bound = self
            .store
            .live_before(ban.room, since, until, MOST_EVENTS)
            .await?;
        let mut after = bound.unwrap_or(since);
        loop {
            let page = self.store.live_after(ban.room, after, until, TOGETHER);
            let page = page.await?;
            let Some(last) = page.last().and_then(|event| event.pos()) else {
                return Ok(());
            };
            after = last;
            self.redact(&ban, &page).await?;
        }
    }

    /// The ban or kick that this is, if it asks for redactions and may.
    async fn asked(&self, event: Option<EventNo>) -> Result<Option<Arc<StoredEvent>>> {
        let Some(event) = event else { return Ok(None) };
        let Some(ban) = self.store.event_by_no(event).await? else {
            return Ok(None);
        };
        let pdu = &ban.pdu;
        if !asks(pdu) {
            return Ok(None);
        }
        let Some(at) = ban.state_before else {
            return Ok(None);
        };
        // What is taken away doesn't come back, should it turn out that they weren't there. Who completes the room says it anew.
        let elsewhere = pdu.sender().server_name() != self.server;
        if elsewhere && self.store.is_partial_event(event).await? {
            return Ok(None);
        }
        Ok(self.may_redact(at, pdu).await?.then_some(ban))
    }

    /// Whether the sender had the power to redact what others say.
    async fn may_redact(&self, at: SnapshotNo, ban: &Pdu) -> Result<bool> {
        let state = powers_at(&self.store, at).await?;
        let power = Power::of(ban.rules(), &state);
        let sends = Level::Int(power.event("m.room.redaction", false));
        Ok(power.may(ban.sender(), Action::Redact) && power.user(ban.sender()) >= sends)
    }

    /// When the user came whose member event this was; `None` if they weren't there.
    async fn came(&self, member: Option<EventNo>) -> Result<Option<Pos>> {
        let mut came = None;
        let mut member = member;
        for _ in 0..MOST_CHANGES {
            let Some(no) = member else { break };
            let Some(event) = self.store.event_by_no(no).await? else {
                break;
            };
            if event.pdu.membership() != Some(Membership::Join) {
                break;
            }
            // One that came as state of the room that we joined says that they were there before us.
            came = Some(event.pos().unwrap_or(Pos(0)));
            let (Some(at), Some(user)) = (event.state_before, event.pdu.state_key()) else {
                break;
            };
            member = self.store.state_entry(at, "m.room.member", user).await?;
        }
        Ok(came)
    }

    /// Redacts those of `events` that the banned user has sent.
    async fn redact(&self, ban: &StoredEvent, events: &[Arc<StoredEvent>]) -> Result<()> {
        let user = ban.pdu.state_key();
        let theirs = |event: &&Arc<StoredEvent>| {
            event.redacted_by.is_none()
                && Some(event.pdu.sender().as_str()) == user
                && !is_spared(&event.pdu)
        };
        let theirs: Vec<_> = events.iter().filter(theirs).cloned().collect();
        let count = theirs.len();
        redact_here(&self.store, ban, &theirs).await?;
        if count > 0 {
            tracing::info!(room = %ban.room, ban = %ban.pdu.event_id(), count, "what a banned user has sent is redacted");
        }
        Ok(())
    }

    /// Events of who isn't in the room any more: those of banned people are redacted.
    async fn late(&self, events: &[&Arc<StoredEvent>]) -> Result<()> {
        let senders: BTreeSet<&UserId> = events.iter().map(|event| event.pdu.sender()).collect();
        let senders: Vec<&UserId> = senders.into_iter().collect();
        let nos = self.store.user_nos(&senders).await?;
        let nos: HashMap<&UserId, UserNo> = senders.into_iter().zip(nos).collect();
        let place = |event: &Arc<StoredEvent>| {
            let user = nos.get(event.pdu.sender()).copied().unwrap_or_default();
            (event.room, user)
        };
        let asked: BTreeSet<(RoomNo, UserNo)> = events.iter().map(|event| place(event)).collect();
        let mut asked: Vec<_> = asked.into_iter().collect();
        let joined = self.store.joined_among(&asked).await?;
        let joined: BTreeSet<(RoomNo, UserNo)> = joined
            .into_iter()
            .map(|(room, member)| (room, member.user))
            .collect();
        asked.retain(|gone| !joined.contains(gone));
        let mut bans = BTreeMap::new();
        for (room, user) in asked {
            let row = self.store.membership(user, room).await?;
            if let Some(ban) = self.asked(row.and_then(|row| row.event)).await? {
                bans.insert((room, user), ban);
            }
        }
        for event in events {
            let Some(ban) = bans.get(&place(event)) else {
                continue;
            };
            if event.pos() > ban.pos() {
                self.redact(ban, &[(*event).clone()]).await?;
            }
        }
        Ok(())
    }
}

/// Redacts events here, without telling other servers; `because` is the event of the same room that clients are told.
///
/// # Errors
/// They couldn't be written.
pub async fn redact_here(
    store: &Store,
    because: &StoredEvent,
    events: &[Arc<StoredEvent>],
) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let redacts = events.iter().map(|event| Redacts {
        target: event.pdu.event_id().to_owned(),
        only_from: None,
    });
    let write = RoomWrite {
        room: because.room,
        restored: vec![Restored {
            no: because.no,
            pdu: because.pdu.clone(),
            redacts: redacts.collect(),
        }],
        ..RoomWrite::default()
    };
    store.commit(write.into()).await.map_err(commit_error)?;
    Ok(())
}

/// What a ban doesn't redact: what its user has redacted stays so, the room stays a room, its servers aren't all shut
/// out, and it doesn't look as if it weren't encrypted.
fn is_spared(pdu: &Pdu) -> bool {
    match pdu.kind() {
        "m.room.redaction" | "m.room.create" => true,
        "m.room.server_acl" | "m.room.encryption" => pdu.state_key() == Some(""),
        _ => false,
    }
}

impl LogWork for RedactBanned {
    async fn begin(&self, _: &Lease, done: Pos) -> std::result::Result<Pos, Failure> {
        let head = self.store.log().head();
        Ok(if done == Pos(0) { head } else { done })
    }

    async fn work(&self, stretch: &Stretch) -> std::result::Result<(), Failure> {
        if stretch.failures >= ATTEMPTS {
            tracing::warn!(after = %stretch.after, "what banned users have sent isn't redacted here");
            return Ok(());
        }
        let mut events = Vec::new();
        for entry in &stretch.entries {
            match &entry.kind {
                EntryKind::State(
                    change @ StateChanged {
                        member: Some((_, Membership::Leave | Membership::Ban)),
                        ..
                    },
                ) => self.left(change).await?,
                // Users of ours don't send when they are gone.
                EntryKind::Event(live)
                    if live.event.pdu.sender().server_name() != self.server
                        && live.event.pdu.kind() != "m.room.member" =>
                {
                    events.push(&live.event);
                }
                _ => {}
            }
        }
        if !events.is_empty() {
            self.late(&events).await?;
        }
        Ok(())
    }
}
