//! Joining rooms through other servers.
