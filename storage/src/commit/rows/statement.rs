//! A statement with its rows, ready to be sent.

use crate::Result;
use crate::engine::sql::{Names, Rows, json_of};

/// A statement for rows of a plan.
#[derive(Debug)]
pub(in crate::commit) struct Statement {
    /// May name `$2`, the position before the group's first, and `$3`, the order after its last backfilled
    /// event.
    pub(in crate::commit) sql: &'static str,
    /// `$1`, as text.
    pub(in crate::commit) rows: String,
    pub(in crate::commit) names: Names,
    /// How many rows it must touch.
    pub(in crate::commit) expect: Option<usize>,
    /// What to do with the same rows when it touches fewer; without it, that is an error.
    pub(in crate::commit) otherwise: Option<&'static str>,
}

impl Statement {
    pub(in crate::commit) fn new<R: Rows>(sql: &'static str, rows: &[R]) -> Result<Self> {
        Ok(Self {
            sql,
            rows: json_of(rows)?,
            names: R::NAMES,
            expect: None,
            otherwise: None,
        })
    }
}
