//! What may be there for a destination.

/// What the log may hold for a destination beside events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sender) struct Beside {
    pub(in crate::sender) receipts: bool,
    pub(in crate::sender) to_device: bool,
    /// Changes of devices.
    pub(in crate::sender) lists: bool,
    /// Sticky events from before it came into a room.
    pub(in crate::sender) sticky: bool,
}

impl Beside {
    pub(in crate::sender) const NOTHING: Self = Self {
        receipts: false,
        to_device: false,
        lists: false,
        sticky: false,
    };
    pub(in crate::sender) const RECEIPTS: Self = Self {
        receipts: true,
        ..Self::NOTHING
    };
    pub(in crate::sender) const TO_DEVICE: Self = Self {
        to_device: true,
        ..Self::NOTHING
    };
    pub(in crate::sender) const LISTS: Self = Self {
        lists: true,
        ..Self::NOTHING
    };

    pub(in crate::sender) fn add(&mut self, other: Self) {
        self.receipts |= other.receipts;
        self.to_device |= other.to_device;
        self.lists |= other.lists;
        self.sticky |= other.sticky;
    }
}

/// Nothing is known.
impl Default for Beside {
    fn default() -> Self {
        Self {
            receipts: true,
            to_device: true,
            lists: true,
            sticky: true,
        }
    }
}
