//! The reader: bytes in as they come, the file's head and bytes out.
//!
//! It holds what comes before the file, whose bounds are below; of the file itself at most a boundary's length between
//! two pieces. After the file's end nothing more is looked at: some servers forget the last two dashes, and an
//! epilogue says nothing.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr, memmem, memrchr};
use ruma::http_headers::ContentDisposition;
use serde_json::{Map, Value};
use thiserror::Error;

/// What ends a line.
const LINE_BREAK: &[u8] = b"\r\n";
/// The most bytes before the first boundary.
const PREAMBLE: usize = 4 * 1024;
/// The most bytes of a part's headers, with room for a long `Location`.
const HEADERS: usize = 16 * 1024;
/// How many headers.
const MOST_HEADERS: usize = 32;
/// The most bytes of the first part, the JSON.
const METADATA: usize = 16 * 1024;

/// What is said of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::media) struct PartHead {
    /// What it is, as it is written.
    pub(in crate::media) content_type: Option<String>,
    /// What it is called, as it is written.
    pub(in crate::media) name: Option<String>,
    /// How many bytes it has.
    pub(in crate::media) length: Option<u64>,
    /// That it is there instead.
    pub(in crate::media) location: Option<String>,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::media) enum Said {
    /// First: what is said of the file.
    Head(PartHead),
    /// Its bytes.
    Bytes(Bytes),
    /// That these were all.
    End,
}

/// Why it can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(in crate::media) enum Broken {
    #[error("no boundary where there should be one")]
    NoBoundary,
    #[error("the headers of a part are too long or no headers")]
    Headers,
    #[error("the first part is no JSON object, or too long")]
    Metadata,
    #[error("it ends before the file does")]
    CutOff,
}

/// Reads one body.
pub(in crate::media) struct Reader {
    /// `\r\n--` and the boundary.
    delimiter: Vec<u8>,
    state: State,
    /// What comes before the file's bytes. Where a part's content may begin, the line break before it is the first: it
    /// belongs to the delimiter if nothing is between the two.
    before: BytesMut,
    /// The file's bytes with the line break before them, and what comes after.
    bytes: Bytes,
    /// How many of these are no longer the file's.
    lead: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    /// After a delimiter.
    Headers(Part),
    Metadata,
    File,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Metadata,
    File,
}

impl Reader {
    /// A reader of parts with this boundary between them.
    pub(in crate::media) fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            state: State::Preamble,
            before: BytesMut::from(LINE_BREAK),
            bytes: Bytes::new(),
            lead: LINE_BREAK.len(),
        }
    }

    /// Takes what has come.
    pub(in crate::media) fn push(&mut self, piece: Bytes) {
        match self.state {
            State::Over => {}
            State::File if self.bytes.is_empty() => self.bytes = piece,
            State::File => self.bytes = [&*self.bytes, &*piece].concat().into(),
            _ => self.before.extend_from_slice(&piece),
        }
    }

    /// What it says next; `None`: more has to come.
    ///
    /// # Errors
    /// It is none of what it should be.
    pub(in crate::media) fn next(&mut self) -> Result<Option<Said>, Broken> {
        loop {
            match self.state {
                State::Preamble => {
                    if self.content(PREAMBLE, Broken::NoBoundary)?.is_none() {
                        return Ok(None);
                    }
                    self.state = State::Headers(Part::Metadata);
                }
                State::Headers(part) => {
                    let Some(head) = self.head()? else {
                        return Ok(None);
                    };
                    if part == Part::File {
                        self.state = State::File;
                        self.bytes = std::mem::take(&mut self.before).freeze();
                        return PartHead::read(&head).map(|head| Some(Said::Head(head)));
                    }
                    self.state = State::Metadata;
                }
                State::Metadata => {
                    let Some(json) = self.content(METADATA, Broken::Metadata)? else {
                        return Ok(None);
                    };
                    let object = serde_json::from_slice::<Map<String, Value>>(&json);
                    object.map_err(|_| Broken::Metadata)?;
                    self.state = State::Headers(Part::File);
                }
                State::File => return Ok(self.piece()),
                State::Over => return Ok(Some(Said::End)),
            }
        }
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// The file's end hasn't come.
    pub(in crate::media) fn finish(&self) -> Result<(), Broken> {
        match self.state {
            State::Over => Ok(()),
            _ => Err(Broken::CutOff),
        }
    }

    /// Takes what comes before a delimiter, and the delimiter.
    fn content(&mut self, most: usize, or: Broken) -> Result<Option<Bytes>, Broken> {
        match memmem::find(&self.before, &self.delimiter) {
            Some(at) if at > most => Err(or),
            Some(at) => {
                let mut content = self.before.split_to(at).freeze();
                self.before.advance(self.delimiter.len());
                content.advance(content.len().min(LINE_BREAK.len()));
                Ok(Some(content))
            }
            None if self.before.len() > most + self.delimiter.len() => Err(or),
            None => Ok(None),
        }
    }

    /// Takes the rest of a delimiter's line, and the headers after it.
    fn head(&mut self) -> Result<Option<Bytes>, Broken> {
        let mut lines = Lines::of(&self.before);
        let Some(padding) = lines.next() else {
            return self.head_comes();
        };
        if !padding.trim_ascii().is_empty() {
            return Err(Broken::NoBoundary);
        }
        let begins = lines.at;
        loop {
            let ends = lines.at;
            let Some(line) = lines.next() else {
                return self.head_comes();
            };
            if line.is_empty() {
                let after = lines.at;
                if after > HEADERS {
                    return Err(Broken::Headers);
                }
                let head = Bytes::copy_from_slice(&self.before[begins..ends]);
                self.begin_content(after);
                return Ok(Some(head));
            }
        }
    }

    /// The content begins there, after an empty line.
    fn begin_content(&mut self, at: usize) {
        let line_break = at - LINE_BREAK.len().min(at);
        if self.before[line_break..].starts_with(LINE_BREAK) {
            self.before.advance(line_break);
        } else {
            // Lines of others may end with `\n` alone.
            self.before = BytesMut::from(&[LINE_BREAK, &self.before[at..]].concat()[..]);
        }
    }

    fn head_comes(&self) -> Result<Option<Bytes>, Broken> {
        if self.before.len() > HEADERS {
            return Err(Broken::Headers);
        }
        Ok(None)
    }

    /// As much of the file as is surely of it.
    fn piece(&mut self) -> Option<Said> {
        let (until, is_over) = match memmem::find(&self.bytes, &self.delimiter) {
            Some(at) => (at, true),
            None => (self.bytes.len() - self.may_begin_delimiter(), false),
        };
        let mut piece = self.bytes.split_to(until);
        let lead = self.lead.min(piece.len());
        piece.advance(lead);
        self.lead -= lead;
        if is_over {
            self.state = State::Over;
            self.bytes = Bytes::new();
        }
        match (piece.is_empty(), is_over) {
            (false, _) => Some(Said::Bytes(piece)),
            (true, true) => Some(Said::End),
            (true, false) => None,
        }
    }

    /// How many of the last bytes may be the beginning of a delimiter. There is one `\r` in it.
    fn may_begin_delimiter(&self) -> usize {
        let longest = self.bytes.len().min(self.delimiter.len() - 1);
        let last = &self.bytes[self.bytes.len() - longest..];
        let begins = memrchr(b'\r', last).map(|at| &last[at..]);
        begins
            .filter(|bytes| self.delimiter.starts_with(bytes))
            .map_or(0, <[u8]>::len)
    }
}

/// Lines that are whole, without their ends.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at..)?;
        let end = memchr(b'\n', rest)?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl PartHead {
    fn read(head: &[u8]) -> Result<Self, Broken> {
        let mut read = Self::default();
        let mut count = 0;
        // A line that begins with a space goes on with the one before.
        let mut unfolded = head.to_vec();
        for at in 1..unfolded.len() {
            if unfolded[at - 1] == b'\n' && matches!(unfolded[at], b' ' | b'\t') {
                unfolded[at - 1] = b' ';
                if at > 1 && unfolded[at - 2] == b'\r' {
                    unfolded[at - 2] = b' ';
                }
            }
        }
        for line in Lines::of(&unfolded) {
            count += 1;
            let colon = memchr(b':', line).ok_or(Broken::Headers)?;
            if count > MOST_HEADERS {
                return Err(Broken::Headers);
            }
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let text = || std::str::from_utf8(value).ok().map(ToOwned::to_owned);
            if name.eq_ignore_ascii_case(b"content-type") {
                read.content_type = text();
            } else if name.eq_ignore_ascii_case(b"content-disposition") {
                read.name = ContentDisposition::try_from(value)
                    .ok()
                    .and_then(|disposition| disposition.filename);
            } else if name.eq_ignore_ascii_case(b"content-length") {
                read.length = text().and_then(|text| text.parse().ok());
            } else if name.eq_ignore_ascii_case(b"location") {
                read.location = Some(text().ok_or(Broken::Headers)?);
            }
        }
        Ok(read)
    }
}
