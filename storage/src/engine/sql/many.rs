//! Statements that go to SQLite in one go: each way to its thread and back costs more than most of what it does there.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{LazyLock, Mutex};

use sqlx::any::AnyArguments;
use sqlx::{Any, AssertSqlSafe};

use super::statement::Statement;
use super::{Cell, Sort, text};
use crate::engine::dialect::Dialect;

/// Statements for rows, one text: they share what `$2` and `$3` stand for, and each has its rows.
pub(crate) struct Many {
    text: String,
    arguments: AnyArguments,
    /// How many statements there are.
    count: usize,
    /// Why an argument couldn't be bound.
    failed: Option<sqlx::Error>,
}

/// The numbers that all of them share come first.
const SHARED: usize = 2;

impl Many {
    /// `shared`: what `$2` and `$3` are in all of them.
    pub(crate) fn new(shared: [i64; SHARED]) -> Self {
        let mut many = Self {
            text: String::with_capacity(4 << 10),
            arguments: AnyArguments::default(),
            count: 0,
            failed: None,
        };
        for number in shared {
            many.bind(Cell::Number(number), Sort::Number);
        }
        many
    }

    /// One more, to be run after those before.
    pub(crate) fn add(&mut self, statement: &Statement) {
        let text = text::text(Dialect::Sqlite, statement.sql, &[statement.names]);
        self.count += 1;
        let rows = SHARED + self.count;
        renumber(&text, rows, &mut self.text);
        self.text.push_str(";\n");
        self.bind(Cell::Text(statement.rows.as_str().into()), Sort::Text);
    }

    fn bind(&mut self, cell: Cell<'_>, sort: Sort) {
        if let Err(error) = cell.add_to(&mut self.arguments, sort) {
            self.failed.get_or_insert(error);
        }
    }

    /// How many statements there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What the driver takes.
    pub(crate) fn ready(self) -> sqlx::Result<sqlx::query::Query<'static, Any, AnyArguments>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let keeps = KNOWN.lock().is_ok_and(|mut known| known.keeps(&self.text));
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        Ok(query.persistent(keeps))
    }
}

/// Combinations of statements that the driver keeps prepared.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// There are more combinations than the driver has places for, and each takes one from a statement that is used all
/// the time: the first that come again are kept, of the others each part is prepared anew.
#[derive(Default)]
struct Known {
    kept: HashSet<u64>,
    once: HashSet<u64>,
}

/// So many are kept, of the driver's hundred places.
const KEPT: usize = 40;
/// So many are remembered to have come.
const ONCE: usize = 1_000;

impl Known {
    fn keeps(&mut self, text: &str) -> bool {
        let hash = HASHES.hash_one(text);
        if self.kept.contains(&hash) {
            return true;
        }
        if self.kept.len() >= KEPT {
            return false;
        }
        if self.once.remove(&hash) {
            return self.kept.insert(hash);
        }
        if self.once.len() >= ONCE {
            self.once.clear();
        }
        self.once.insert(hash);
        false
    }
}

static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A statement's text in which `$1` is the argument of this number, and `$2` and `$3` are the shared ones.
fn renumber(text: &str, rows: usize, out: &mut String) {
    let mut parts = text.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push('$');
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match &part[..part.len() - rest.len()] {
            "1" => out.push_str(&rows.to_string()),
            "2" => out.push('1'),
            "3" => out.push('2'),
            other => out.push_str(other),
        }
        out.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_kept_as_long_as_there_is_room() {
        let mut known = Known::default();
        assert!(!known.keeps("a"));
        assert!(known.keeps("a"));
        for n in 0..2 * ONCE {
            assert!(!known.keeps(&format!("{n}")));
        }
        for n in 0..2 * KEPT {
            let text = format!("b{n}");
            known.keeps(&text);
            assert_eq!(known.keeps(&text), n < KEPT - 1);
        }
        assert!(known.keeps("a"));
    }

    #[test]
    fn arguments_are_those_of_all() {
        let mut out = String::new();
        let text = "INSERT INTO t SELECT x.a + $2, JSON(x.b, '$[0]') FROM json_each($1) AS x WHERE $3 < $1";
        renumber(text, 12, &mut out);
        assert_eq!(
            out,
            "INSERT INTO t SELECT x.a + $1, JSON(x.b, '$[0]') FROM json_each($12) AS x WHERE $2 < $12"
        );
    }
}
