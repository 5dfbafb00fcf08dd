//! What a child is asked, and how it answers.
//!
//! Asked: a length (four bytes, big-endian), so much JSON ([`Request`]), the file until the end of the input.
//! Answered: frames, each a letter, a length, and so many bytes. `d` is a piece of what is made, `a` says as JSON
//! what was made, and is the last.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::page::Page;
use crate::picture::{Ask, Format, Probe};
use crate::strip::Stripped;
use crate::{Fault, Limits, PIECE};

/// The longest JSON.
pub(crate) const JSON: usize = 16 << 10;

/// A frame with a piece of what is made.
pub(crate) const DATA: u8 = b'd';
/// The last frame.
pub(crate) const ANSWER: u8 = b'a';

/// What a child is asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub(crate) task: Task,
    /// Within these.
    pub(crate) limits: Limits,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    Probe,
    Thumbnails { asks: Vec<Ask>, blurhash: bool },
    Strip,
    Page { content_type: Option<String> },
}

/// What a child says of what it made.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Probe(Probe),
    Thumbnails {
        source: Probe,
        /// `None`: the source is its own thumbnail.
        made: Vec<Option<Head>>,
        blurhash: Option<String>,
    },
    Stripped(Stripped),
    Page(Box<Page>),
    Fault(Fault),
}

/// A picture whose bytes are in the frames: those of all, one after the other.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) animated: bool,
    pub(crate) length: u32,
}

impl Request {
    /// With its length before it.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let length = u32::try_from(json.len())
            .ok()
            .filter(|length| *length as usize <= JSON);
        let length = length.ok_or_else(|| io::Error::other("a request is too long"))?;
        Ok([&length.to_be_bytes(), &*json].concat())
    }

    /// Reads one; the file follows.
    pub fn read(input: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > JSON {
            return Err(io::Error::other("a request is too long"));
        }
        let mut json = vec![0; length];
        input.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// How much it may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Writes what is made as frames.
pub(crate) struct Frames<W>(pub(crate) W);

impl<W: Write> Frames<W> {
    fn frame(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        let [a, b, c, d] = length.to_be_bytes();
        self.0.write_all(&[kind, a, b, c, d])?;
        self.0.write_all(content)
    }

    pub(crate) fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.frame(ANSWER, &serde_json::to_vec(answer)?)?;
        self.0.flush()
    }
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        if !piece.is_empty() {
            self.frame(DATA, piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
