//! Several statements of a commit as one, for PostgreSQL: the counter is taken and all is written by one way there and back.
//!
//! All parts of a statement see the database as it was when it began, so each may read and write one table alone
//! ([`Statement::only`]), and no two the same.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::statement::Statement;
use super::text::{Made, Place};
use super::{Columns as _, Query, ReadRow, text};
use crate::Result;
use crate::engine::dialect::{Dialect, argument};

/// By the statements. There are few combinations: what a message writes, and what it writes where servers are told.
static MADE: Made<Vec<Place>> = Made::new();

/// What one statement for all of them gives.
pub(crate) struct Wrote {
    /// The position before the first.
    pub(crate) base: i64,
    /// The order after the last backfilled event.
    pub(crate) back: i64,
    /// How many rows each has touched.
    pub(crate) touched: Vec<u64>,
}

/// Whether these may be merged.
pub(crate) fn can_be<'a>(statements: impl Iterator<Item = &'a Statement>) -> bool {
    let mut tables = HashSet::new();
    let mut only = statements.map(|statement| statement.only);
    only.all(|table| table.is_some_and(|table| tables.insert(table)))
}

/// One statement that moves the counter, by so many positions and backfilled events, and does what all of these do.
pub(crate) fn merged(positions: i64, backfilled: i64, statements: &[&Statement]) -> Query {
    let places = statements
        .iter()
        .map(|statement| text::place(statement.sql));
    let words = MADE.get(places.collect(), || write(statements));
    let counted = Query::made(Dialect::Postgres, words);
    let counted = counted.bind(positions).bind(backfilled);
    statements.iter().fold(counted, |query, statement| {
        query.list(Ok(statement.rows.clone()), statement.names)
    })
}

/// What a merged statement of so many has given.
pub(crate) fn read(row: &ReadRow, statements: usize) -> Result<Wrote> {
    let touched = (0..statements).map(|n| row.get(&format!("n{n}")));
    Ok(Wrote {
        base: row.get("base")?,
        back: row.get("back")?,
        touched: touched.collect::<Result<_>>()?,
    })
}

fn write(statements: &[&Statement]) -> String {
    let mut out = String::from(
        "WITH counted AS (UPDATE counter SET pos = pos + $1, back = back - $2 WHERE id = 1 \
         RETURNING pos - $1 AS base, back + $2 AS back)",
    );
    let mut touched = String::new();
    // The counter's two come first.
    let mut taken = 2;
    for (n, statement) in statements.iter().enumerate() {
        let columns = statement.names.len();
        let text = text::text(Dialect::Postgres, statement.sql, &[statement.names]);
        let text = renumbered(&text, columns, taken);
        // Writing to a text can't fail.
        let _ = write!(out, ", s{n} AS ({text} RETURNING 1)");
        let _ = write!(touched, ", (SELECT COUNT(*) FROM s{n}) AS n{n}");
        taken += columns;
    }
    let _ = write!(out, " SELECT base, back{touched} FROM counted");
    out
}

/// With its columns as the arguments after those that are `taken`, and what the counter gave in place of the two after them.
fn renumbered(text: &str, columns: usize, taken: usize) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((number, after)) = argument(rest) else {
            out.push('$');
            rest = &rest[1..];
            continue;
        };
        match number.checked_sub(columns) {
            Some(1) => out.push_str("(SELECT base FROM counted)"),
            Some(2) => out.push_str("(SELECT back FROM counted)"),
            _ => out.extend(["$", &(number + taken).to_string()]),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sql::rows;
    use crate::engine::sql::statement::Statements;

    rows! {
        struct One {
            a: i64,
            b: String,
        }
    }

    fn rows() -> [One; 1] {
        [One {
            a: 1,
            b: "x".to_owned(),
        }]
    }

    #[test]
    fn arguments_follow_one_another_and_the_counters_are_looked_up() {
        let mut all = Statements::new(Dialect::Postgres);
        let first = "INSERT INTO t SELECT a, b FROM ROWS($1) AS x";
        let second = "INSERT INTO u SELECT a + $2, b, $3 FROM ROWS($1) AS x";
        all.before_in("t", first, &rows()).unwrap();
        all.after_in("u", second, &rows()).unwrap();
        let both: Vec<&Statement> = all.before.iter().chain(&all.after).collect();
        assert_eq!(
            write(&both),
            "WITH counted AS (UPDATE counter SET pos = pos + $1, back = back - $2 WHERE id = 1 \
             RETURNING pos - $1 AS base, back + $2 AS back), \
             s0 AS (INSERT INTO t SELECT a, b FROM \
             (SELECT * FROM unnest((SELECT $3::bigint[]), (SELECT $4::text[])) AS each(a, b)) AS x RETURNING 1), \
             s1 AS (INSERT INTO u SELECT a + (SELECT base FROM counted), b, (SELECT back FROM counted) FROM \
             (SELECT * FROM unnest((SELECT $5::bigint[]), (SELECT $6::text[])) AS each(a, b)) AS x RETURNING 1) \
             SELECT base, back, (SELECT COUNT(*) FROM s0) AS n0, (SELECT COUNT(*) FROM s1) AS n1 FROM counted"
        );
    }

    #[test]
    fn what_reads_other_tables_or_the_same_twice_is_left_apart() {
        let mut all = Statements::new(Dialect::Postgres);
        all.before_in("t", "DELETE FROM t", &rows()).unwrap();
        all.before_in("u", "DELETE FROM u", &rows()).unwrap();
        assert!(can_be(all.before.iter()));
        all.before_in("t", "UPDATE t SET a = 1", &rows()).unwrap();
        assert!(!can_be(all.before.iter()));
        all.before.pop();
        all.before("DELETE FROM v", &rows()).unwrap();
        assert!(!can_be(all.before.iter()));
    }
}
