//! Stills of films, by a program of the operator's: nothing of ours reads films.
//!
//! The program gets a copy of the film in a file that nobody else knows of, and writes a picture to its standard output.
//! It runs without a shell and with nothing of this process but `PATH`; it, and what it starts, is killed when it
//! takes too long or writes too much. What it writes is as strange as the film: a decoder has to judge it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rhizome_storage::random;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::fs::OpenOptions;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::MediaError;

/// A program that takes stills of films.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillConfig {
    /// The program and its arguments, in which [`StillConfig::FILE`] stands for the film's path. It writes a PNG or a JPEG
    /// to its standard output.
    pub command: Vec<String>,
    /// How long it may take.
    pub within: Duration,
    /// How many run at once.
    pub at_once: usize,
    /// How long it isn't asked again for a still of a film of which it took none.
    pub again_after: Duration,
}

impl StillConfig {
    /// What stands for the film's path.
    pub const FILE: &str = "{file}";

    /// This command, with the defaults.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            within: Duration::from_secs(30),
            at_once: 2,
            again_after: Duration::from_mins(30),
        }
    }
}

/// How long a film waits for its turn.
const PATIENCE: Duration = Duration::from_mins(2);
/// So many bytes are kept of what the program complains of.
const COMPLAINT: u64 = 4 << 10;
/// Where programs are if nobody says.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why no still was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StillError {
    #[error("too many films wait for a still")]
    Busy,
    #[error("the program took too long")]
    TimedOut,
    #[error("the program wrote too much")]
    TooMuch,
    #[error("the program failed: {0}")]
    Failed(ExitStatus),
    #[error("the program can't be run: {0}")]
    Start(#[source] io::Error),
    #[error("what the program wrote can't be kept: {0}")]
    Keep(#[source] io::Error),
}

impl From<StillError> for MediaError {
    fn from(error: StillError) -> Self {
        match error {
            StillError::Busy => Self::Busy,
            StillError::Keep(error) => Self::bytes(error),
            StillError::Start(_) => {
                tracing::error!(%error, "no still is taken of a film");
                Self::NoThumbnail
            }
            StillError::TimedOut | StillError::TooMuch | StillError::Failed(_) => Self::NoThumbnail,
        }
    }
}

/// The operator's program, for as many films at once as may be.
pub(crate) struct Stills {
    pub(crate) config: StillConfig,
    turns: Semaphore,
}

impl Stills {
    pub(crate) fn new(config: StillConfig) -> Self {
        let at_once = config.at_once.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            turns: Semaphore::new(at_once),
            config,
        }
    }

    /// A film's turn, as long as it is held.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, StillError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(StillError::Busy)
    }

    /// Writes a still of a film, at most `most` bytes. After an error what was written is to be thrown away.
    pub(crate) async fn take(
        &self,
        film: &Film,
        into: &mut (impl AsyncWrite + Send + Unpin),
        most: u64,
    ) -> Result<(), StillError> {
        let mut child = self.spawn(&film.0).map_err(StillError::Start)?;
        // It goes before the child does, whose number is its own until it is waited for.
        let group = Group::of(&child).map_err(StillError::Start)?;
        let (picture, complaints) = (child.stdout.take(), child.stderr.take());
        let Some((picture, complaints)) = picture.zip(complaints) else {
            return Err(StillError::Start(io::Error::other("it has no pipes")));
        };
        let mut complaint = Vec::new();
        let work = async {
            let copied = copy(picture, into, most);
            tokio::try_join!(copied, hear(complaints, &mut complaint), group.ends())
        };
        let done = tokio::time::timeout(self.config.within, work).await;
        drop(group);
        let done = match done {
            Err(_) => Err(StillError::TimedOut),
            Ok(Err(error)) => Err(error),
            // It has ended.
            Ok(Ok(_)) => match child.wait().await {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(StillError::Failed(status)),
                Err(error) => Err(StillError::Start(error)),
            },
        };
        if done.is_err() || !complaint.is_empty() {
            let said = String::from_utf8_lossy(&complaint);
            tracing::debug!(?done, %said, "a program was to take a still of a film");
        }
        done
    }

    /// Starts it, at the head of a group of its own.
    fn spawn(&self, film: &Path) -> io::Result<Child> {
        let mut command = self.config.command.iter();
        let program = command
            .next()
            .ok_or_else(|| io::Error::other("there is none"))?;
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        Command::new(program)
            .args(command.map(|argument| with_path(argument, film)))
            .env_clear()
            .env("PATH", path)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// The argument with the film's path where it belongs.
fn with_path(argument: &str, film: &Path) -> OsString {
    let mut parts = argument.split(StillConfig::FILE);
    let mut whole = OsString::from(parts.next().unwrap_or_default());
    for part in parts {
        whole.push(film);
        whole.push(OsStr::new(part));
    }
    whole
}

async fn copy(
    from: impl AsyncRead + Unpin,
    into: &mut (impl AsyncWrite + Send + Unpin),
    most: u64,
) -> Result<(), StillError> {
    // One more tells that there is more.
    let mut from = from.take(most.saturating_add(1));
    let copied = tokio::io::copy(&mut from, into).await;
    match copied.map_err(StillError::Keep)? {
        copied if copied > most => Err(StillError::TooMuch),
        _ => Ok(()),
    }
}

/// The first of what it complains of. It is read to its end: nothing may wait for that.
async fn hear(mut from: impl AsyncRead + Unpin, complaint: &mut Vec<u8>) -> Result<(), StillError> {
    let first = (&mut from).take(COMPLAINT).read_to_end(complaint).await;
    first.map_err(StillError::Keep)?;
    let rest = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    rest.map_err(StillError::Keep)?;
    Ok(())
}

/// A program and what it has started, unless that has left its group. All of it ends when this is dropped.
struct Group(Pid);

impl Group {
    fn of(child: &Child) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw);
        Ok(Self(id.ok_or_else(|| io::Error::other("it has ended"))?))
    }

    /// The program has ended; so does what it has left behind, and with that its output. Nobody waits for the program
    /// here: its number would be another's.
    async fn ends(&self) -> Result<(), StillError> {
        let id = self.0;
        let waiting = tokio::task::spawn_blocking(move || {
            let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            rustix::io::retry_on_intr(|| waitid(WaitId::Pid(id), how))
        });
        let ended = waiting.await.map_err(io::Error::other);
        ended
            .and_then(|ended| ended.map_err(io::Error::from))
            .map_err(StillError::Start)?;
        self.kill();
        Ok(())
    }

    fn kill(&self) {
        // None may be left.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A copy of a film for the program, gone when this is dropped.
pub(crate) struct Film(PathBuf);

impl Film {
    /// Copies a film into a file in this folder that only our own user reads.
    pub(crate) async fn copy<E: fmt::Display>(
        mut film: impl Stream<Item = Result<Bytes, E>> + Unpin,
        folder: &Path,
    ) -> Result<Self, MediaError> {
        let name = random::hex::<16>()?;
        // The program runs elsewhere.
        let path = std::path::absolute(folder.join(name)).map_err(MediaError::bytes)?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).await.map_err(MediaError::bytes)?;
        let copy = Self(path);
        while let Some(piece) = film.next().await {
            let piece = piece.map_err(MediaError::bytes)?;
            file.write_all(&piece).await.map_err(MediaError::bytes)?;
        }
        file.flush().await.map_err(MediaError::bytes)?;
        Ok(copy)
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        // If this fails, a sweep finds it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::testing::eventually;

    use super::*;

    #[tokio::test]
    async fn a_program_ends_when_nobody_waits_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("notes");
        let script = "sleep 1000 & echo $$ $! > \"$1\"; wait";
        let command = ["/bin/sh", "-c", script, "still", "{file}"];
        let stills = Stills::new(StillConfig::new(command.map(str::to_owned).to_vec()));
        // Nothing is copied there: the script writes into it.
        let film = Film(notes.clone());
        let taking = tokio::spawn(async move {
            let mut nowhere = tokio::io::sink();
            stills.take(&film, &mut nowhere, 1_000).await
        });
        let noted = || std::fs::read_to_string(&notes).unwrap_or_default();
        eventually("it runs", async || noted().ends_with('\n')).await;
        let processes = noted();
        taking.abort();
        assert!(taking.await.unwrap_err().is_cancelled());
        assert!(!notes.exists());
        for process in processes.split_whitespace() {
            let told = Path::new("/proc").join(process).join("stat");
            eventually("it has ended", async || {
                let told = std::fs::read_to_string(&told);
                told.map_or(true, |told| told.contains(") Z "))
            })
            .await;
        }
    }

    #[test]
    fn the_films_path_is_put_into_any_argument() {
        let film = Path::new("/a b/{file}");
        for (argument, expected) in [
            ("{file}", "/a b/{file}"),
            ("file:{file}", "file:/a b/{file}"),
            ("{file}:{file}.", "/a b/{file}:/a b/{file}."),
            ("-i", "-i"),
            ("", ""),
            ("{files}", "{files}"),
        ] {
            assert_eq!(with_path(argument, film), expected, "{argument}");
        }
    }
}
