//! Strings, numbers and literals as they were sent.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Number;

use super::{Numbers, Writer};
use crate::json::{
    JsonError,
    canonical::{push_escaped, push_tolerant},
};

impl Writer<'_> {
    pub(super) fn string(&mut self) -> Result<(), JsonError> {
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

    pub(super) fn number(&mut self) -> Result<(), JsonError> {
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

    pub(super) fn literal(&mut self) -> Result<(), JsonError> {
        let rest = &self.text[self.at..];
        let literals = ["null", "true", "false"];
        let found = literals.iter().find(|literal| rest.starts_with(**literal));
        let literal = found.ok_or_else(|| self.unexpected())?;
        self.at += literal.len();
        self.out.push_str(literal);
        Ok(())
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    pub(super) fn unexpected(&self) -> JsonError {
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
