//! A statement on a connection: bound, run, and its rows taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use super::error::driver_error;
use crate::engine::sql::{Bound, Cell, ReadRow, SqliteRow};

/// What takes longer is said so.
const SLOW: Duration = Duration::from_secs(1);

impl ToSql for Cell<'static> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// All rows, or the first ones.
pub(super) fn rows(
    bound: &Bound,
    connection: &Connection,
    most: usize,
) -> sqlx::Result<Vec<ReadRow>> {
    timed(bound, || read(bound, connection, most))
}

/// Runs it; gives how many rows it touched.
pub(super) fn execute(bound: &Bound, connection: &Connection) -> sqlx::Result<u64> {
    timed(bound, || {
        let mut statement = prepared(bound, connection)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(connection.changes())
    })
}

fn read(bound: &Bound, connection: &Connection, most: usize) -> rusqlite::Result<Vec<ReadRow>> {
    let mut statement = prepared(bound, connection)?;
    let names: Arc<[Box<str>]> = (statement.column_names().into_iter())
        .map(Box::from)
        .collect();
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while found.len() < most
        && let Some(row) = rows.next()?
    {
        let value = |at| Value::try_from(row.get_ref(at)?).map_err(rusqlite::Error::from);
        let values: rusqlite::Result<Box<[Value]>> = (0..names.len()).map(value).collect();
        let row = SqliteRow::new(names.clone(), values?);
        found.push(ReadRow::Sqlite(row));
    }
    Ok(found)
}

fn prepared<'c>(
    bound: &Bound,
    connection: &'c Connection,
) -> rusqlite::Result<CachedStatement<'c>> {
    let mut statement = connection.prepare_cached(&bound.text)?;
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).unwrap_or_default();
        let number = name.trim_start_matches('$').parse::<usize>().unwrap_or(0);
        let argument = (number.checked_sub(1)).and_then(|at| bound.arguments.get(at));
        let argument = argument
            .ok_or_else(|| rusqlite::Error::InvalidParameterCount(bound.arguments.len(), number))?;
        statement.raw_bind_parameter(index, argument)?;
    }
    Ok(statement)
}

fn timed<T>(bound: &Bound, run: impl FnOnce() -> rusqlite::Result<T>) -> sqlx::Result<T> {
    let begun = Instant::now();
    let done = run();
    let took = begun.elapsed();
    if took >= SLOW {
        tracing::warn!(statement = &*bound.text, ?took, "a slow statement");
    } else {
        tracing::trace!(statement = &*bound.text, ?took, "statement");
    }
    done.map_err(driver_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str, arguments: Vec<Cell<'static>>) -> Bound {
        Bound {
            text: text.into(),
            arguments,
        }
    }

    #[test]
    fn arguments_go_by_their_numbers() {
        let connection = Connection::open_in_memory().unwrap();
        let arguments = vec![
            Cell::Number(1),
            Cell::Text("two".into()),
            Cell::Null,
            Cell::Number(4),
        ];
        let text = "SELECT $2 AS b, $1 + $4 AS a, $2 || $1 AS c, $3 AS d, x'00ff' AS e";
        let rows = rows(&bound(text, arguments), &connection, usize::MAX).unwrap();
        let ReadRow::Sqlite(row) = &rows[0] else {
            panic!("it is SQLite's");
        };
        let value = |name: &str| row.value(name).cloned();
        assert_eq!(value("a"), Some(Value::Integer(5)));
        assert_eq!(value("b"), Some(Value::Text("two".to_owned())));
        assert_eq!(value("c"), Some(Value::Text("two1".to_owned())));
        assert_eq!(value("d"), Some(Value::Null));
        assert_eq!(value("e"), Some(Value::Blob(vec![0, 255])));
        assert_eq!(value("f"), None);
    }

    #[test]
    fn what_lacks_an_argument_is_not_run() {
        let connection = Connection::open_in_memory().unwrap();
        let lacking = bound("SELECT $2 AS b", vec![Cell::Null]);
        assert!(rows(&lacking, &connection, 1).is_err());
    }

    #[test]
    fn no_more_rows_are_read_than_are_wanted() {
        let connection = Connection::open_in_memory().unwrap();
        // It would never end.
        let numbers =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
        let rows = rows(&bound(numbers, Vec::new()), &connection, 2).unwrap();
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn rows_that_were_touched_are_counted() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        let run = |text| execute(&bound(text, vec![Cell::Number(3)]), &connection).unwrap();
        assert_eq!(run("INSERT INTO t VALUES ($1), (2)"), 2);
        assert_eq!(
            run("INSERT INTO t SELECT a FROM t WHERE a = $1 RETURNING a"),
            1
        );
        assert_eq!(run("DELETE FROM t"), 3);
    }
}
