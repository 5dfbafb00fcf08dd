//! The public room directory.
