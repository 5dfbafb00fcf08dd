//! Interned numbers. Each names a row for ever; none means an order, except [`Pos`].

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<i64> for $name {
            fn from(number: i64) -> Self {
                Self(number)
            }
        }

        impl From<$name> for i64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

number!(
    /// A room, known to us or merely heard of.
    RoomNo
);
number!(
    /// An event.
    EventNo
);
number!(
    /// A user of any server.
    UserNo
);
number!(
    /// A server name.
    ServerNo
);
number!(
    /// An event type with a state key.
    KeyNo
);
number!(
    /// An immutable snapshot of a room's state.
    SnapshotNo
);
number!(
    /// A set of servers that an event goes to.
    SetNo
);
number!(
    /// A position in the log. Positions have no gaps when they are given out, and commit order is
    /// position order: who has read up to N has seen everything up to N.
    Pos
);
