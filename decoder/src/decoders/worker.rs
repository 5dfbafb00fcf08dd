//! Workers, each behind two pipes.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::io::SyncIoBridge;

use super::Program;
use crate::PIECE;
use crate::child;
use crate::wire::Request;

/// Both ends of a worker's pipes. Dropping them tells it that nobody listens.
pub(super) struct Pipes<I, O> {
    pub(super) input: I,
    pub(super) output: O,
}

/// Starts a process, which is killed when it is dropped. It gets nothing of this one but its pipes: everything else is
/// closed at its start, as Rust opens files so.
pub(super) fn process(program: &Program) -> io::Result<(Child, Pipes<ChildStdin, ChildStdout>)> {
    let mut command = match program {
        Program::Other(path, arguments) => {
            let mut command = Command::new(path);
            command.args(arguments);
            command
        }
        Program::Own | Program::InProcess => {
            let mut command = Command::new(own()?);
            command.arg("decode");
            command
        }
    };
    command
        .env_clear()
        .env(LAID_BY.0, LAID_BY.1)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (input, output) = pipes.ok_or_else(|| io::Error::other("a child has no pipes"))?;
    Ok((child, Pipes { input, output }))
}

/// mimalloc may not have a gigabyte at hand from its start: what it lays by doesn't count against the limits.
const LAID_BY: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// This program, also if another lies at its path by now.
fn own() -> io::Result<std::path::PathBuf> {
    let running = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && running.exists() {
        Ok(running.to_owned())
    } else {
        std::env::current_exe()
    }
}

type Near = tokio::io::DuplexStream;

/// Lends a thread, which holds its places until it ends, though nobody waits any more.
pub(super) fn thread(places: impl Send + 'static) -> Pipes<WriteHalf<Near>, ReadHalf<Near>> {
    let (near, far) = tokio::io::duplex(PIECE / 2);
    tokio::task::spawn_blocking(move || {
        let (input, output) = tokio::io::split(far);
        let answer = answer(input, output);
        drop(places);
        answer
    });
    let (output, input) = tokio::io::split(near);
    Pipes { input, output }
}

fn answer(input: impl AsyncRead + Unpin, output: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut input = SyncIoBridge::new(input);
    let request = Request::read(&mut input)?;
    child::answer(&request, input, SyncIoBridge::new(output))
}
