//! Leaving rooms through other servers, and rejecting their invites.
