//! Paging through a room's history.
