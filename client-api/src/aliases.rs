//! Room aliases.
