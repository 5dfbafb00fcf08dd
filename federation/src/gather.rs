//! Fetching what a received event needs before it can be decided.
