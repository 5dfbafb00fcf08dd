//! Cutting a JSON answer into the pieces that matter, byte by byte as it comes.
//!
//! Only the structure is looked at here, and that leniently: every piece is parsed strictly afterwards, and what
//! was cut wrongly then is no event. Nothing is kept but the pieces.

use bytes::{Bytes, BytesMut};

use super::{Pieces, Shape};

/// Pieces lie together in blocks of this size.
const BLOCK: usize = 64 << 10;
/// Longer names of members are none that are looked for.
const MAX_NAME: usize = 32;
/// So many elements may be something else than what is asked for. Those of honest servers never are.
const MAX_UNFIT: usize = 100;

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
            (At::Start, b'{') => At::Member,
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
            (At::Value, b'[') if matches!(self.role, Role::List(_)) => At::Element,
            (At::Value, _) => return Ok(self.begin(At::InValue)),
            (At::Element | At::AfterElement, b']') => At::AfterMember,
            (At::Element, _) => return Ok(self.begin(At::InElement)),
            (At::AfterElement, b',') => At::Element,
            (At::AfterMember, b',') => At::Member,
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
        if self.role == Role::Other || self.at == At::InValue && self.role != Role::Single {
            return;
        }
        if self.length > self.shape.of.longest() {
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
        let fits = self.block.len() == self.length && self.shape.of.fits(&self.block);
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
            None => Role::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{Of, Purpose};
    use super::*;

    static EVENTS: Shape = Shape {
        lists: &["state", "auth_chain"],
        single: Some("event"),
        of: Of::Events,
        body: 1 << 20,
        elements: 1_000,
        purpose: Purpose::Joining,
    };
    static IDS: Shape = Shape {
        lists: &["pdu_ids"],
        single: None,
        of: Of::Ids,
        body: 1 << 20,
        elements: 3,
        purpose: Purpose::Gathering,
    };

    fn cut(shape: &'static Shape, text: &str, piece: usize) -> Result<Pieces, String> {
        let mut cutter = Cutter::new(shape);
        for part in text.as_bytes().chunks(piece) {
            cutter.feed(part)?;
        }
        cutter.finish()
    }

    fn event(number: usize) -> String {
        let filling = r#"\"]}{[\\é\u0041,"#.repeat(1 + number % 9);
        format!(
            r#"{{"n": {number}, "x":[{{}}, [], "{filling}"], "{filling}": {{"a":[1.5e3,null]}}{:100}}}"#,
            ""
        )
    }

    #[test]
    fn pieces_are_those_of_a_parser_however_the_bytes_come() {
        let state: Vec<_> = (0..40).map(event).collect();
        let chain: Vec<_> = (40..60).map(event).collect();
        let text = format!(
            "{{ \"origin\" : \"a\\\"}}\", \"st\\\"ate\":[1], \"state\":[{}] ,\"n\":-1.5,\"event\": {},\n\"other\":{{\"state\":[1]}},\
             \"auth_chain\" : [ {} ],\"members_omitted\":false}} ",
            state.join(" , "),
            event(77),
            chain.join(",")
        );
        serde_json::from_str::<Value>(&text).unwrap();
        for text in [text.clone(), format!("[ 200, {text}]\n")] {
            for piece in [1, 2, 3, 7, 64, 1_000, usize::MAX] {
                let pieces = cut(&EVENTS, &text, piece).unwrap();
                assert_eq!(pieces.lists[0], state);
                assert_eq!(pieces.lists[1], chain);
                assert_eq!(pieces.single.as_deref(), Some(event(77).as_bytes()));
                assert_eq!(pieces.unfit, 0);
            }
        }
    }

    #[test]
    fn what_is_no_event_is_left_out_and_counted() {
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(600 << 10));
        let good = event(3);
        let text = format!(
            r#"{{"state":[{{}},3,null,"x",[[]],{long},{good},true],"auth_chain":[],"event":1}}"#
        );
        for piece in [5, 100_000] {
            let pieces = cut(&EVENTS, &text, piece).unwrap();
            assert_eq!(pieces.lists[0], [&*good]);
            assert_eq!((pieces.unfit, &pieces.single), (7, &None));
        }
        let ids = r#"{"pdu_ids":["$a"," $b",3],"auth_chain_ids":[]}"#;
        let pieces = cut(&IDS, ids, 4).unwrap();
        assert_eq!(pieces.lists[0], [&b"\"$a\""[..], b"\" $b\""]);
    }

    #[test]
    fn more_than_there_may_be_is_refused_as_soon_as_it_comes() {
        let mut cutter = Cutter::new(&EVENTS);
        cutter.feed(b"{\"state\":[").unwrap();
        let fed = (0..1_000).take_while(|_| cutter.feed(b"{},").is_ok());
        assert_eq!(fed.count(), MAX_UNFIT);
        let error = cut(&IDS, r#"{"pdu_ids":["$a","$b","$c","$d"]}"#, 1).unwrap_err();
        assert_eq!(error, "it has more than 3 elements");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "",
            " ",
            "[]",
            "[200",
            "[200,{}",
            "3",
            "null",
            "\"x\"",
            "{",
            "{}}",
            "{}{}",
            "[200,{}]]",
            "[[200,{}]]",
            "{\"state\"}",
            "{\"state\":}",
            "{\"state\":[",
            "{\"state\":[,]}",
            "{\"state\":[{}}}",
            "{\"state\":[\"",
            "{\"state\" [",
            "{state:[]}",
            "<html>",
            "{\"x\":{}",
            "{\"state\":[{},{]}",
            "{\"a\":1 2}",
        ] {
            for piece in [1, 100] {
                assert!(cut(&EVENTS, text, piece).is_err(), "{text}");
            }
        }
        for text in [
            "{}",
            " {\"state\":[]}",
            "[200,{}]",
            "{\"state\":{},\"auth_chain\":1}",
        ] {
            let pieces = cut(&EVENTS, text, 1).unwrap();
            assert!(pieces.lists.iter().all(Vec::is_empty), "{text}");
        }
    }
}
