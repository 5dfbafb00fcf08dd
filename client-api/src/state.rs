//! Room state, read and written.
