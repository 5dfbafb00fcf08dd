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

pub(crate) mod many;
pub(crate) mod statement;
mod text;
mod value;

use serde::Serialize;
use sqlx::any::AnyArguments;
use sqlx::{Any, AssertSqlSafe};

use crate::engine::dialect::{Dialect, escaped};
pub(crate) use crate::engine::dialect::{Names, Sort};
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

/// A statement with its arguments, in the order `$1`, `$2`, …
#[must_use]
pub(crate) struct Query {
    dialect: Dialect,
    text: &'static str,
    arguments: AnyArguments,
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
            arguments: AnyArguments::default(),
            names: Vec::new(),
            failed: None,
        }
    }

    /// The next argument.
    pub(crate) fn bind<T: Value>(mut self, value: T) -> Self {
        let added = value.cell().add_to(&mut self.arguments, T::SORT);
        self.note(added, &[])
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
        let cell = text.map(|text| Cell::Text(text.into()));
        let added = cell.and_then(|cell| cell.add_to(&mut self.arguments, Sort::Text));
        self.note(added, names)
    }

    fn note(mut self, added: sqlx::Result<()>, names: Names) -> Self {
        if let Err(error) = added {
            self.failed.get_or_insert(error);
        }
        self.names.push(names);
        self
    }

    /// What the driver takes.
    pub(crate) fn ready(self) -> sqlx::Result<sqlx::query::Query<'static, Any, AnyArguments>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let text = text::text(self.dialect, self.text, &self.names);
        Ok(sqlx::query_with(AssertSqlSafe(text), self.arguments))
    }
}

/// A list as the databases' JSON functions take it.
pub(crate) fn json_of<T: Serialize>(list: &[T]) -> sqlx::Result<String> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}
