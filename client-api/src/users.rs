//! Making accounts, for the binary as well.
