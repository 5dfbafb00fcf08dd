//! Sending a file and taking an answer, both at once and in pieces.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Error;
use super::worker::Pipes;
use crate::PIECE;
use crate::wire::{ANSWER, Answer, DATA, JSON};

/// Where the pieces of what is made go.
pub(super) trait Sink: Send {
    /// Takes a piece. `sent`: how much of the file the worker may have read.
    fn take(&mut self, piece: &[u8], sent: u64) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Holds what is made, up to a length.
pub(super) struct Hold {
    pub(super) bytes: Vec<u8>,
    most: usize,
}

impl Hold {
    pub(super) fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }
}

impl Sink for Hold {
    async fn take(&mut self, piece: &[u8], _: u64) -> Result<(), Error> {
        if self.bytes.len() + piece.len() > self.most {
            return Err(Error::Crashed("it answered too much"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// Passes on what is made. There is hardly more of it than of the file.
pub(super) struct Pass<W> {
    into: W,
    pub(super) written: u64,
}

/// By how much a file may grow: a segment that says how it is turned.
const GROWTH: u64 = 64;

impl<W> Pass<W> {
    pub(super) fn new(into: W) -> Self {
        Self { into, written: 0 }
    }
}

impl<W: AsyncWrite + Send + Unpin> Sink for Pass<W> {
    async fn take(&mut self, piece: &[u8], sent: u64) -> Result<(), Error> {
        self.written += piece.len() as u64;
        if self.written > sent + GROWTH {
            return Err(Error::Crashed("it answered too much"));
        }
        self.into.write_all(piece).await.map_err(Error::Write)
    }
}

/// A request to one worker.
pub(super) struct Talk<I, O> {
    pipes: Pipes<I, O>,
    sent: AtomicU64,
}

impl<I: AsyncWrite + Send + Unpin, O: AsyncRead + Send + Unpin> Talk<I, O> {
    pub(super) fn new(pipes: Pipes<I, O>) -> Self {
        Self {
            pipes,
            sent: AtomicU64::new(0),
        }
    }

    /// Sends a request and the file until there is an answer; also how much was sent.
    pub(super) async fn run(
        self,
        request: &[u8],
        file: impl AsyncRead + Send + Unpin,
        sink: &mut impl Sink,
    ) -> Result<(Answer, u64), Error> {
        let Self {
            pipes: Pipes { input, mut output },
            sent,
        } = self;
        let mut sending = std::pin::pin!(send(input, request, file, &sent));
        let mut receiving = std::pin::pin!(receive(&mut output, sink, &sent));
        // A worker that has seen enough answers before it has read all.
        let answer = tokio::select! {
            answer = &mut receiving => answer?,
            all = &mut sending => {
                all?;
                receiving.await?
            }
        };
        Ok((answer, sent.load(Ordering::Relaxed)))
    }
}

async fn send(
    mut input: impl AsyncWrite + Unpin,
    request: &[u8],
    mut file: impl AsyncRead + Unpin,
    sent: &AtomicU64,
) -> Result<(), Error> {
    if input.write_all(request).await.is_err() {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE];
    loop {
        let length = file.read(&mut buffer).await.map_err(Error::Read)?;
        if length == 0 {
            break;
        }
        sent.fetch_add(length as u64, Ordering::Relaxed);
        // Who doesn't listen has answered, or ended: the other pipe tells.
        if input.write_all(&buffer[..length]).await.is_err() {
            return Ok(());
        }
    }
    let _ = input.shutdown().await;
    Ok(())
}

async fn receive(
    output: &mut (impl AsyncRead + Unpin),
    sink: &mut impl Sink,
    sent: &AtomicU64,
) -> Result<Answer, Error> {
    let mut buffer = Vec::new();
    loop {
        let mut head = [0; 5];
        exactly(output, &mut head).await?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > if kind == DATA { PIECE } else { JSON } {
            return Err(Error::Crashed("it answered too much"));
        }
        buffer.resize(length, 0);
        exactly(output, &mut buffer).await?;
        match kind {
            DATA => sink.take(&buffer, sent.load(Ordering::Relaxed)).await?,
            ANSWER => return serde_json::from_slice(&buffer).map_err(|_| super::check::nonsense()),
            _ => return Err(super::check::nonsense()),
        }
    }
}

async fn exactly(output: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<(), Error> {
    match output.read_exact(buffer).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::Crashed("it ended without an answer"))
        }
        Err(_) => Err(Error::Crashed("it can't be heard")),
    }
}
