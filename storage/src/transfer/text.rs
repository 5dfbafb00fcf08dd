//! Rows as PostgreSQL's COPY has them in text, which is the same on the way in and on the way out; and sums of them.

use ring::digest::{SHA256, digest};
use rusqlite::Row;
use rusqlite::types::ValueRef;

/// Appends a row of SQLite's, with so many columns.
///
/// # Errors
/// A value is of a kind that no column of ours has.
pub(super) fn write_row(row: &Row<'_>, columns: usize, into: &mut Vec<u8>) -> rusqlite::Result<()> {
    for column in 0..columns {
        if column > 0 {
            into.push(b'\t');
        }
        match row.get_ref(column)? {
            ValueRef::Null => into.extend(b"\\N"),
            ValueRef::Integer(number) => into.extend(number.to_string().as_bytes()),
            ValueRef::Text(text) => write_text(text, into),
            ValueRef::Blob(bytes) => write_bytes(bytes, into),
            ValueRef::Real(_) => {
                let kind = rusqlite::types::Type::Real;
                let name = row.as_ref().column_name(column)?.to_owned();
                return Err(rusqlite::Error::InvalidColumnType(column, name, kind));
            }
        }
    }
    into.push(b'\n');
    Ok(())
}

fn write_text(text: &[u8], into: &mut Vec<u8>) {
    for byte in text {
        let letter = match byte {
            b'\\' => b'\\',
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            0x08 => b'b',
            0x0b => b'v',
            0x0c => b'f',
            other => {
                into.push(*other);
                continue;
            }
        };
        into.extend([b'\\', letter]);
    }
}

fn write_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    into.extend(b"\\\\x");
    for byte in bytes {
        into.push(DIGITS[usize::from(byte >> 4)]);
        into.push(DIGITS[usize::from(byte & 0xf)]);
    }
}

/// What rows come to, in whatever order: how many, and a sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    hash: u128,
}

impl Sum {
    /// Adds a row, without the end of its line.
    pub(super) fn add(&mut self, line: &[u8]) {
        let hash = digest(&SHA256, line);
        let mut half = [0; 16];
        half.iter_mut()
            .zip(hash.as_ref())
            .for_each(|(to, from)| *to = *from);
        self.rows += 1;
        self.hash = self.hash.wrapping_add(u128::from_be_bytes(half));
    }
}

/// Rows that come in pieces which may end anywhere.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    pub(super) sum: Sum,
}

impl Lines {
    /// Takes a piece.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let mut lines = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                // The end of the piece, not of a line.
                self.begun.extend(line);
            } else if self.begun.is_empty() {
                self.sum.add(line);
            } else {
                self.begun.extend(line);
                self.sum.add(&self.begun);
                self.begun.clear();
            }
        }
    }

    /// What all of it came to; `None` if the last line has no end.
    pub(super) fn end(self) -> Option<Sum> {
        self.begun.is_empty().then_some(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn line(select: &str) -> rusqlite::Result<String> {
        let connection = Connection::open_in_memory()?;
        let mut statement = connection.prepare(select)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let row = rows.next()?.unwrap();
        let mut into = Vec::new();
        write_row(row, columns, &mut into)?;
        Ok(String::from_utf8(into).unwrap())
    }

    #[test]
    fn rows_are_written_as_postgresql_has_them() {
        let all = "SELECT 1, -5, NULL, 'a' || char(9) || 'b' || char(10, 13, 92, 8, 11, 12, 1) || 'ä', x'00ff5c', ''";
        let expected = "1\t-5\t\\N\ta\\tb\\n\\r\\\\\\b\\v\\f\u{1}ä\t\\\\x00ff5c\t\n";
        assert_eq!(line(all).unwrap(), expected);
        // What looks like the end of all is a text like any other.
        assert_eq!(line("SELECT '\\N', '\\.'").unwrap(), "\\\\N\t\\\\.\n");
        assert!(line("SELECT 1.5").is_err());
    }

    #[test]
    fn sums_go_by_rows_and_not_by_their_order_or_pieces() {
        let mut whole = Lines::default();
        whole.take(b"one\ntwo\n\nthree\n");
        let whole = whole.end().unwrap();
        assert_eq!(whole.rows, 4);
        let mut pieces = Lines::default();
        for piece in [&b"thr"[..], b"e", b"e\n\no", b"ne\ntwo", b"\n"] {
            pieces.take(piece);
        }
        assert_eq!(pieces.end(), Some(whole));
        let mut other = Lines::default();
        other.take(b"one\ntwo\n\nthree!\n");
        assert_ne!(other.end(), Some(whole));
        let mut torn = Lines::default();
        torn.take(b"one\ntw");
        assert_eq!(torn.end(), None);
    }
}
