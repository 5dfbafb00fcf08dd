//! Refresh and logout.
