//! Local events decided one upon the other, to be stored by one commit.
//!
//! A batch starts at a room's [`Tip`]: its head, the end of another batch that isn't stored yet, or
//! nothing for a new room. Each event that is added follows the one before it, is authorised by the state
//! after it, and moves that state on. Nothing is written: [`Batch::finish`] gives the room's part of
//! a [`rhizome_storage::WriteSet`] and the tip from which the next batch may go on.

mod crowd;
mod tip;

use std::sync::Arc;

use rhizome_protocol::{
    Object, Pdu, Rejection, auth, draft,
    draft::{Draft, Place},
    hash::ReferenceHash,
};
use rhizome_storage::{
    CurrentState, EventNo, KeyNo, NewEvent, Redacts, RoomWrite, SnapshotNo, StateChange, Store,
    TxnKey,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, UserId};

use crate::{
    Error, Rooms,
    error::Result,
    send::view::{ALWAYS, View, ViewState, keys_of},
};
pub(crate) use tip::{Tip, above};

/// See the module.
pub(crate) struct Batch<'a> {
    rooms: &'a Rooms,
    /// After the last event.
    tip: Tip,
    /// The state before the first event, and the event that it was decided upon.
    base: Option<SnapshotNo>,
    follows: Option<OwnedEventId>,
    events: Vec<Pushed>,
}

/// An event of the batch, without the snapshots around it, and what it replaces in the state.
struct Pushed {
    event: NewEvent,
    replaces: Option<EventNo>,
}

impl<'a> Batch<'a> {
    /// A batch that goes on from `tip`.
    pub(crate) fn upon(rooms: &'a Rooms, tip: Tip) -> Self {
        Self {
            rooms,
            base: tip.snapshot,
            follows: tip.pending.clone(),
            tip,
            events: Vec::new(),
        }
    }

    /// The room's id, once it is known.
    pub(crate) fn room_id(&self) -> Option<&OwnedRoomId> {
        self.tip.room_id.as_ref()
    }

    /// The state after the last event.
    pub(crate) fn view(&self) -> &View {
        &self.tip.view
    }

    /// The room's current state with these events: another one than that after the last of them where the
    /// room has more ends than that one could name.
    pub(crate) fn current(&self) -> &View {
        let crowd = self.tip.crowd.as_ref();
        crowd.map_or(&self.tip.view, |crowd| &crowd.view)
    }

    /// Its events.
    pub(crate) fn pdus(&self) -> Vec<Arc<Pdu>> {
        let pdus = self.events.iter();
        pdus.map(|pushed| pushed.event.pdu.clone()).collect()
    }

    /// Puts copies with more signatures in the place of its events.
    pub(crate) fn put_signed(&mut self, signed: &[Arc<Pdu>]) {
        for pushed in &mut self.events {
            let id = pushed.event.pdu.event_id();
            if let Some(copy) = signed.iter().find(|copy| copy.event_id() == id) {
                pushed.event.pdu = copy.clone();
            }
        }
    }

    /// Whether it takes one event only.
    pub(crate) fn is_crowded(&self) -> bool {
        self.tip.crowd.is_some()
    }

    /// How many events it has.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Loads what deciding an event like this one looks at into the view.
    pub(crate) async fn look_at(
        &mut self,
        kind: &str,
        sender: &UserId,
        state_key: Option<&str>,
        content: &Object,
    ) -> Result<()> {
        let keys = keys_of(self.tip.rules, kind, sender, state_key, content);
        let mut wanted: Vec<(&str, &str)> = ALWAYS.to_vec();
        wanted.extend(keys.iter().map(|(kind, key)| (kind.as_str(), key.as_str())));
        if let Some(key) = state_key {
            wanted.push((kind, key));
        }
        // Entries that this batch, or one that isn't stored yet, has changed are in the view already; of
        // the others the state before the batch knows as much as the one after it.
        let view = &mut self.tip.view;
        view.load(self.rooms.store(), self.base, &wanted).await?;
        if let Some(crowd) = &mut self.tip.crowd {
            crowd.load(self.rooms.store(), &wanted).await?;
        }
        self.load_hashes().await
    }

    /// The reference hashes of the events that the next one follows, if it has to name them.
    async fn load_hashes(&mut self) -> Result<()> {
        let tip = &mut self.tip;
        let unknown: Vec<OwnedEventId> = tip
            .prevs
            .iter()
            .filter(|id| tip.names_hashes() && !tip.hashes.contains_key(*id))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let prevs = self.rooms.store().events(&unknown).await?;
            let hashes = prevs.iter().filter_map(|prev| hash_of(&prev.pdu));
            tip.hashes.extend(hashes);
        }
        Ok(())
    }

    /// Where the next event stands. The view must have been loaded.
    pub(crate) fn place(&self, draft: &Draft, origin_server_ts: i64) -> Place {
        let tip = &self.tip;
        let keys = auth::auth_keys(
            tip.rules,
            &draft.kind,
            &draft.sender,
            draft.state_key.as_deref(),
            &draft.content,
        );
        let auth_events: Vec<&Pdu> = keys
            .iter()
            .filter_map(|(kind, key)| tip.view.held(kind, key))
            .map(|held| &*held.pdu)
            .collect();
        let mut hashes = tip.hashes.clone();
        if tip.names_hashes() {
            hashes.extend(auth_events.iter().filter_map(|event| hash_of(event)));
        }
        Place {
            prev_events: tip.prevs.clone(),
            auth_events: auth_events
                .iter()
                .map(|event| event.event_id().to_owned())
                .collect(),
            hashes,
            depth: tip.depth,
            origin_server_ts,
            sticky_ms: None,
        }
    }

    /// Builds, signs and authorises the next event, without adding it. The view must have been loaded.
    pub(crate) fn decide(&self, draft: &Draft, origin_server_ts: i64) -> Result<Pdu> {
        self.decide_at(draft, &self.place(draft, origin_server_ts))
    }

    /// [`Batch::decide`] where [`Batch::place`] says.
    pub(crate) fn decide_at(&self, draft: &Draft, place: &Place) -> Result<Pdu> {
        let tip = &self.tip;
        let pdu = draft::build(
            tip.rules,
            draft,
            place,
            self.rooms.server_name(),
            self.rooms.key(),
        )
        .map_err(|rejection| {
            if rejection.rule == Rejection::SIZE {
                Error::TooLarge(rejection.reason)
            } else {
                Error::Invalid(rejection.reason)
            }
        })?;
        auth::authorize(&pdu, &tip.view).map_err(Error::Forbidden)?;
        if let Some(crowd) = &tip.crowd {
            auth::authorize(&pdu, &crowd.view).map_err(Error::Forbidden)?;
        }
        Ok(pdu)
    }

    /// Adds a decided event. `redacts` is an event that it may redact; `send_to` the servers that it
    /// must go to.
    pub(crate) async fn push(
        &mut self,
        pdu: Arc<Pdu>,
        txn: Option<TxnKey>,
        redacts: Option<Redacts>,
        send_to: Option<Vec<OwnedServerName>>,
    ) -> Result<()> {
        let store = self.rooms.store();
        let no = store.next_event_no().await?;
        let tip = &mut self.tip;
        let rank = match tip.rank {
            Some(rank) => rank,
            None => above(&store.events(&tip.prevs).await?),
        };
        tip.rank = Some(rank.saturating_add(1));
        let visibility = tip.view.visibility();
        let mut replaces = None;
        if let Some(state_key) = pdu.state_key() {
            replaces = tip.view.held(pdu.kind(), state_key).map(|held| held.no);
            let held = ViewState {
                no,
                pdu: pdu.clone(),
            };
            tip.view.put(pdu.kind(), state_key, Some(held));
        }
        if tip.room_id.is_none() {
            tip.room_id = Some(pdu.room_id().to_owned());
        }
        tip.prevs = vec![pdu.event_id().to_owned()];
        if tip.names_hashes() {
            tip.hashes = hash_of(&pdu).into_iter().collect();
        }
        tip.depth = tip.depth.saturating_add(1).min(tip.rules.max_depth());
        tip.pending = Some(pdu.event_id().to_owned());
        let event = NewEvent {
            depth: rank,
            visibility: Some(visibility),
            redacts,
            txn,
            send_to,
            ..NewEvent::new(no, pdu)
        };
        self.events.push(Pushed { event, replaces });
        Ok(())
    }

    /// The room's part of the write set, and the tip after it.
    pub(crate) async fn finish(self, expect: Option<i64>) -> Result<(RoomWrite, Tip)> {
        let mut write = RoomWrite {
            room: self.tip.room,
            expect,
            follows: self.follows,
            ..RoomWrite::default()
        };
        let mut tip = self.tip;
        let mut changes = Vec::new();
        let store = self.rooms.store();
        let mut keys = state_keys(store, &self.events).await?.into_iter();
        for Pushed {
            mut event,
            replaces,
        } in self.events
        {
            event.state_before = tip.snapshot;
            if event.pdu.state_key().is_some()
                && let Some(key) = keys.next()
            {
                let entry = [(key, Some(event.no))];
                let derived = store
                    .derive_snapshot(write.room, tip.snapshot, &entry)
                    .await?;
                tip.snapshot = Some(derived.no());
                write.snapshots.push(derived);
                note(&mut changes, key, replaces, event.no);
            }
            event.state_after = tip.snapshot;
            write.events.push(event);
        }
        if let (Some(crowd), Some(event)) = (&tip.crowd, write.events.last()) {
            let event = event.clone();
            crowd.settle(self.rooms, &event, &mut write).await?;
        } else if let (false, Some(snapshot)) = (changes.is_empty(), tip.snapshot) {
            write.current = Some(CurrentState { snapshot, changes });
        }
        Ok((write, tip))
    }
}

/// The numbers of the entries that the state events among these set. All at once: new ones cost a
/// transaction.
async fn state_keys(store: &Store, events: &[Pushed]) -> Result<Vec<KeyNo>> {
    let keys: Vec<(&str, &str)> = events
        .iter()
        .filter_map(|pushed| Some((pushed.event.pdu.kind(), pushed.event.pdu.state_key()?)))
        .collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    Ok(store.key_nos(&keys).await?)
}

/// One change per entry: a second one within the batch goes on from the first.
fn note(changes: &mut Vec<StateChange>, key: KeyNo, old: Option<EventNo>, new: EventNo) {
    match changes.iter_mut().find(|change| change.key == key) {
        Some(change) => change.new = Some(new),
        None => changes.push(StateChange {
            key,
            old,
            new: Some(new),
        }),
    }
}

fn hash_of(pdu: &Pdu) -> Option<(OwnedEventId, ReferenceHash)> {
    Some((pdu.event_id().to_owned(), pdu.reference_hash()?))
}
