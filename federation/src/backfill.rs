//! History from other servers, when a client pages past ours.
