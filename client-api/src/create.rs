//! Making rooms.
