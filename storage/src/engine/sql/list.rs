//! Lists and rows that are bound: to SQLite as one text of JSON, to PostgreSQL as an array for each column.

use std::sync::Arc;

use serde::Serialize;
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

use super::{Cell, Names, Rows};
use crate::engine::dialect::{Dialect, Sort};

/// A list, or rows, in the form that a database takes.
#[derive(Debug, Clone)]
pub(crate) enum List {
    /// For SQLite.
    Json(String),
    /// For PostgreSQL: one for each column.
    Arrays(Vec<Array>),
}

/// A column of rows that are bound.
#[derive(Debug, Clone)]
pub(crate) enum Array {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

impl List {
    /// Rows, for `ROWS($n)`.
    pub(crate) fn of_rows<R: Rows>(dialect: Dialect, rows: &[R]) -> sqlx::Result<Self> {
        match dialect {
            Dialect::Sqlite => json_of(rows).map(Self::Json),
            Dialect::Postgres => {
                let mut arrays = empty(R::NAMES, rows.len());
                for row in rows {
                    row.append_to(&mut arrays);
                }
                Ok(Self::Arrays(arrays))
            }
        }
    }

    /// A list, for `NUMBERS($n)` or `TEXTS($n)`.
    pub(crate) fn of_cells<'a>(
        dialect: Dialect,
        sort: Sort,
        cells: impl Iterator<Item = Cell<'a>>,
    ) -> sqlx::Result<Self> {
        match dialect {
            Dialect::Sqlite => json_of(&cells.collect::<Vec<_>>()).map(Self::Json),
            Dialect::Postgres => {
                let mut array = Array::new(sort, cells.size_hint().0);
                cells.for_each(|cell| array.push(cell));
                Ok(Self::Arrays(vec![array]))
            }
        }
    }

    /// What SQLite takes.
    pub(super) fn into_cell(self: Arc<Self>) -> sqlx::Result<Cell<'static>> {
        match Arc::unwrap_or_clone(self) {
            Self::Json(text) => Ok(Cell::Text(text.into())),
            Self::Arrays(_) => Err(made_for_the_other()),
        }
    }

    /// Appends what PostgreSQL takes.
    pub(super) fn add_to(&self, arguments: &mut PgArguments) -> sqlx::Result<()> {
        let Self::Arrays(arrays) = self else {
            return Err(made_for_the_other());
        };
        for array in arrays {
            let added = match array {
                Array::Numbers(numbers) => arguments.add(numbers),
                Array::Texts(texts) => arguments.add(texts),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(())
    }
}

impl Array {
    fn new(sort: Sort, size: usize) -> Self {
        match sort {
            Sort::Number => Self::Numbers(Vec::with_capacity(size)),
            Sort::Text => Self::Texts(Vec::with_capacity(size)),
        }
    }

    /// Appends a value of its sort.
    pub(crate) fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Numbers(numbers), Cell::Number(number)) => numbers.push(Some(number)),
            (Self::Texts(texts), Cell::Text(text)) => texts.push(Some(text.into_owned())),
            (Self::Numbers(numbers), Cell::Null) => numbers.push(None),
            (Self::Texts(texts), Cell::Null) => texts.push(None),
            // `Value::SORT` says what `Value::cell` gives.
            (_, other) => unreachable!("{other:?} is of another sort than its column"),
        }
    }
}

fn empty(names: Names, size: usize) -> Vec<Array> {
    let sorts = names.iter().map(|(_, sort)| *sort);
    sorts.map(|sort| Array::new(sort, size)).collect()
}

/// A list as SQLite's JSON functions take it.
pub(crate) fn json_of<T: Serialize>(list: &[T]) -> sqlx::Result<String> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn made_for_the_other() -> sqlx::Error {
    sqlx::Error::Encode("a list was made for the other database".into())
}
