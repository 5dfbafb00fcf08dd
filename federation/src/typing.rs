//! Typing across servers.
