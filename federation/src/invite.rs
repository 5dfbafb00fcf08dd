//! Invites across servers.
