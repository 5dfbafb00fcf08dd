//! Finding people: by their names, by the rooms that one shares with them, and on other networks.

pub(crate) mod directory;
pub(crate) mod mutual_rooms;
pub(crate) mod networks;
pub(crate) mod services;
