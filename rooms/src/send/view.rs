//! The few entries of a room's state that a decision looks at, held in memory.
//!
//! A [`View`] is loaded from a snapshot key by key, remembers absence too, and can be advanced by an
//! event that is decided but not stored yet. A warm room keeps the view of its current state, so that
//! deciding one more message reads nothing.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Pdu, RoomRules, auth::StateView, visibility::HistoryVisibility};
use rhizome_storage::{EventNo, SnapshotNo, Store};
use ruma::UserId;

use crate::{
    error::Result,
    state::{Learnt, MEMBER},
};

/// An event of the state with its number.
#[derive(Clone)]
pub(crate) struct ViewState {
    pub(crate) no: EventNo,
    pub(crate) pdu: Arc<Pdu>,
}

/// What is known of one state: entries by type and state key; `None` is known to be absent.
#[derive(Clone, Default)]
pub(crate) struct View {
    entries: HashMap<String, HashMap<String, Option<ViewState>>>,
    len: usize,
}

/// More entries than this and the view of a warm room starts again from nothing.
const MAX_ENTRIES: usize = 512;

impl View {
    /// Takes in members of whom nothing is known.
    pub(crate) fn learn(&mut self, members: &[Learnt]) {
        for member in members {
            if self.held(MEMBER, &member.user).is_none() {
                let held = ViewState {
                    no: member.no,
                    pdu: member.pdu.clone(),
                };
                self.put(MEMBER, &member.user, Some(held));
            }
        }
    }

    pub(crate) fn held(&self, kind: &str, key: &str) -> Option<&ViewState> {
        self.entries.get(kind)?.get(key)?.as_ref()
    }

    /// Whether it has grown so large that a warm room should forget it.
    pub(crate) fn is_large(&self) -> bool {
        self.len > MAX_ENTRIES
    }

    fn knows(&self, kind: &str, key: &str) -> bool {
        self.entries
            .get(kind)
            .is_some_and(|keys| keys.contains_key(key))
    }

    pub(crate) fn put(&mut self, kind: &str, key: &str, held: Option<ViewState>) {
        let keys = match self.entries.get_mut(kind) {
            Some(keys) => keys,
            None => self.entries.entry(kind.to_owned()).or_default(),
        };
        if keys.insert(key.to_owned(), held).is_none() {
            self.len += 1;
        }
    }

    /// Loads those of `keys` that are not known yet from the snapshot `at` (`None`: the empty state).
    pub(crate) async fn load(
        &mut self,
        store: &Store,
        at: Option<SnapshotNo>,
        keys: &[(&str, &str)],
    ) -> Result<()> {
        let mut wanted: Vec<(&str, &str)> = keys
            .iter()
            .copied()
            .filter(|(kind, key)| !self.knows(kind, key))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_unstable();
        wanted.dedup();
        let nos = match at {
            Some(at) => store.state_entries(at, &wanted).await?,
            None => vec![None; wanted.len()],
        };
        let found: Vec<EventNo> = nos.iter().flatten().copied().collect();
        let events = store.events_by_no(&found).await?;
        for ((kind, key), no) in wanted.into_iter().zip(nos) {
            let held = no.and_then(|no| {
                let event = events.iter().find(|event| event.no == no)?;
                Some(ViewState {
                    no,
                    pdu: event.pdu.clone(),
                })
            });
            self.put(kind, key, held);
        }
        Ok(())
    }

    /// The history visibility that the state sets; its entry must have been loaded.
    pub(crate) fn visibility(&self) -> HistoryVisibility {
        HistoryVisibility::of(
            self.held("m.room.history_visibility", "")
                .map(|held| held.pdu.content()),
        )
    }
}

impl StateView for View {
    fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        self.held(kind, state_key).map(|held| &held.pdu)
    }
}

/// What every decision looks at, whatever the event.
pub(crate) const ALWAYS: [(&str, &str); 4] = [
    ("m.room.create", ""),
    ("m.room.power_levels", ""),
    ("m.room.join_rules", ""),
    ("m.room.history_visibility", ""),
];

/// The keys that authorising an event looks at, [`ALWAYS`] apart.
pub(crate) fn keys_of(
    rules: &RoomRules,
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &rhizome_protocol::Object,
) -> Vec<(String, String)> {
    rhizome_protocol::auth::auth_keys(rules, kind, sender, state_key, content)
}
