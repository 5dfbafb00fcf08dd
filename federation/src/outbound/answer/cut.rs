//! Cutting a JSON answer into the pieces that matter, byte by byte as it comes.
//!
//! Only the structure is looked at here, and that leniently: every piece is parsed strictly afterwards, and what
//! was cut wrongly then is no event. Nothing is kept but the pieces.

use bytes::{Bytes, BytesMut};

use super::{LONGEST_ID, MOST_NAMES, Of, Pieces, Shape};

/// Pieces lie together in blocks of this size.
const BLOCK: usize = 64 << 10;
/// Longer names of members are none that are looked for.
const MAX_NAME: usize = 32;
/// So many elements may be something else than what is asked for. Those of honest servers never are.
const MAX_UNFIT: usize = 100;
/// What a flag is when it is set.
const SET: &[u8] = b"true";

/// Where in the answer we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the object: it may be the second element of `[200, …]`.
    Start,
    Member,
    Name,
    Colon,
    Value,
    InValue,
    AfterMember,
    Element,
    InElement,
    AfterElement,
    End,
}

/// What a value is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    List(usize),
    Single,
    Names,
    Flag,
    Other,
}

/// Finds the end of a value.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// How many of the bytes belong to the value, and whether it ends there.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.in_string {
                if std::mem::take(&mut self.escaped) {
                    at += 1;
                    continue;
                }
                let special = |byte: &u8| matches!(byte, b'"' | b'\\');
                let Some(plain) = bytes[at..].iter().position(special) else {
                    break;
                };
                at += plain + 1;
                self.escaped = bytes[at - 1] == b'\\';
                self.in_string = self.escaped;
                if !self.in_string && self.depth == 0 {
                    return (at, true);
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // A number or a word ends before what follows it.
                b'}' | b']' | b',' if self.depth == 0 => return (at, true),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                byte if self.depth == 0 && byte.is_ascii_whitespace() => return (at, true),
                _ => {}
            }
            at += 1;
        }
        (bytes.len(), false)
    }
}

/// Cuts one answer.
#[derive(Debug)]
pub(super) struct Cutter {
    shape: &'static Shape,
    at: At,
    wrapped: bool,
    name: Vec<u8>,
    role: Role,
    scan: Scan,
    /// What of the value or element has come, as far as it is kept.
    block: BytesMut,
    /// How long that is, kept or not.
    length: usize,
    elements: usize,
    pieces: Pieces,
}

impl Cutter {
    pub(super) fn new(shape: &'static Shape) -> Self {
        Self {
            shape,
            at: At::Start,
            wrapped: false,
            name: Vec::new(),
            role: Role::Other,
            scan: Scan::default(),
            block: BytesMut::new(),
            length: 0,
            elements: 0,
            pieces: Pieces::new(shape),
        }
    }

    /// Takes the next bytes of the answer.
    ///
    /// # Errors
    /// It isn't JSON of this shape, or has more elements than it may.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(byte) = bytes.first() {
            if matches!(self.at, At::Name | At::InValue | At::InElement) {
                let (length, ends) = self.scan.take(bytes);
                let (value, rest) = bytes.split_at(length);
                self.keep(value);
                if ends {
                    self.end()?;
                }
                bytes = rest;
                continue;
            }
            if self.step(*byte)? {
                bytes = &bytes[1..];
            }
        }
        Ok(())
    }

    /// Looks at one byte between values; whether it is done with.
    fn step(&mut self, byte: u8) -> Result<bool, String> {
        if byte.is_ascii_whitespace() {
            return Ok(true);
        }
        self.at = match (self.at, byte) {
            (At::Start, b'{') | (At::AfterMember, b',') => At::Member,
            (At::Start, b'[') if !self.wrapped => {
                self.wrapped = true;
                At::Start
            }
            (At::Start, b'0'..=b'9' | b',') if self.wrapped => At::Start,
            (At::Member, b'"') => {
                self.name.clear();
                return Ok(self.begin(At::Name));
            }
            (At::Colon, b':') => {
                self.role = self.shape.role(&self.name);
                At::Value
            }
            (At::Value, b'[') if matches!(self.role, Role::List(_) | Role::Names) => At::Element,
            (At::Value, _) => return Ok(self.begin(At::InValue)),
            (At::Element | At::AfterElement, b']') => At::AfterMember,
            (At::Element, _) => return Ok(self.begin(At::InElement)),
            (At::AfterElement, b',') => At::Element,
            (At::Member | At::AfterMember, b'}') => At::End,
            (At::End, b']') if std::mem::take(&mut self.wrapped) => At::End,
            _ => return Err("it isn't JSON of the specified form".to_owned()),
        };
        Ok(true)
    }

    /// Begins a name or a value. Its first byte is scanned with the others.
    fn begin(&mut self, at: At) -> bool {
        self.at = at;
        self.scan = Scan::default();
        self.length = 0;
        self.block.clear();
        false
    }

    /// Keeps a part of the value, if it is one that matters and not too long.
    fn keep(&mut self, part: &[u8]) {
        self.length += part.len();
        if self.at == At::Name {
            // One with escapes in it is none that is looked for either.
            let room = MAX_NAME.saturating_sub(self.name.len()).min(part.len());
            self.name.extend_from_slice(&part[..room]);
            return;
        }
        let is_wanted = match self.role {
            Role::Single | Role::Flag => self.at == At::InValue,
            Role::List(_) | Role::Names => self.at == At::InElement,
            Role::Other => false,
        };
        if !is_wanted {
            return;
        }
        if self.length > self.longest() {
            self.block.clear();
            return;
        }
        if self.block.capacity() - self.block.len() < part.len() {
            let mut block = BytesMut::with_capacity(BLOCK.max(self.block.len() + part.len()));
            block.extend_from_slice(&self.block);
            self.block = block;
        }
        self.block.extend_from_slice(part);
    }

    fn longest(&self) -> usize {
        match self.role {
            Role::Names => LONGEST_ID,
            Role::Flag => SET.len(),
            _ => self.shape.of.longest(),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        if self.length == 0 {
            return Err("a value is missing".to_owned());
        }
        if self.at == At::Name {
            self.at = At::Colon;
            return Ok(());
        }
        let in_list = self.at == At::InElement;
        self.at = if in_list {
            At::AfterElement
        } else {
            At::AfterMember
        };
        let is_whole = self.block.len() == self.length;
        let fits = is_whole && self.shape.of.fits(&self.block);
        match self.role {
            Role::List(list) if in_list => {
                self.elements += 1;
                if self.elements > self.shape.elements {
                    return Err(format!("it has more than {} elements", self.elements - 1));
                }
                if fits {
                    let piece = self.take();
                    self.pieces.lists[list].push(piece);
                } else {
                    self.pieces.unfit += 1;
                    if self.pieces.unfit > MAX_UNFIT {
                        return Err("too much of it is something else".to_owned());
                    }
                }
            }
            Role::Single if fits => self.pieces.single = Some(self.take()),
            Role::Names
                if in_list
                    && is_whole
                    && Of::Ids.fits(&self.block)
                    && self.pieces.names.len() < MOST_NAMES =>
            {
                let name = self.take();
                self.pieces.names.push(name);
            }
            Role::Flag => self.pieces.flag = is_whole && self.block == SET,
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        self.block.split().freeze()
    }

    /// The pieces, if the answer has come to its end.
    pub(super) fn finish(self) -> Result<Pieces, String> {
        if self.at == At::End && !self.wrapped {
            Ok(self.pieces)
        } else {
            Err("it breaks off".to_owned())
        }
    }
}

impl Shape {
    fn role(&self, name: &[u8]) -> Role {
        let name = name
            .strip_prefix(b"\"")
            .and_then(|name| name.strip_suffix(b"\""));
        let is = |member: &str| name == Some(member.as_bytes());
        match self.lists.iter().position(|list| is(list)) {
            Some(list) => Role::List(list),
            None if self.single.is_some_and(is) => Role::Single,
            None if self.names.is_some_and(is) => Role::Names,
            None if self.flag.is_some_and(is) => Role::Flag,
            None => Role::Other,
        }
    }
}

#[cfg(test)]
mod tests;
