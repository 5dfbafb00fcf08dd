//! From here to there, counted.

use std::io::{self, BufRead as _, BufReader, BufWriter, Chain, Cursor, Read, Write};

use super::{Error, Result};
use crate::Fault;
use crate::PIECE;

/// Each of both buffers: small enough that a thread of the server's process may hold them too.
const BUFFER: usize = PIECE / 2;

/// Copies from one side to the other, or doesn't.
pub(super) struct Copier<R, W: Write> {
    start: Vec<u8>,
    input: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    output: BufWriter<W>,
    read: u64,
    written: u64,
}

pub(super) fn cut_short() -> Error {
    Fault::broken("it ends before its end").into()
}

impl<R: Read, W: Write> Copier<R, W> {
    /// Looks at the first bytes; they are read again as the first.
    pub(super) fn new(mut input: R, output: W, telling: usize) -> Result<Self> {
        let mut start = Vec::with_capacity(telling);
        input
            .by_ref()
            .take(telling as u64)
            .read_to_end(&mut start)?;
        Ok(Self {
            input: BufReader::with_capacity(BUFFER, Cursor::new(start.clone()).chain(input)),
            output: BufWriter::with_capacity(BUFFER, output),
            start,
            read: 0,
            written: 0,
        })
    }

    /// The file's first bytes.
    pub(super) fn start(&self) -> &[u8] {
        &self.start
    }

    /// How many bytes have been read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The next bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next bytes, so many that they may be held.
    pub(super) fn take_all(&mut self, length: u64) -> Result<Vec<u8>> {
        let bytes = self.take_most(length)?;
        if bytes.len() as u64 == length {
            Ok(bytes)
        } else {
            Err(cut_short())
        }
    }

    /// The next bytes; fewer if the file ends before.
    pub(super) fn take_most(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        self.read += bytes.len() as u64;
        Ok(bytes)
    }

    /// Whether the file ends here.
    pub(super) fn ended(&mut self) -> Result<bool> {
        Ok(self.piece()?.is_empty())
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.input.read(bytes) {
                Ok(0) => return Err(cut_short()),
                Ok(length) => {
                    self.read += length as u64;
                    bytes = &mut bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What is there to be read; nothing at the end.
    pub(super) fn piece(&mut self) -> Result<&[u8]> {
        loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
                // Asked again because a borrow that is returned can't end in the other arms.
                Ok(_) => return Ok(self.input.buffer()),
            }
        }
    }

    /// Writes what comes next as it is.
    pub(super) fn pass(&mut self, length: usize) -> Result<()> {
        let piece = self.input.buffer();
        let length = length.min(piece.len());
        self.output.write_all(&piece[..length])?;
        self.input.consume(length);
        self.read += length as u64;
        self.written += length as u64;
        Ok(())
    }

    /// Copies the next bytes, and lets somebody look at them.
    pub(super) fn copy(&mut self, mut length: u64, mut look: impl FnMut(&[u8])) -> Result<()> {
        while length > 0 {
            let piece = self.piece()?;
            let now = piece
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            if now == 0 {
                return Err(cut_short());
            }
            look(&piece[..now]);
            self.pass(now)?;
            length -= now as u64;
        }
        Ok(())
    }

    /// Leaves the next bytes out.
    pub(super) fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            let there = self.piece()?.len();
            let now = there.min(usize::try_from(length).unwrap_or(usize::MAX));
            if now == 0 {
                return Err(cut_short());
            }
            self.input.consume(now);
            self.read += now as u64;
            length -= now as u64;
        }
        Ok(())
    }

    /// Copies all that is left.
    pub(super) fn copy_rest(&mut self) -> Result<()> {
        loop {
            let there = self.piece()?.len();
            if there == 0 {
                return Ok(());
            }
            self.pass(there)?;
        }
    }

    /// Writes something else.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Reads to the end, so that whoever writes can, and says how much was read and written.
    pub(super) fn finish(mut self) -> Result<(u64, u64)> {
        loop {
            let there = self.piece()?.len();
            if there == 0 {
                break;
            }
            self.input.consume(there);
            self.read += there as u64;
        }
        self.output.flush()?;
        Ok((self.read, self.written))
    }
}
