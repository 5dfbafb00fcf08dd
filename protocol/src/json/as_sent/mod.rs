//! The canonical form of JSON as it was sent: no nesting costs stack, and no number is changed.
//!
//! Servers sign requests in canonical form, whole, with whatever events are in them. So what is demanded of a
//! single event (its depth, its numbers, that no key comes twice) must not be demanded of the request around
//! it: one odd event would cost all the others. Nothing here recurses; time and memory are bounded by the length of
//! the text.

mod scalars;

use std::{borrow::Cow, collections::BTreeMap};

use super::JsonError;

/// How deep objects and arrays may nest: as deep as the bytes of a whole event.
pub const MAX_NESTING: usize = 65_536;
/// How often a byte may be moved, on average, to put the keys around it in order. What comes in canonical form
/// is never moved.
const MAX_MOVES: usize = 200;

/// What becomes of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// They stay, digit by digit: how servers write them that keep the texts of events.
    AsSent,
    /// Integers stay, whatever their size; others are written as
    /// [`push_tolerant`](super::canonical::push_tolerant) does: how servers write them that read what they sent
    /// once more to sign it.
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
}

#[cfg(test)]
mod tests;
