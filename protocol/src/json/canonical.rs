//! Matrix canonical JSON.

use std::fmt::Write as _;

use serde_json::Value;

pub(crate) use super::numbers::Strictness;
use super::numbers::write_number;
pub use super::{JsonError, MAX_DEPTH, MAX_INT, numbers::push_tolerant, read::parse_object};
use crate::Object;

/// The canonical form of `object`: sorted keys, shortest escapes, no spaces, integers only.
///
/// `-0` is written as `0`. Any other number that isn't written as an integer is an error, as room
/// versions 6 and later demand of events.
pub fn to_canonical(object: &Object) -> Result<String, JsonError> {
    to_canonical_with(object, Strictness::Strict)
}

/// The canonical form with as much strictness about numbers as is asked for.
pub(crate) fn to_canonical_with(
    object: &Object,
    strictness: Strictness,
) -> Result<String, JsonError> {
    let mut out = String::with_capacity(512);
    write_object(&mut out, object, strictness, 1, |_| true)?;
    Ok(out)
}

/// The form that events of room versions 1 to 5 have on the wire (appendices "Canonical JSON", warning):
/// numbers that canonical JSON doesn't have stay as they are.
///
/// Integers of up to 64 bits stay exact. A number with a fraction or an exponent, and a larger integer, is
/// written in its shortest decimal form with at least one digit after the point, or with an exponent of
/// at least two digits from 1e+16 on and below 1e-04: that is how the servers write it on which such events
/// were made, so hashes and signatures over it hold.
pub fn to_canonical_tolerant(object: &Object) -> Result<String, JsonError> {
    to_canonical_with(object, Strictness::Tolerant)
}

/// The canonical form of JSON that is no event, such as requests that servers sign.
///
/// Numbers with exponents are written as the integers that they are; where they are none, in their
/// shortest form, so that a strange number inside one event doesn't spoil the transaction around it.
pub fn to_canonical_relaxed(object: &Object) -> Result<String, JsonError> {
    to_canonical_with(object, Strictness::Relaxed)
}

/// Writes the entries of `object` whose key passes `keep`. `depth` is the level of this object.
pub(crate) fn write_object(
    out: &mut String,
    object: &Object,
    strictness: Strictness,
    depth: usize,
    keep: impl Fn(&str) -> bool,
) -> Result<(), JsonError> {
    write_entries(
        out,
        object.iter().filter(|(key, _)| keep(key)),
        strictness,
        depth,
    )
}

fn write_entries<'a>(
    out: &mut String,
    entries: impl Iterator<Item = (&'a String, &'a Value)> + Clone,
    strictness: Strictness,
    depth: usize,
) -> Result<(), JsonError> {
    let mut object = ObjectWriter::begin(out, depth)?;
    // The map keeps its keys in order unless some crate turns on insertion order for all.
    if entries.clone().is_sorted_by(|a, b| a.0 < b.0) {
        for (key, value) in entries {
            object.key(key);
            write_value(object.out, value, strictness, depth)?;
        }
    } else {
        let mut sorted: Vec<_> = entries.collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in sorted {
            object.key(key);
            write_value(object.out, value, strictness, depth)?;
        }
    }
    object.end();
    Ok(())
}

/// Writes an object whose keys the caller gives in order.
pub(crate) struct ObjectWriter<'a> {
    pub(crate) out: &'a mut String,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(crate) fn begin(out: &'a mut String, depth: usize) -> Result<Self, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        out.push('{');
        Ok(Self { out, first: true })
    }

    /// Writes the key; the caller writes its value to `out`.
    pub(crate) fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        write_string(self.out, key);
        self.out.push(':');
    }

    pub(crate) fn end(self) {
        self.out.push('}');
    }
}

/// Writes any value; `depth` is the level of what contains it.
pub(crate) fn write_value(
    out: &mut String,
    value: &Value,
    strictness: Strictness,
    depth: usize,
) -> Result<(), JsonError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number, strictness)?,
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            if depth >= MAX_DEPTH {
                return Err(JsonError::TooDeep);
            }
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(out, item, strictness, depth + 1)?;
            }
            out.push(']');
        }
        Value::Object(object) => write_object(out, object, strictness, depth + 1, |_| true)?,
    }
    Ok(())
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Writes the inside of a string.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x09 => "\\t",
            0x0A => "\\n",
            0x0C => "\\f",
            0x0D => "\\r",
            0x00..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[written..at]);
        written = at + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[written..]);
}
