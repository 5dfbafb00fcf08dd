//! The child: what `rhizome decode` runs. It reads one request and one file from standard input, writes one
//! answer to standard output, and ends.

mod answer;
mod confine;
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
mod filter;

use std::io;
use std::process::ExitCode;

pub use crate::wire::Request;
pub use confine::confine;

pub(crate) use answer::answer;

/// Answers one request, after taking from this process what it doesn't need. It has to be this process's only
/// thread, and nothing of it may matter afterwards.
pub fn serve() -> ExitCode {
    let outcome = || -> io::Result<()> {
        let output = output()?;
        let mut input = io::stdin().lock();
        // The request is the server's own word; the file after it is a stranger's.
        let request = Request::read(&mut input)?;
        confine(request.limits())?;
        answer(&request, input, output)
    };
    match outcome() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rhizome decode: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Standard output, without looking for ends of lines in pictures.
#[cfg(unix)]
fn output() -> io::Result<impl io::Write> {
    use std::os::fd::AsFd as _;
    Ok(std::fs::File::from(
        io::stdout().as_fd().try_clone_to_owned()?,
    ))
}

#[cfg(not(unix))]
fn output() -> io::Result<impl io::Write> {
    Ok(io::stdout())
}
