//! A row that was read, from either database.

use std::sync::Arc;

use rusqlite::types::Value;
use sqlx::postgres::PgRow;
use sqlx::{Column as _, Postgres, Row as _, Type};

use crate::{Error, Result};

/// A row, whose columns are read by [`Columns`](super::Columns).
pub(crate) enum ReadRow {
    /// By a thread of ours.
    Sqlite(SqliteRow),
    /// By sqlx.
    Postgres(Box<PgRow>),
}

impl ReadRow {
    pub(crate) fn of_postgres(row: PgRow) -> Self {
        Self::Postgres(Box::new(row))
    }
}

/// What was read of SQLite: names, once for all rows of an answer, and values.
#[derive(Debug)]
pub(crate) struct SqliteRow {
    names: Arc<[Box<str>]>,
    values: Box<[Value]>,
}

impl SqliteRow {
    pub(crate) fn new(names: Arc<[Box<str>]>, values: Box<[Value]>) -> Self {
        Self { names, values }
    }

    /// What stands in the column with this name, if there is one.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        let at = self.names.iter().position(|known| **known == *name)?;
        self.values.get(at)
    }
}

/// What a column is before it gets a meaning: a number, a text or bytes.
pub(crate) trait Plain: Sized {
    /// The column with this name; `None` for NULL.
    fn read(row: &ReadRow, name: &str) -> Result<Option<Self>>;
}

macro_rules! plain {
    ($($type:ty: $held:ident, $postgres:path;)*) => {$(
        impl Plain for $type {
            fn read(row: &ReadRow, name: &str) -> Result<Option<Self>> {
                match row {
                    ReadRow::Postgres(row) => Ok($postgres(row, name)?),
                    ReadRow::Sqlite(row) => match row.value(name) {
                        Some(Value::$held(held)) => Ok(Some(held.clone())),
                        Some(Value::Null) => Ok(None),
                        Some(other) => Err(unexpected(name, other)),
                        None => Err(Error::broken(format!("there is no column {name}"))),
                    },
                }
            }
        }
    )*};
}

plain! {
    i64: Integer, number_of;
    String: Text, PgRow::try_get;
    Vec<u8>: Blob, PgRow::try_get;
}

/// PostgreSQL has numbers of several sizes: columns of tables have the largest, what functions give may be smaller.
fn number_of(row: &PgRow, name: &str) -> sqlx::Result<Option<i64>> {
    let small = <i32 as Type<Postgres>>::type_info();
    if *row.try_column(name)?.type_info() == small {
        return Ok(row.try_get::<Option<i32>, _>(name)?.map(i64::from));
    }
    row.try_get(name)
}

fn unexpected(name: &str, value: &Value) -> Error {
    let found = value.data_type();
    Error::broken(format!("the column {name} is of the type {found}"))
}
