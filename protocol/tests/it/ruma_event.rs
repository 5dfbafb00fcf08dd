//! An event as ruma's room model wants it.

use std::sync::Arc;

use rhizome_protocol::Pdu;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UInt, UserId, events::TimelineEventType,
};
use ruma_state_res::Event;
use serde_json::value::{RawValue, to_raw_value};

/// One of our events, with whether it was rejected.
#[derive(Clone)]
pub struct RumaEvent {
    pdu: Arc<Pdu>,
    id: OwnedEventId,
    kind: TimelineEventType,
    content: Box<RawValue>,
    redacts: Option<OwnedEventId>,
    rejected: bool,
}

impl RumaEvent {
    pub fn new(pdu: &Arc<Pdu>, rejected: bool) -> Self {
        Self {
            pdu: pdu.clone(),
            id: pdu.event_id().to_owned(),
            kind: pdu.kind().into(),
            content: to_raw_value(pdu.content()).unwrap(),
            redacts: pdu.redacts().map(ToOwned::to_owned),
            rejected,
        }
    }
}

impl Event for RumaEvent {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.id
    }
    fn room_id(&self) -> Option<&RoomId> {
        let absent =
            self.pdu.rules().format.room_id_is_create_hash && self.pdu.kind() == "m.room.create";
        (!absent).then(|| self.pdu.room_id())
    }
    fn sender(&self) -> &UserId {
        self.pdu.sender()
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::try_from(self.pdu.origin_server_ts()).unwrap())
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }
    fn content(&self) -> &RawValue {
        &self.content
    }
    fn state_key(&self) -> Option<&str> {
        self.pdu.state_key()
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.pdu.prev_events().iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.pdu.auth_events().iter())
    }
    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}
