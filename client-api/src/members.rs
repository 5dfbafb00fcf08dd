//! Members of a room.
