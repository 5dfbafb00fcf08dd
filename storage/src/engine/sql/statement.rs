//! Statements with their rows, to be sent one after another in a transaction.

use super::{Bound, Cell, Names, Rows, json_of, text};
use crate::Result;
use crate::engine::dialect::Dialect;

/// A statement for rows of a group of write sets.
#[derive(Debug)]
pub(crate) struct Statement {
    /// May name `$2`, the position before the group's first, and `$3`, the order after its last backfilled
    /// event.
    pub(crate) sql: &'static str,
    /// `$1`, as text.
    pub(crate) rows: String,
    pub(crate) names: Names,
    /// How many rows it must touch.
    pub(crate) expect: Option<usize>,
    /// What to do with the same rows when it touches fewer; without it, that is an error.
    pub(crate) otherwise: Option<&'static str>,
}

impl Statement {
    pub(crate) fn new<R: Rows>(sql: &'static str, rows: &[R]) -> Result<Self> {
        Ok(Self {
            sql,
            rows: json_of(rows)?,
            names: R::NAMES,
            expect: None,
            otherwise: None,
        })
    }

    /// What a thread of SQLite takes, with what `$2` and `$3` are.
    pub(crate) fn bound(&self, [second, third]: [i64; 2]) -> Bound {
        let rows = Cell::Text(self.rows.clone().into());
        Bound {
            text: text::text(Dialect::Sqlite, self.sql, &[self.names]),
            arguments: vec![rows, Cell::Number(second), Cell::Number(third)],
        }
    }
}

/// What a group of write sets sends, in order: before it has its positions, and after.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    pub(crate) before: Vec<Statement>,
    pub(crate) after: Vec<Statement>,
}

impl Statements {
    /// Writes rows before the group has its positions: those that need none.
    pub(crate) fn before<R: Rows>(&mut self, sql: &'static str, rows: &[R]) -> Result<()> {
        if !rows.is_empty() {
            self.before.push(Statement::new(sql, rows)?);
        }
        Ok(())
    }

    /// Writes rows that need the group's first position (`$2`, to which a row's offset is added), or that
    /// must come after such. From here on no other process gets positions.
    pub(crate) fn after<R: Rows>(&mut self, sql: &'static str, rows: &[R]) -> Result<()> {
        if !rows.is_empty() {
            self.after.push(Statement::new(sql, rows)?);
        }
        Ok(())
    }
}
