//! Power levels: of users, of events, of actions.

use ruma::UserId;

use crate::{Object, Pdu, RoomRules, auth::StateView};

/// A user's power. Creators in v12 and later have more than any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A number.
    Int(i64),
    /// A creator's.
    Infinite,
}

/// What a user may do to others, beyond sending events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ban, 50 unless set.
    Ban,
    /// Kick (and unban), 50 unless set.
    Kick,
    /// Invite, 0 unless set.
    Invite,
    /// Redact the events of others, 50 unless set.
    Redact,
}

/// The power levels of a room, read as needed from its create and power levels events.
#[derive(Clone, Copy)]
pub struct Power<'a> {
    rules: &'static RoomRules,
    create: Option<&'a Pdu>,
    levels: Option<&'a Object>,
}

impl<'a> Power<'a> {
    /// The levels that `state` sets, or the defaults where it sets none.
    pub fn of(rules: &'static RoomRules, state: &'a (impl StateView + ?Sized)) -> Self {
        Self {
            rules,
            create: state.get("m.room.create", "").map(|event| &**event),
            levels: state
                .get("m.room.power_levels", "")
                .map(|event| event.content()),
        }
    }

    /// The user's level.
    pub fn user(&self, _user: &UserId) -> Level {
        unimplemented!()
    }

    /// The level that sending an event of this type needs.
    pub fn event(&self, _kind: &str, _is_state: bool) -> i64 {
        unimplemented!()
    }

    /// The level that an action needs.
    pub fn action(&self, _action: Action) -> i64 {
        unimplemented!()
    }

    /// The level that notifying by `key` needs (`room` for @room), 50 unless set.
    pub fn notification(&self, _key: &str) -> i64 {
        unimplemented!()
    }

    /// Whether `user` is a creator with infinite power (v12 and later).
    pub fn is_creator(&self, _user: &UserId) -> bool {
        let _ = (self.rules, self.create, self.levels);
        unimplemented!()
    }
}
