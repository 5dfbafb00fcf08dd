//! Many verified events of one room in little space: their text and their ties instead of parsed events.
//!
//! The state of a large room comes as one answer of a hundred thousand events. Parsed, they would take
//! several times the space of their text, and they are looked at one after the other anyway.

use std::{collections::HashMap, sync::Arc};

use rhizome_protocol::{Pdu, Rejection, RoomRules, StateKey, topological::parents_first};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};

/// A verified event on its way into [`Packed`]: made where the event was checked, so that the parsed form
/// needn't leave that thread.
#[derive(Debug)]
pub struct PackedEvent {
    id: OwnedEventId,
    room_id: OwnedRoomId,
    json: Arc<str>,
    parents: Vec<OwnedEventId>,
    key: Option<StateKey>,
    /// Of a create event.
    creates: Option<Creates>,
}

/// The rules that a create event's content names, if we know them.
pub(crate) type Rules = Option<&'static RoomRules>;

#[derive(Debug, Clone, Copy)]
struct Creates(Rules);

impl PackedEvent {
    /// Packs an event that has passed [`rhizome_protocol::receive::verify`].
    pub fn of(pdu: &Pdu) -> Self {
        let creates = pdu
            .is_state("m.room.create", "")
            .then(|| Creates(RoomRules::of_create(pdu.content())));
        Self {
            id: pdu.event_id().to_owned(),
            room_id: pdu.room_id().to_owned(),
            json: pdu.json().clone(),
            parents: parents(pdu),
            key: pdu.state_key().map(|key| StateKey::new(pdu.kind(), key)),
            creates,
        }
    }

    /// The event's id.
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// The event's room.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }
}

/// The auth events that an event names, and the create event that it implies.
pub(crate) fn parents(pdu: &Pdu) -> Vec<OwnedEventId> {
    let mut parents = pdu.auth_events().to_vec();
    if let Some(create) = pdu.implied_create()
        && !parents.contains(&create)
    {
        parents.push(create);
    }
    parents
}

/// Where an answer has an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// In the state.
    State,
    /// In the auth chain.
    AuthChain,
}

/// State and auth chain of a room as another server told them. Each event once; events are known by their
/// index, also those that others name and that weren't given.
#[derive(Debug)]
pub struct Packed {
    rules: &'static RoomRules,
    room_id: OwnedRoomId,
    indexes: HashMap<OwnedEventId, usize>,
    names: Vec<OwnedEventId>,
    given: Vec<Option<Given>>,
    /// The state, in the order in which it was told.
    state: Vec<(usize, StateKey)>,
    creates: Vec<Rules>,
}

#[derive(Debug)]
struct Given {
    json: Arc<str>,
    parents: Box<[usize]>,
    in_state: bool,
}

impl Packed {
    /// Nothing of this room yet.
    pub fn new(rules: &'static RoomRules, room_id: &RoomId) -> Self {
        Self {
            rules,
            room_id: room_id.to_owned(),
            indexes: HashMap::new(),
            names: Vec::new(),
            given: Vec::new(),
            state: Vec::new(),
            creates: Vec::new(),
        }
    }

    /// Parsed events, packed; those of other rooms or rules are left out.
    pub fn of<'a>(
        rules: &'static RoomRules,
        room_id: &RoomId,
        state: impl IntoIterator<Item = &'a Arc<Pdu>>,
        auth_chain: impl IntoIterator<Item = &'a Arc<Pdu>>,
    ) -> Self {
        let mut packed = Self::new(rules, room_id);
        let fits = |pdu: &&Arc<Pdu>| pdu.rules() == rules;
        for pdu in auth_chain.into_iter().filter(fits) {
            packed.add(PackedEvent::of(pdu), Part::AuthChain);
        }
        for pdu in state.into_iter().filter(fits) {
            packed.add(PackedEvent::of(pdu), Part::State);
        }
        packed
    }

    /// Adds an event of this room's rules; one of another room, or that is there already, changes nothing.
    pub fn add(&mut self, event: PackedEvent, part: Part) {
        if event.room_id != self.room_id {
            return;
        }
        let at = self.index(event.id);
        if self.given[at].is_none() {
            let parents = event.parents.into_iter().map(|id| self.index(id)).collect();
            self.given[at] = Some(Given {
                json: event.json,
                parents,
                in_state: false,
            });
        }
        let Some(given) = self.given[at].as_mut().filter(|_| part == Part::State) else {
            return;
        };
        if !std::mem::replace(&mut given.in_state, true) {
            self.state.extend(event.key.map(|key| (at, key)));
            self.creates
                .extend(event.creates.map(|Creates(rules)| rules));
        }
    }

    fn index(&mut self, id: OwnedEventId) -> usize {
        if let Some(at) = self.indexes.get(&id) {
            return *at;
        }
        let at = self.names.len();
        self.names.push(id.clone());
        self.indexes.insert(id, at);
        self.given.push(None);
        at
    }

    pub(crate) fn rules(&self) -> &'static RoomRules {
        self.rules
    }

    /// The ids of all events that were given or named, by index.
    pub(crate) fn names(&self) -> &[OwnedEventId] {
        &self.names
    }

    pub(crate) fn name(&self, at: usize) -> &OwnedEventId {
        &self.names[at]
    }

    pub(crate) fn is_given(&self, at: usize) -> bool {
        self.given[at].is_some()
    }

    /// The state's events with their keys, in the order in which they were told.
    pub(crate) fn state(&self) -> &[(usize, StateKey)] {
        &self.state
    }

    /// The rules that the state's create events name: of a room, exactly one.
    pub(crate) fn creates(&self) -> &[Rules] {
        &self.creates
    }

    /// The auth events of an event that was given, and the create event that it implies.
    pub(crate) fn parents(&self, at: usize) -> &[usize] {
        self.given[at].as_ref().map_or(&[], |given| &given.parents)
    }

    /// An event's text, if it was given.
    pub(crate) fn text(&self, at: usize) -> Option<Text> {
        Some(Text {
            rules: self.rules,
            id: self.names[at].clone(),
            json: self.given[at].as_ref()?.json.clone(),
        })
    }

    /// Takes an event out, as if it had only been named.
    pub(crate) fn leave_out(&mut self, id: &EventId) {
        let Some(at) = self.indexes.get(id).copied() else {
            return;
        };
        self.given[at] = None;
        self.state.retain(|(other, _)| *other != at);
    }

    /// What was given, auth events before what they allow. Events in a circle (which hashes make
    /// impossible) are left out.
    pub(crate) fn parents_first(&self) -> Vec<usize> {
        let given = (0..self.given.len()).filter(|at| self.is_given(*at));
        let parents = |at| self.parents(at).iter().copied();
        parents_first(given, |at| at, parents, |at| at)
    }
}

/// The text of one verified event.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    rules: &'static RoomRules,
    pub(crate) id: OwnedEventId,
    json: Arc<str>,
}

impl Text {
    pub(crate) fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// The event, parsed again.
    pub(crate) fn parse(self) -> Result<Arc<Pdu>, Rejection> {
        Pdu::from_stored(self.rules, self.id, self.json).map(Arc::new)
    }
}
