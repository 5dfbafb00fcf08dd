//! Where SQLite and PostgreSQL differ. The only place that asks which of the two it is.
//!
//! SQL is written once, with these words in it:
//!
//! | word | stands for |
//! |---|---|
//! | `ROWS($n)` | a table: the bound rows, with their columns by name |
//! | `NUMBERS($n)`, `TEXTS($n)` | a bound list in brackets, as in `no IN NUMBERS($1)` |
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

use std::borrow::Cow;

use sqlx::error::DatabaseError;

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

    /// The text that this database understands. `names` are the columns of the bound rows, by argument.
    pub(crate) fn sql(self, text: &str, names: &[Names]) -> String {
        let mut out = String::with_capacity(text.len() + 256);
        let mut rest = text;
        // The words are rare and upper case, so look only where one may begin.
        while let Some(at) = rest.find(['$', 'F', 'N', 'R', 'T', 'U']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some((word, after)) = Word::split(rest) {
                self.write(&mut out, &word, names);
                rest = after;
            } else if let Some((number, after)) = argument(rest) {
                let first = self.first_of(number, names).to_string();
                out.extend(["$", &first]);
                rest = after;
            } else {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }

    fn write(self, out: &mut String, word: &Word<'_>, names: &[Names]) {
        match (word, self) {
            (Word::ForUpdate, Self::Sqlite) => {}
            (Word::ForUpdate, Self::Postgres) => out.push_str("FOR UPDATE"),
            (Word::NowMs, Self::Sqlite) => {
                out.push_str("CAST(unixepoch('subsec') * 1000 AS INTEGER)");
            }
            (Word::NowMs, Self::Postgres) => {
                out.push_str("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)");
            }
            (Word::Unhex(what), Self::Sqlite) => out.extend(["unhex(", what, ")"]),
            (Word::Unhex(what), Self::Postgres) => {
                out.extend(["decode(", &self.sql(what, names), ", 'hex')"]);
            }
            (Word::Numbers(list) | Word::Texts(list), Self::Sqlite) => {
                out.extend(["(SELECT value FROM json_each(", list, "))"]);
            }
            (Word::Numbers(list), Self::Postgres) => self.write_any(out, list, Sort::Number, names),
            (Word::Texts(list), Self::Postgres) => self.write_any(out, list, Sort::Text, names),
            (Word::Rows(list), Self::Sqlite) => write_json_rows(out, list, names_of(list, names)),
            (Word::Rows(list), Self::Postgres) => self.write_unnested(out, list, names),
        }
    }

    /// `IN` a list, which PostgreSQL looks for in an index when it is an array, key by key. What isn't in one it
    /// would compare with all of it, row for row, where a table is hashed once.
    fn write_any(self, out: &mut String, list: &str, sort: Sort, names: &[Names]) {
        let array = self.array(list, 0, sort, names);
        if out.ends_with(IN) && !out.ends_with(" NOT IN ") {
            out.truncate(out.len() - IN.len());
            out.extend([" = ANY (", &array, ")"]);
        } else {
            out.extend(["(SELECT * FROM unnest(", &array, "))"]);
        }
    }

    fn write_unnested(self, out: &mut String, list: &str, names: &[Names]) {
        let columns = names_of(list, names);
        out.push_str("(SELECT * FROM unnest(");
        for (at, (_, sort)) in columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            out.extend([comma, &self.array(list, at, *sort, names)]);
        }
        out.push_str(") AS each(");
        for (at, (name, _)) in columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            out.extend([comma, name]);
        }
        out.push_str("))");
    }

    /// The array for a column of what is bound as `list`.
    fn array(self, list: &str, column: usize, sort: Sort, names: &[Names]) -> String {
        let number = argument(list).map_or(1, |(number, _)| number);
        let at = self.first_of(number, names) + column;
        match sort {
            Sort::Number => format!("${at}::bigint[]"),
            Sort::Text => format!("${at}::text[]"),
        }
    }

    /// What the argument with this number is, or the first of what it is, to the database.
    fn first_of(self, number: usize, names: &[Names]) -> usize {
        match self {
            Self::Sqlite => number,
            Self::Postgres => {
                let before = names.iter().take(number.saturating_sub(1));
                number
                    + before
                        .map(|rows| rows.len().saturating_sub(1))
                        .sum::<usize>()
            }
        }
    }
}

/// Rows as JSON.
fn write_json_rows(out: &mut String, list: &str, names: Names) {
    out.push_str("(SELECT ");
    for (index, (name, sort)) in names.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let index = index.to_string();
        match sort {
            Sort::Number => {
                out.extend([comma, "CAST(value ->> ", &index, " AS BIGINT) AS ", name]);
            }
            Sort::Text => out.extend([comma, "value ->> ", &index, " AS ", name]),
        }
    }
    out.extend([" FROM json_each(", list, "))"]);
}

impl Dialect {
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

const IN: &str = " IN ";

/// A word of the table above, with what stands in its brackets.
enum Word<'a> {
    Rows(&'a str),
    Numbers(&'a str),
    Texts(&'a str),
    Unhex(&'a str),
    ForUpdate,
    NowMs,
}

impl<'a> Word<'a> {
    /// The word that `text` begins with, and what comes after it.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        if let Some(after) = text.strip_prefix("FOR_UPDATE") {
            return Some((Self::ForUpdate, after));
        }
        if let Some(after) = text.strip_prefix("NOW_MS") {
            return Some((Self::NowMs, after));
        }
        let (name, rest) = text.split_once('(')?;
        let word = match name {
            "ROWS" => Self::Rows,
            "NUMBERS" => Self::Numbers,
            "TEXTS" => Self::Texts,
            "UNHEX" => Self::Unhex,
            _ => return None,
        };
        let (inside, after) = rest.split_once(')')?;
        Some((word(inside), after))
    }
}

/// The columns of the rows that are bound as `argument`, `$1` or its like.
fn names_of(argument: &str, names: &[Names]) -> Names {
    let number = self::argument(argument).map(|(number, _)| number);
    let found = number.and_then(|number| names.get(number.checked_sub(1)?));
    found.copied().unwrap_or_default()
}

/// The number of the argument that `text` begins with (`$1`), and what comes after it.
pub(crate) fn argument(text: &str) -> Option<(usize, &str)> {
    let rest = text.strip_prefix('$')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(digits);
    Some((number.parse().ok()?, after))
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
    fn words_are_replaced() {
        let text = "INSERT INTO t SELECT x.no, UNHEX(x.body), UNHEX($4) FROM ROWS($2) AS x \
                    WHERE x.no IN NUMBERS($1) AND UPPER(t) NOT IN TEXTS($3) AND b < $4 FOR_UPDATE";
        let names: &[Names] = &[&[], &[("no", Sort::Number), ("body", Sort::Text)], &[], &[]];
        assert_eq!(
            Dialect::Sqlite.sql(text, names),
            "INSERT INTO t SELECT x.no, unhex(x.body), unhex($4) FROM \
             (SELECT CAST(value ->> 0 AS BIGINT) AS no, value ->> 1 AS body FROM json_each($2)) AS x \
             WHERE x.no IN (SELECT value FROM json_each($1)) \
             AND UPPER(t) NOT IN (SELECT value FROM json_each($3)) AND b < $4 "
        );
        assert_eq!(
            Dialect::Postgres.sql(text, names),
            "INSERT INTO t SELECT x.no, decode(x.body, 'hex'), decode($5, 'hex') FROM \
             (SELECT * FROM unnest($2::bigint[], $3::text[]) AS each(no, body)) AS x \
             WHERE x.no = ANY ($1::bigint[]) AND UPPER(t) NOT IN (SELECT * FROM unnest($4::text[])) AND b < $5 FOR UPDATE"
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
