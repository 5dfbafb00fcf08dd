//! The server's side: workers that parse strangers' files.

mod check;
mod page;
mod talk;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::picture::{Ask, Probe, Thumbnails};
use crate::strip::Stripped;
use crate::wire::{Answer, Request, Task};
use crate::{Fault, Limits};
use talk::{Hold, Pass, Talk};

/// Who does the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This program, as `decode`, in a process for each file.
    Own,
    /// Another program, with arguments; it has to call [`crate::child::serve`].
    Other(PathBuf, Vec<String>),
    /// Threads of this process: faster by the start of a process, with nothing between strangers' bytes and the server.
    /// Limits are held by what looks at headers alone, and a thread that takes too long goes on in its place.
    InProcess,
}

/// How files are parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who does it.
    pub program: Program,
    /// How many at once; and as many again that strip, so that neither waits for the other.
    pub at_once: usize,
    /// How many wait for those; more are told to come back. Those that strip all wait.
    pub waiting: usize,
    /// How long a file waits for its turn to be stripped.
    pub patience: Duration,
    /// How much each may want.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            program: Program::Own,
            at_once: cores.clamp(1, 4),
            waiting: 64,
            patience: Duration::from_mins(1),
            limits: Limits::default(),
        }
    }
}

/// Why nothing came of a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is the file's fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Too many wait already, or it wasn't its turn in time.
    #[error("too many files wait to be decoded")]
    Busy,
    /// It took too long.
    #[error("decoding took too long")]
    TimedOut,
    /// The worker ended without an answer: it was killed for what it took, it stumbled, or it answered what can't be.
    #[error("the decoder failed: {0}")]
    Crashed(&'static str),
    /// No worker could be started.
    #[error("no decoder could be started: {0}")]
    Start(#[source] io::Error),
    /// The file couldn't be read.
    #[error("the file can't be read: {0}")]
    Read(#[source] io::Error),
    /// What was made of it couldn't be written.
    #[error("what was made can't be written: {0}")]
    Write(#[source] io::Error),
}

/// Workers that parse strangers' files: some at once, some waiting. Copies share them.
#[derive(Clone, Debug)]
pub struct Decoders {
    settings: Arc<Settings>,
    /// Those who work and those who wait.
    places: Arc<Semaphore>,
    /// Those who work.
    turns: Arc<Semaphore>,
    /// Those who strip: an upload isn't refused because others want thumbnails.
    strips: Arc<Semaphore>,
}

/// What the memory of one that strips is limited to: it holds a WebP at most, and while it grows, twice.
const STRIPPING: u64 = 256 << 20;

impl Decoders {
    /// As set.
    pub fn new(settings: Settings) -> Self {
        let at_once = settings.at_once.max(1);
        let places = at_once
            .saturating_add(settings.waiting)
            .min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places)),
            turns: Arc::new(Semaphore::new(at_once.min(places))),
            strips: Arc::new(Semaphore::new(at_once.min(places))),
            settings: Arc::new(settings),
        }
    }

    /// In threads of this process: for tests, and for who sets it.
    pub fn in_process() -> Self {
        Self::new(Settings {
            program: Program::InProcess,
            ..Settings::default()
        })
    }

    /// How much a file may want.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// What a file is.
    pub async fn probe(&self, file: impl AsyncRead + Send + Unpin) -> Result<Probe, Error> {
        let mut nothing = Hold::new(0);
        let (answer, _) = self.ask(Task::Probe, file, &mut nothing).await?;
        match answer {
            Answer::Probe(probe) => check::probe(probe, self.limits()),
            _ => Err(check::nonsense()),
        }
    }

    /// Thumbnails of one picture from one decoding, and its blur if wanted. What is made is held, at most
    /// [`Limits::output`] bytes for each ask.
    pub async fn thumbnails(
        &self,
        file: impl AsyncRead + Send + Unpin,
        asks: &[Ask],
        blurhash: bool,
    ) -> Result<Thumbnails, Error> {
        let mut made = Hold::new(asks.len() * self.limits().output as usize);
        let task = Task::Thumbnails {
            asks: asks.to_vec(),
            blurhash,
        };
        let (answer, _) = self.ask(task, file, &mut made).await?;
        check::thumbnails(
            answer,
            Bytes::from(made.bytes),
            asks,
            blurhash,
            self.limits(),
        )
    }

    /// Copies a file without what needn't be told ([`crate::strip`]), both ways in pieces. It waits for its turn
    /// ([`Settings::patience`]). After an error, what was written
    /// is to be thrown away. A worker is held, and [`Limits::wall`] runs, while the file comes: let it be there already, and don't
    /// hand on what a client still sends.
    pub async fn strip(
        &self,
        file: impl AsyncRead + Send + Unpin,
        into: impl AsyncWrite + Send + Unpin,
    ) -> Result<Stripped, Error> {
        let mut into = Pass::new(into);
        let turn = self.strips.clone().acquire_owned();
        let turn = tokio::time::timeout(self.settings.patience, turn).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Error::Busy);
        };
        let mut limits = self.settings.limits.clone();
        limits.memory = limits.memory.min(STRIPPING);
        let request = Request {
            task: Task::Strip,
            limits,
        };
        let (answer, sent) = self.within(&request, file, &mut into, turn).await?;
        match answer {
            Answer::Stripped(stripped)
                if stripped.read == sent && stripped.written == into.written =>
            {
                Ok(stripped)
            }
            _ => Err(check::nonsense()),
        }
    }

    /// Asks a worker when it is one's turn; also how much of the file was sent.
    async fn ask(
        &self,
        task: Task,
        file: impl AsyncRead + Send + Unpin,
        sink: &mut impl talk::Sink,
    ) -> Result<(Answer, u64), Error> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(Error::Busy);
        };
        let turn = self
            .turns
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::Busy)?;
        let request = Request {
            task,
            limits: self.settings.limits.clone(),
        };
        self.within(&request, file, sink, (place, turn)).await
    }

    /// Asks a worker, which has its time.
    async fn within(
        &self,
        request: &Request,
        file: impl AsyncRead + Send + Unpin,
        sink: &mut impl talk::Sink,
        places: impl Send + 'static,
    ) -> Result<(Answer, u64), Error> {
        let answer = self.talk(request, file, sink, places);
        let wall = self.settings.limits.wall;
        let (answer, sent) = tokio::time::timeout(wall, answer)
            .await
            .map_err(|_| Error::TimedOut)??;
        match answer {
            Answer::Fault(fault) => Err(fault.checked().into()),
            answer => Ok((answer, sent)),
        }
    }

    async fn talk(
        &self,
        request: &Request,
        file: impl AsyncRead + Send + Unpin,
        sink: &mut impl talk::Sink,
        places: impl Send + 'static,
    ) -> Result<(Answer, u64), Error> {
        let request = request.encode().map_err(Error::Start)?;
        match &self.settings.program {
            Program::InProcess => {
                let worker = worker::thread(places);
                Talk::new(worker).run(&request, file, sink).await
            }
            program => {
                let (child, pipes) = worker::process(program).map_err(Error::Start)?;
                let answer = Talk::new(pipes).run(&request, file, sink).await;
                // Whatever it does now, it is over.
                drop(child);
                drop(places);
                answer
            }
        }
    }
}
