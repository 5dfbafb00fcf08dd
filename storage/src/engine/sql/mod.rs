//! Statements: one text for both databases, with arguments that have types and rows that have names.
//!
//! A statement is written with the words of `engine/dialect.rs`. What is bound and what is read is typed
//! (`value.rs`); rows that are bound many at once are structs made by [`rows!`], whose fields the statement
//! names as columns:
//!
//! ```text
//! rows! { struct Row<'a> { room: RoomNo, kind: &'a str } }
//! store.sql("DELETE FROM t USING … FROM ROWS($1) AS x WHERE t.room = x.room AND t.kind = x.kind").rows(&rows)
//! ```

mod list;
pub(crate) mod merged;
mod row;
pub(crate) mod statement;
mod text;
mod value;

use std::sync::Arc;

use serde::Serialize;
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Postgres};

use crate::engine::dialect::{Dialect, escaped};
pub(crate) use crate::engine::dialect::{Names, Sort};
pub(crate) use list::{Array, List, json_of};
pub(crate) use row::{ReadRow, SqliteRow};
pub(crate) use value::{Cell, Column, Columns, Nullable, Value, numbers};

/// Rows that are bound many at once, made by [`rows!`].
pub(crate) trait Rows: Serialize {
    const NAMES: Names;
    /// Appends each column to its array.
    fn append_to(&self, arrays: &mut [Array]);
}

impl<R: Rows> Rows for &R {
    const NAMES: Names = R::NAMES;
    fn append_to(&self, arrays: &mut [Array]) {
        (**self).append_to(arrays);
    }
}

/// Makes a struct whose fields are the columns of rows to bind.
macro_rules! rows {
    ($(#[$meta:meta])* $vis:vis struct $name:ident $(<$life:lifetime>)? {
        $($(#[$about:meta])* $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        #[allow(clippy::struct_field_names, reason = "they are the columns' names")]
        $vis struct $name $(<$life>)? {
            $($(#[$about])* $vis $field: $type),*
        }

        impl $(<$life>)? $crate::engine::sql::Rows for $name $(<$life>)? {
            const NAMES: $crate::engine::sql::Names = &[
                $((stringify!($field), <$type as $crate::engine::sql::Value>::SORT)),*
            ];
            fn append_to(&self, arrays: &mut [$crate::engine::sql::Array]) {
                let mut arrays = arrays.iter_mut();
                $(if let Some(array) = arrays.next() {
                    array.push($crate::engine::sql::Value::cell(&self.$field));
                })*
            }
        }

        impl $(<$life>)? serde::Serialize for $name $(<$life>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple as _;
                let names = <Self as $crate::engine::sql::Rows>::NAMES;
                let mut row = serializer.serialize_tuple(names.len())?;
                $(row.serialize_element(&$crate::engine::sql::Value::cell(&self.$field))?;)*
                row.end()
            }
        }
    };
}
pub(crate) use rows;

/// A statement in SQLite's words, with its arguments `$1`, `$2`, …
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) text: Arc<str>,
    pub(crate) arguments: Vec<Cell<'static>>,
}

/// What is bound to one `$n`.
enum Argument {
    One(Cell<'static>, Sort),
    Many(Arc<List>),
}

enum Text {
    /// With the words of `engine/dialect.rs`.
    Ours(&'static str),
    /// In the database's own.
    Made(Arc<str>),
}

/// A statement with its arguments, in the order `$1`, `$2`, …
#[must_use]
pub(crate) struct Query {
    dialect: Dialect,
    text: Text,
    arguments: Vec<Argument>,
    /// What `ROWS($n)` stands for, by n − 1.
    names: Vec<Names>,
    /// Why an argument couldn't be bound.
    failed: Option<sqlx::Error>,
}

impl Query {
    pub(crate) fn new(dialect: Dialect, text: &'static str) -> Self {
        Self::of(dialect, Text::Ours(text))
    }

    /// A statement in the database's own words.
    fn made(dialect: Dialect, text: Arc<str>) -> Self {
        Self::of(dialect, Text::Made(text))
    }

    fn of(dialect: Dialect, text: Text) -> Self {
        Self {
            dialect,
            text,
            arguments: Vec::new(),
            names: Vec::new(),
            failed: None,
        }
    }

    /// The next argument.
    pub(crate) fn bind<T: Value>(self, value: T) -> Self {
        let cell = value.cell().owned();
        self.add(Argument::One(cell, T::SORT), &[])
    }

    /// The next argument: rows, for `ROWS($n)`.
    pub(crate) fn rows<R: Rows>(self, rows: &[R]) -> Self {
        let list = List::of_rows(self.dialect, rows);
        self.list(list.map(Arc::new), R::NAMES)
    }

    /// The next argument: a list, for `NUMBERS($n)`.
    pub(crate) fn numbers<T: Into<i64>>(self, numbers: impl IntoIterator<Item = T>) -> Self {
        let numbers = numbers.into_iter();
        let cells = numbers.map(|number| Cell::Number(number.into()));
        let list = List::of_cells(self.dialect, Sort::Number, cells);
        self.list(list.map(Arc::new), &[])
    }

    /// The next argument: a list, for `TEXTS($n)`.
    pub(crate) fn texts<'a, T: AsRef<str> + ?Sized + 'a>(
        self,
        texts: impl IntoIterator<Item = &'a T>,
    ) -> Self {
        let texts = texts.into_iter();
        let cells = texts.map(|text| Cell::Text(escaped(text.as_ref())));
        let list = List::of_cells(self.dialect, Sort::Text, cells);
        self.list(list.map(Arc::new), &[])
    }

    /// The next argument: a list that is made already, with the names of its rows' columns.
    pub(crate) fn list(mut self, list: sqlx::Result<Arc<List>>, names: Names) -> Self {
        match list {
            Ok(list) => self.add(Argument::Many(list), names),
            Err(error) => {
                self.failed.get_or_insert(error);
                self
            }
        }
    }

    fn add(mut self, argument: Argument, names: Names) -> Self {
        self.arguments.push(argument);
        self.names.push(names);
        self
    }

    fn words(&self) -> Arc<str> {
        match &self.text {
            Text::Ours(text) => text::text(self.dialect, text, &self.names),
            Text::Made(text) => text.clone(),
        }
    }

    /// What sqlx takes for PostgreSQL.
    pub(crate) fn ready(self) -> sqlx::Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let text = self.words();
        let mut arguments = PgArguments::default();
        for argument in self.arguments {
            match argument {
                Argument::One(cell, sort) => cell.add_to(&mut arguments, sort)?,
                Argument::Many(list) => list.add_to(&mut arguments)?,
            }
        }
        Ok(sqlx::query_with(AssertSqlSafe(text), arguments))
    }

    /// What a thread of SQLite takes.
    pub(crate) fn bound(self) -> sqlx::Result<Bound> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let text = self.words();
        let arguments = self.arguments.into_iter().map(|argument| match argument {
            Argument::One(cell, _) => Ok(cell),
            Argument::Many(list) => list.into_cell(),
        });
        Ok(Bound {
            text,
            arguments: arguments.collect::<sqlx::Result<_>>()?,
        })
    }
}
