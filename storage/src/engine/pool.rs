//! What is told of the ways to a database.

/// Connections to the database, or threads that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What they do.
    pub name: &'static str,
    /// How many there are now.
    pub open: usize,
    /// How many of them do something.
    pub busy: usize,
    /// How many there may be.
    pub most: usize,
    /// How much waits for one of them, where that is known.
    pub waiting: usize,
}
