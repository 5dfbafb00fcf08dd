//! Where SQLite and PostgreSQL differ. The only place that asks which of the two it is.
//!
//! SQL is written once, with these words in it:
//!
//! | word | SQLite | PostgreSQL |
//! |---|---|---|
//! | `EACH($n)` | `json_each($n)` | `json_array_elements($n::json) AS each(value)` |
//! | `FOR_UPDATE` | nothing (the write transaction holds everything) | `FOR UPDATE` |
//! | `UNHEX(x)` | `unhex(x)` | `decode(x, 'hex')` |
//! | `ROW_ID` (migrations) | `INTEGER` | `BIGINT` |
//! | `BYTES` (migrations) | `BLOB` | `BYTEA` |
//!
//! Lists and rows are bound as one JSON array of arrays; `value ->> 0` is the first column as text
//! on both, and `CAST(value ->> 0 AS BIGINT)` makes it a number.
//!
//! Neither database takes U+0000 everywhere (PostgreSQL has no such text, SQLite's JSON functions
//! cut at it), so text from strangers is bound [`escaped`] and read back [`unescaped`].

use std::borrow::Cow;

use sqlx::error::DatabaseError;

/// Which database a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// The text that this database understands.
    pub(crate) fn sql(self, text: &'static str) -> String {
        let mut out = String::with_capacity(text.len() + 64);
        let mut rest = text;
        // The words are rare and upper case, so look only where one may begin.
        while let Some(at) = rest.find(['E', 'F', 'U']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("EACH(") {
                let end = after.find(')').unwrap_or(after.len());
                let argument = &after[..end];
                match self {
                    Self::Sqlite => out.extend(["json_each(", argument, ") AS each"]),
                    Self::Postgres => {
                        out.extend(["json_array_elements(", argument, "::json) AS each(value)"]);
                    }
                }
                rest = after.get(end + 1..).unwrap_or("");
            } else if let Some(after) = rest.strip_prefix("FOR_UPDATE") {
                if self == Self::Postgres {
                    out.push_str("FOR UPDATE");
                }
                rest = after;
            } else if let Some(after) = rest.strip_prefix("UNHEX(") {
                let end = after.find(')').unwrap_or(after.len());
                match self {
                    Self::Sqlite => out.extend(["unhex(", &after[..end], ")"]),
                    Self::Postgres => out.extend(["decode(", &after[..end], ", 'hex')"]),
                }
                rest = after.get(end + 1..).unwrap_or("");
            } else {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }

    /// A migration's text for this database.
    pub(crate) fn schema(self, text: &str) -> String {
        let (row_id, bytes) = match self {
            Self::Sqlite => ("INTEGER", "BLOB"),
            Self::Postgres => ("BIGINT", "BYTEA"),
        };
        text.replace("ROW_ID", row_id).replace("BYTES", bytes)
    }

    /// How a transaction that writes begins.
    pub(crate) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What each new connection is told.
    pub(crate) fn setup(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000; \
                 PRAGMA mmap_size = 268435456; PRAGMA wal_autocheckpoint = 2000;"
            }
            Self::Postgres => {
                "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s'; \
                 SET statement_timeout = '120s'; SET synchronous_commit = on; \
                 SET client_min_messages = warning;"
            }
        }
    }

    /// How many connections may write at once.
    pub(crate) fn writers(self, max_connections: u32) -> u32 {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => (max_connections / 3).clamp(2, 8),
        }
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
    if !text.contains([NUL, ESCAPE]) {
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
    fn words_are_replaced() {
        let text = "INSERT INTO t SELECT UNHEX(value ->> 1) FROM EACH($1) WHERE F FOR_UPDATE";
        assert_eq!(
            Dialect::Sqlite.sql(text),
            "INSERT INTO t SELECT unhex(value ->> 1) FROM json_each($1) AS each WHERE F "
        );
        assert_eq!(
            Dialect::Postgres.sql(text),
            "INSERT INTO t SELECT decode(value ->> 1, 'hex') FROM \
             json_array_elements($1::json) AS each(value) WHERE F FOR UPDATE"
        );
    }

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
