//! An event that a stranger sent, before anything of it is checked.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
};

use super::limits::MAX_BYTES;
use crate::{
    Object,
    as_sent::{self, Numbers},
    canonical::JsonError,
    json::read::{Reading, read_object},
};

/// A parsed event with what an [`Object`] can't hold of it: integers of more than 64 bits, which events of room
/// versions 1 to 5 may have, and whose digits hashes and signatures cover.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Incoming {
    pub(crate) object: Object,
    pub(crate) numbers: LargeNumbers,
}

impl From<Object> for Incoming {
    fn from(object: Object) -> Self {
        Self {
            object,
            numbers: LargeNumbers::default(),
        }
    }
}

impl Deref for Incoming {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

impl Incoming {
    /// Parses an event: no key twice, no lone surrogates.
    ///
    /// What nests deeper than [`MAX_DEPTH`](crate::canonical::MAX_DEPTH) becomes `null`. That changes the event's
    /// content hash, so the event goes on without its content: other servers have no such limit, and what
    /// they build upon it must not be lost to us.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(json: &[u8]) -> Result<Self, JsonError> {
        let reading = Reading {
            prune: true,
            ..Reading::default()
        };
        let object = read_object(json, &reading)?;
        if !reading.large_number.get() {
            return Ok(object.into());
        }
        let sent = as_sent::canonical_text(json, Numbers::AsSent)?;
        // Escapes and spaces are gone: no event is so large, and its numbers are many.
        if sent.len() > 2 * MAX_BYTES {
            let reason = format!("more than {} bytes", 2 * MAX_BYTES);
            return Err(JsonError::Syntax(reason));
        }
        let (text, numbers) = LargeNumbers::take(&sent);
        Ok(Self {
            object: read_object(text.as_bytes(), &reading)?,
            numbers,
        })
    }

    /// The object alone.
    pub fn into_object(self) -> Object {
        self.object
    }
}

/// Integers of more than 64 bits, each by the one that stands for it in the object: 19 digits that the event
/// doesn't have elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LargeNumbers(HashMap<String, String>);

/// The first integer that may stand for another. Fractions are never written with so many digits in a row.
const FIRST: u64 = 9_100_000_000_000_000_001;
const DIGITS: usize = 19;

impl LargeNumbers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the large integers out of canonical text.
    fn take(text: &str) -> (String, Self) {
        let taken: HashSet<&[u8]> = (text.as_bytes().windows(DIGITS))
            .filter(|digits| digits[0] == b'9' && digits.iter().all(u8::is_ascii_digit))
            .collect();
        let mut free = (FIRST..)
            .map(|number| number.to_string())
            .filter(|number| !taken.contains(number.as_bytes()));
        let mut numbers = HashMap::new();
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = next_number(rest) {
            let (number, after) = after.split_at(number_length(after));
            replaced.push_str(before);
            rest = after;
            match free.next().filter(|_| is_large_integer(number)) {
                Some(stands_for) => {
                    replaced.push_str(&stands_for);
                    numbers.insert(stands_for, number.to_owned());
                }
                None => replaced.push_str(number),
            }
        }
        replaced.push_str(rest);
        (replaced, Self(numbers))
    }

    /// Puts them back into text that was made of the object.
    pub(crate) fn restore(&self, text: String) -> String {
        if self.is_empty() {
            return text;
        }
        let mut restored = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, after) = rest.split_at(at);
            let end = after.find(|c: char| !c.is_ascii_digit());
            let (digits, after) = after.split_at(end.unwrap_or(after.len()));
            restored.push_str(before);
            restored.push_str(self.0.get(digits).map_or(digits, String::as_str));
            rest = after;
        }
        restored.push_str(rest);
        restored
    }
}

/// Canonical text up to its next number, and from there on.
fn next_number(text: &str) -> Option<(&str, &str)> {
    let mut bytes = text.bytes().enumerate();
    let mut in_string = false;
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b'-' | b'0'..=b'9' if !in_string => return Some(text.split_at(at)),
            _ => {}
        }
    }
    None
}

/// How long the number is that the text begins with.
fn number_length(text: &str) -> usize {
    let of_number =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    let end = text.bytes().position(|byte| !of_number(byte));
    end.unwrap_or(text.len())
}

fn is_large_integer(number: &str) -> bool {
    let is_integer = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::to_canonical_tolerant;

    /// The canonical form, as rooms of versions 1 to 5 have it.
    fn tolerant(text: &str) -> String {
        let incoming = Incoming::parse(text.as_bytes()).unwrap();
        let text = to_canonical_tolerant(&incoming).unwrap();
        incoming.numbers.restore(text)
    }

    #[test]
    fn large_integers_keep_their_digits() {
        let text = r#"{"a":[123456789012345678901234567890,-99999999999999999999,18446744073709551615,1e+300],"b":{"c":123456789012345678901234567890,"d":"123456789012345678901234567890 \" 9100000000000000001"},"e":9100000000000000002,"f":"x9100000000000000003"}"#;
        assert_eq!(tolerant(text), text);
        assert_eq!(tolerant(&format!(" {text} ")), text);
        let plain = r#"{"a":[1,-9223372036854775808,1.5,1e+18]}"#;
        assert!(
            Incoming::parse(plain.as_bytes())
                .unwrap()
                .numbers
                .is_empty()
        );
        assert_eq!(tolerant(plain), plain);
    }

    #[test]
    fn what_is_too_deep_is_left_out() {
        let deep = |count: usize| {
            let (open, close) = ("[".repeat(count), "]".repeat(count));
            format!(
                "{{\"a\":{{\"b\":{open}1{close}}},\"c\":2,\"d\":{{\"e\":[{}3{}]}}}}",
                open.replace('[', "{\"x\":"),
                close.replace(']', "}")
            )
        };
        let incoming = Incoming::parse(deep(10).as_bytes()).unwrap();
        assert_eq!(to_canonical_tolerant(&incoming).unwrap(), deep(10));
        for count in [120, 30_000] {
            let incoming = Incoming::parse(deep(count).as_bytes()).unwrap();
            let text = to_canonical_tolerant(&incoming).unwrap();
            assert!(text.contains("null") && text.contains("\"c\":2"));
        }
        assert!(Incoming::parse(b"{\"a\":1,\"a\":2}").is_err());
        assert!(Incoming::parse(b"{\"a\":[[}").is_err());
    }
}
