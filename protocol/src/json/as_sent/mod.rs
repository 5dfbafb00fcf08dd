//! The canonical form of JSON as it was sent: no nesting costs stack, and no number is changed.
//!
//! Servers sign requests in canonical form, whole, with whatever events are in them. So what is demanded of a
//! single event (its depth, its numbers, that no key comes twice) must not be demanded of the request around
//! it: one odd event would cost all the others. Nothing here recurses; time and memory are bounded by the length of
//! the text.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde_json::Number;

use crate::canonical::{JsonError, push_escaped, push_tolerant};

/// How deep objects and arrays may nest: as deep as the bytes of a whole event.
pub const MAX_NESTING: usize = crate::event::pdu::MAX_BYTES;
/// How often a byte may be moved, on average, to put the keys around it in order. What comes in canonical form
/// is never moved.
const MAX_MOVES: usize = 200;

/// What becomes of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// They stay, digit by digit: how servers write them that keep the texts of events.
    AsSent,
    /// Integers stay, whatever their size; others are written as [`push_tolerant`] does: how servers write them
    /// that read what they sent once more to sign it.
    AsRead,
}

/// The canonical form of a JSON object: sorted keys, shortest escapes, no spaces.
///
/// Of a key that comes twice the last one counts. Half a surrogate pair stays the escape that it is.
///
/// # Errors
/// It is no JSON object, or nested deeper than [`MAX_NESTING`].
pub fn canonical_text(json: &[u8], numbers: Numbers) -> Result<String, JsonError> {
    let text = std::str::from_utf8(json).map_err(|error| JsonError::Syntax(error.to_string()))?;
    let writer = Writer {
        text,
        at: 0,
        out: String::with_capacity(text.len()),
        open: Vec::new(),
        numbers,
        moved: 0,
    };
    writer.write()
}

struct Writer<'a> {
    text: &'a str,
    at: usize,
    out: String,
    /// The objects and arrays around what is read.
    open: Vec<Open>,
    numbers: Numbers,
    moved: usize,
}

struct Open {
    /// Where in `out` its first entry begins.
    start: usize,
    /// Its entries; `None` for an array.
    entries: Option<Vec<Entry>>,
}

/// An entry of an object: where in `out` its key begins, and ends.
struct Entry {
    start: usize,
    key_end: usize,
}

impl Writer<'_> {
    fn write(mut self) -> Result<String, JsonError> {
        self.space();
        if self.peek() != Some(b'{') {
            return Err(self.unexpected());
        }
        loop {
            if self.value()? {
                continue;
            }
            // After a value: what ends with it, then the next one.
            loop {
                self.space();
                let Some(open) = self.open.last() else {
                    return self.end();
                };
                let is_object = open.entries.is_some();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.out.push(',');
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => self.close()?,
                    Some(b']') if !is_object => self.close()?,
                    _ => return Err(self.unexpected()),
                }
            }
        }
    }

    fn end(self) -> Result<String, JsonError> {
        if self.at < self.text.len() {
            return Err(self.unexpected());
        }
        Ok(self.out)
    }

    /// Writes a value. `true`: it holds others, of which the first is next.
    fn value(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.literal()?,
        }
        Ok(false)
    }

    fn open(&mut self, object: bool) -> Result<bool, JsonError> {
        if self.open.len() >= MAX_NESTING {
            let reason = format!("nested deeper than {MAX_NESTING} levels");
            return Err(JsonError::Syntax(reason));
        }
        self.at += 1;
        self.out.push(if object { '{' } else { '[' });
        self.open.push(Open {
            start: self.out.len(),
            entries: object.then(Vec::new),
        });
        self.space();
        let end = if object { b'}' } else { b']' };
        if self.peek() == Some(end) {
            self.close()?;
            return Ok(false);
        }
        if object {
            self.key()?;
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        let start = self.out.len();
        self.string()?;
        let key_end = self.out.len();
        if let Some(entries) = self.open.last_mut().and_then(|open| open.entries.as_mut()) {
            entries.push(Entry { start, key_end });
        }
        self.space();
        if !self.take(b':') {
            return Err(self.unexpected());
        }
        self.out.push(':');
        Ok(())
    }

    fn close(&mut self) -> Result<(), JsonError> {
        let Some(open) = self.open.pop() else {
            return Err(self.unexpected());
        };
        self.at += 1;
        let Some(entries) = open.entries else {
            self.out.push(']');
            return Ok(());
        };
        let sorted = entries
            .windows(2)
            .all(|pair| self.key_of(&pair[0]) < self.key_of(&pair[1]));
        if !sorted {
            self.put_in_order(open.start, &entries)?;
        }
        self.out.push('}');
        Ok(())
    }

    /// The key of an entry, as it is compared.
    fn key_of(&self, entry: &Entry) -> Cow<'_, str> {
        let quoted = &self.out[entry.start..entry.key_end];
        if quoted.contains('\\')
            && let Ok(key) = serde_json::from_str(quoted)
        {
            return Cow::Owned(key);
        }
        Cow::Borrowed(&quoted[1..quoted.len() - 1])
    }

    fn put_in_order(&mut self, start: usize, entries: &[Entry]) -> Result<(), JsonError> {
        self.moved += self.out.len() - start;
        if self.moved > MAX_MOVES * self.text.len() {
            return Err(JsonError::Syntax(
                "too many nested objects without order".into(),
            ));
        }
        // Each entry but the last ends with a comma.
        let ends = entries.iter().skip(1).map(|next| next.start - 1);
        let ends = ends.chain([self.out.len()]);
        let spans: BTreeMap<Cow<'_, str>, (usize, usize)> = entries
            .iter()
            .zip(ends)
            .map(|(entry, end)| (self.key_of(entry), (entry.start, end)))
            .collect();
        let mut sorted = String::with_capacity(self.out.len() - start);
        for (at, (from, to)) in spans.into_values().enumerate() {
            if at > 0 {
                sorted.push(',');
            }
            sorted.push_str(&self.out[from..to]);
        }
        self.out.truncate(start);
        self.out.push_str(&sorted);
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        self.out.push('"');
        let mut from = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.out.push_str(&self.text[from..self.at]);
                    self.escape()?;
                    from = self.at;
                }
                None | Some(0..0x20) => return Err(self.unexpected()),
                Some(_) => self.at += 1,
            }
        }
        self.out.push_str(&self.text[from..self.at]);
        self.at += 1;
        self.out.push('"');
        Ok(())
    }

    /// Writes what an escape means.
    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b't') => '\t',
            Some(b'n') => '\n',
            Some(b'f') => '\u{c}',
            Some(b'r') => '\r',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        push_escaped(&mut self.out, c.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn unicode(&mut self) -> Result<(), JsonError> {
        let first = self.hex(self.at + 1).ok_or_else(|| self.unexpected())?;
        self.at += 5;
        let mut code = first;
        let is_high = (0xd800..0xdc00).contains(&first);
        if is_high
            && self.text[self.at..].starts_with("\\u")
            && let Some(second @ 0xdc00..0xe000) = self.hex(self.at + 2)
        {
            code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            self.at += 6;
        }
        match char::from_u32(code) {
            Some(c) => push_escaped(&mut self.out, c.encode_utf8(&mut [0; 4])),
            // Writing to a string can't fail.
            None => drop(write!(self.out, "\\u{code:04x}")),
        }
        Ok(())
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.as_bytes().get(at..at + 4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, 16).ok())?
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut is_integer = true;
        if self.take(b'.') {
            is_integer = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            is_integer = false;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let sent = &self.text[start..self.at];
        match self.numbers {
            Numbers::AsSent => self.out.push_str(sent),
            Numbers::AsRead => self.out.push_str(&as_read(sent, is_integer)),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected());
        }
        Ok(())
    }

    fn literal(&mut self) -> Result<(), JsonError> {
        let rest = &self.text[self.at..];
        let literals = ["null", "true", "false"];
        let found = literals.iter().find(|literal| rest.starts_with(**literal));
        let literal = found.ok_or_else(|| self.unexpected())?;
        self.at += literal.len();
        self.out.push_str(literal);
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn unexpected(&self) -> JsonError {
        let what = match self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
        {
            Some(c) => format!("unexpected {c:?}"),
            None => "unexpected end".to_owned(),
        };
        JsonError::Syntax(format!("{what} at byte {}", self.at))
    }
}

/// How a number comes out of a reader that keeps integers of any size.
fn as_read(sent: &str, is_integer: bool) -> Cow<'_, str> {
    if is_integer {
        return Cow::Borrowed(if sent == "-0" { "0" } else { sent });
    }
    match sent.parse().ok().and_then(Number::from_f64) {
        Some(number) => {
            let mut read = String::new();
            push_tolerant(&mut read, &number);
            Cow::Owned(read)
        }
        // Beyond what a reader has numbers for.
        None => Cow::Borrowed(sent),
    }
}

#[cfg(test)]
mod tests;
