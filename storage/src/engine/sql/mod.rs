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

mod row;
pub(crate) mod statement;
mod text;
mod value;

use std::sync::Arc;

use serde::Serialize;
use sqlx::any::AnyArguments;
use sqlx::{Any, AssertSqlSafe};

use crate::engine::dialect::{Dialect, escaped};
pub(crate) use crate::engine::dialect::{Names, Sort};
pub(crate) use row::{ReadRow, SqliteRow};
pub(crate) use value::{Cell, Column, Columns, Nullable, Value, numbers};

/// Rows that are bound many at once, made by [`rows!`].
pub(crate) trait Rows: Serialize {
    const NAMES: Names;
}

impl<R: Rows> Rows for &R {
    const NAMES: Names = R::NAMES;
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

/// A statement with its arguments, in the order `$1`, `$2`, …
#[must_use]
pub(crate) struct Query {
    dialect: Dialect,
    text: &'static str,
    arguments: Vec<(Cell<'static>, Sort)>,
    /// What `ROWS($n)` stands for, by n − 1.
    names: Vec<Names>,
    /// Why an argument couldn't be bound.
    failed: Option<sqlx::Error>,
}

impl Query {
    pub(crate) fn new(dialect: Dialect, text: &'static str) -> Self {
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
        self.add(cell, T::SORT, &[])
    }

    /// The next argument: rows, for `ROWS($n)`.
    pub(crate) fn rows<R: Rows>(self, rows: &[R]) -> Self {
        self.list(json_of(rows), R::NAMES)
    }

    /// The next argument: a list, for `NUMBERS($n)`.
    pub(crate) fn numbers<T: Into<i64>>(self, numbers: impl IntoIterator<Item = T>) -> Self {
        let cells = numbers
            .into_iter()
            .map(|number| Cell::Number(number.into()));
        self.list(json_of(&cells.collect::<Vec<_>>()), &[])
    }

    /// The next argument: a list, for `TEXTS($n)`.
    pub(crate) fn texts<'a, T: AsRef<str> + ?Sized + 'a>(
        self,
        texts: impl IntoIterator<Item = &'a T>,
    ) -> Self {
        let cells = texts
            .into_iter()
            .map(|text| Cell::Text(escaped(text.as_ref())));
        self.list(json_of(&cells.collect::<Vec<_>>()), &[])
    }

    /// The next argument: a list that is text already, with the names of its rows' columns.
    pub(crate) fn list(mut self, text: sqlx::Result<String>, names: Names) -> Self {
        match text {
            Ok(text) => self.add(Cell::Text(text.into()), Sort::Text, names),
            Err(error) => {
                self.failed.get_or_insert(error);
                self.add(Cell::Null, Sort::Text, names)
            }
        }
    }

    fn add(mut self, cell: Cell<'static>, sort: Sort, names: Names) -> Self {
        self.arguments.push((cell, sort));
        self.names.push(names);
        self
    }

    /// What sqlx takes.
    pub(crate) fn ready(self) -> sqlx::Result<sqlx::query::Query<'static, Any, AnyArguments>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let text = text::text(self.dialect, self.text, &self.names);
        let mut arguments = AnyArguments::default();
        for (cell, sort) in self.arguments {
            cell.add_to(&mut arguments, sort)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(text), arguments))
    }

    /// What a thread of SQLite takes.
    pub(crate) fn bound(self) -> sqlx::Result<Bound> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let arguments = self.arguments.into_iter();
        Ok(Bound {
            text: text::text(self.dialect, self.text, &self.names),
            arguments: arguments.map(|(cell, _)| cell).collect(),
        })
    }
}

/// A list as the databases' JSON functions take it.
pub(crate) fn json_of<T: Serialize>(list: &[T]) -> sqlx::Result<String> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}
