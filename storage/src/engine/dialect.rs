//! Where SQLite's and PostgreSQL's SQL differ. The only place that knows; how each is spoken to is said in `engine/sqlite`,
//! `engine/postgres.rs` and `engine/sql/list.rs`.
//!
//! SQL is written once, with these words in it:
//!
//! | word | stands for |
//! |---|---|
//! | `ROWS($n)` | a table: the bound rows, with their columns by name |
//! | `NUMBERS($n)`, `TEXTS($n)` | a bound list in brackets, as in `no IN NUMBERS($1)` |
//! | `NEWEST(a, b, n)`, `OLDEST(a, b, n)` | behind `FROM … AS x`: with each row the newest or oldest `n` events `e` of the room `x.room` with `a < ord ≤ b` |
//! | `FOR_UPDATE` | `FOR UPDATE`; in SQLite nothing (the write transaction holds everything) |
//! | `UNHEX(x)` | the bytes of hexadecimal text |
//! | `NOW_MS` | the database's time, in milliseconds since 1970 |
//! | `ROW_ID` (migrations) | `INTEGER` or `BIGINT` |
//! | `BYTES` (migrations) | `BLOB` or `BYTEA` |
//! | `SQLITE:`, `POSTGRES:` (migrations) | a line for that database alone |
//!
//! Lists and rows are bound to SQLite as JSON (a list of values, a list of lists), to PostgreSQL as arrays: one for a list,
//! one for each column of rows, so that what is `$2` here may be `$5` there.
//!
//! Neither database takes U+0000 everywhere (PostgreSQL has no such text, SQLite's JSON functions
//! cut at it), so text is bound [`escaped`] and read back [`unescaped`] (`engine/sql/value.rs`).

mod alone;
pub(crate) mod search;
mod setup;
mod words;

use std::borrow::Cow;

use sqlx::error::DatabaseError;

pub(crate) use words::argument;

/// Which database a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `sqlite:…`
    Sqlite,
    /// `postgres://…`
    Postgres,
}

impl Dialect {
    /// The dialect of a database URL, or `None` if it is neither.
    pub fn of(url: &str) -> Option<Self> {
        if url.starts_with("sqlite:") {
            Some(Self::Sqlite)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Some(Self::Postgres)
        } else {
            None
        }
    }

    /// A migration's text for this database.
    pub(crate) fn schema(self, text: &str) -> String {
        let (row_id, bytes, own, other) = match self {
            Self::Sqlite => ("INTEGER", "BLOB", "SQLITE:", "POSTGRES:"),
            Self::Postgres => ("BIGINT", "BYTEA", "POSTGRES:", "SQLITE:"),
        };
        // Byte for byte where there is nothing to replace: a text's checksum is stored.
        let lines = text.split_inclusive('\n');
        let lines = lines.filter(|line| !line.starts_with(other));
        let text: String = lines
            .map(|line| line.strip_prefix(own).unwrap_or(line))
            .collect();
        text.replace("ROW_ID", row_id).replace("BYTES", bytes)
    }

    /// Whether other processes may write to the same database.
    pub(crate) fn is_shared(self) -> bool {
        self == Self::Postgres
    }

    /// Whether an unknown outcome of COMMIT can be looked up by this process. SQLite always says what
    /// became of it ([`Fault::Unwritable`]); anything else it could say is damage, which leaves only one
    /// sound way on: to start again.
    pub(crate) fn survives_commit_error(self) -> bool {
        self == Self::Postgres
    }
}

/// What a column is to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Number,
    Text,
}

/// The columns of rows that are bound: names and sorts.
pub(crate) type Names = &'static [(&'static str, Sort)];

/// What a database's error says of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Others were in the way: in a moment it may be done.
    Passing,
    /// Nothing can be written, or kept in memory, until somebody makes room or gives leave. Nothing of it
    /// was written, also if COMMIT says so.
    Unwritable,
    /// It is about what was asked, or damage.
    Other,
}

/// What an error is about.
pub(crate) fn fault(error: &dyn DatabaseError) -> Fault {
    error.code().map_or(Fault::Other, |code| fault_of(&code))
}

/// SQLite has numbers, of which the lowest byte says what it is; PostgreSQL five characters.
fn fault_of(code: &str) -> Fault {
    match code {
        // Serialisation, deadlock, lock time-out, shutting down, connection trouble, too many connections.
        "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" | "57014" | "25P03" | "53300" => {
            Fault::Passing
        }
        // Disk full, out of memory, a standby or read-only session, an I/O error.
        "53000" | "53100" | "53200" | "25006" | "58030" => Fault::Unwritable,
        code if code.len() == 5 && code.starts_with("08") => Fault::Passing,
        code if code.len() == 5 => Fault::Other,
        code => match code.parse::<u32>().map(|code| code & 0xff) {
            // Busy, locked.
            Ok(5 | 6) => Fault::Passing,
            // No memory, read-only, an I/O error (a full disk also shows so), full, can't be opened.
            // An error at COMMIT leaves the log of SQLite as it was: readers and the next writer go on
            // from the last commit, whose place the failed one has not taken.
            Ok(7 | 8 | 10 | 13 | 14) => Fault::Unwritable,
            _ => Fault::Other,
        },
    }
}

const NUL: char = '\u{0}';
const ESCAPE: char = '\u{1}';

/// `text` without U+0000: U+0001 is the escape, so `\0` is `\1` `0` and `\1` is `\1` `1`.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    // Nearly always there is none. Whole pieces at a time, as every event that is stored passes here.
    let odd = |piece: &[u8]| piece.iter().fold(u8::MAX, |least, byte| least.min(*byte)) <= 1;
    if !text.as_bytes().chunks(64).any(odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            NUL => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, '1']),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// The inverse of [`escaped`].
pub(crate) fn unescaped(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            ESCAPE => match chars.next() {
                Some('0') => out.push(NUL),
                _ => out.push(ESCAPE),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_are_told_apart() {
        for (code, fault) in [
            ("5", Fault::Passing),
            ("517", Fault::Passing),
            ("13", Fault::Unwritable),
            ("8", Fault::Unwritable),
            ("778", Fault::Unwritable),
            ("1034", Fault::Unwritable),
            ("11", Fault::Other),
            ("1555", Fault::Other),
            ("53100", Fault::Unwritable),
            ("25006", Fault::Unwritable),
            ("08006", Fault::Passing),
            ("23505", Fault::Other),
            ("", Fault::Other),
        ] {
            assert_eq!(fault_of(code), fault, "{code}");
        }
    }

    proptest! {
        #[test]
        fn escaping_comes_back(text in "[\u{0}-\u{3}a0-1]{0,20}") {
            let there = escaped(&text);
            prop_assert!(!there.contains(NUL));
            prop_assert_eq!(unescaped(there.into_owned()), text);
        }
    }
}
