//! Statements with their rows, to be sent one after another in a transaction.

use std::sync::Arc;

use super::{Bound, Cell, List, Names, Rows, text};
use crate::Result;
use crate::engine::dialect::Dialect;

/// A statement for rows of a group of write sets.
#[derive(Debug)]
pub(crate) struct Statement {
    /// May name `$2`, the position before the group's first, and `$3`, the order after its last backfilled
    /// event.
    pub(crate) sql: &'static str,
    /// `$1`.
    pub(crate) rows: Arc<List>,
    pub(crate) names: Names,
    /// How many rows it must touch.
    pub(crate) expect: Option<usize>,
    /// What to do with the same rows when it touches fewer; without it, that is an error.
    pub(crate) otherwise: Option<&'static str>,
    /// The only table that it writes or reads besides its rows, if there is such a one: with others of which the same is so
    /// for other tables it may be run at once. It doesn't see what others write while it waits for the counter: what it
    /// changes must be new, or of a room that is locked, or `ON CONFLICT` must say what to do.
    pub(crate) only: Option<&'static str>,
}

impl Statement {
    fn new<R: Rows>(dialect: Dialect, sql: &'static str, rows: &[R]) -> Result<Self> {
        Ok(Self {
            sql,
            rows: Arc::new(List::of_rows(dialect, rows)?),
            names: R::NAMES,
            expect: None,
            otherwise: None,
            only: None,
        })
    }

    /// What a thread of SQLite takes, with what `$2` and `$3` are.
    pub(crate) fn bound(&self, [second, third]: [i64; 2]) -> sqlx::Result<Bound> {
        let rows = self.rows.clone().into_cell()?;
        Ok(Bound {
            text: text::text(Dialect::Sqlite, self.sql, &[self.names]),
            arguments: vec![rows, Cell::Number(second), Cell::Number(third)],
        })
    }
}

/// What a group of write sets sends, in order: before it has its positions, and after.
#[derive(Debug)]
pub(crate) struct Statements {
    dialect: Dialect,
    pub(crate) before: Vec<Statement>,
    pub(crate) after: Vec<Statement>,
}

impl Statements {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// All, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Statement> {
        self.before.iter().chain(&self.after)
    }

    /// Writes rows before the group has its positions: those that need none.
    pub(crate) fn before<R: Rows>(&mut self, sql: &'static str, rows: &[R]) -> Result<()> {
        if !rows.is_empty() {
            let statement = Statement::new(self.dialect, sql, rows)?;
            self.before.push(statement);
        }
        Ok(())
    }

    /// The same, by a statement whose [`Statement::only`] table this is.
    pub(crate) fn before_in<R: Rows>(
        &mut self,
        table: &'static str,
        sql: &'static str,
        rows: &[R],
    ) -> Result<Option<&mut Statement>> {
        self.before(sql, rows)?;
        Ok(only(&mut self.before, table, rows))
    }

    /// Writes rows that need the group's first position (`$2`, to which a row's offset is added), or that
    /// must come after such. From here on no other process gets positions.
    pub(crate) fn after<R: Rows>(&mut self, sql: &'static str, rows: &[R]) -> Result<()> {
        if !rows.is_empty() {
            let statement = Statement::new(self.dialect, sql, rows)?;
            self.after.push(statement);
        }
        Ok(())
    }

    /// The same, by a statement whose [`Statement::only`] table this is.
    pub(crate) fn after_in<R: Rows>(
        &mut self,
        table: &'static str,
        sql: &'static str,
        rows: &[R],
    ) -> Result<Option<&mut Statement>> {
        self.after(sql, rows)?;
        Ok(only(&mut self.after, table, rows))
    }
}

/// The statement for these rows, if there are any: it is the last.
fn only<'a, R>(
    statements: &'a mut [Statement],
    table: &'static str,
    rows: &[R],
) -> Option<&'a mut Statement> {
    let last = statements.last_mut().filter(|_| !rows.is_empty())?;
    last.only = Some(table);
    Some(last)
}
