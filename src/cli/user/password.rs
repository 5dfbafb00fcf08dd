//! Where a command gets a password from.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PasswordSource {
    /// Read the password from standard input (its first line)
    #[arg(long, conflicts_with = "password_file")]
    password_stdin: bool,
    /// Read the password from a file (its first line)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordSource {
    /// The password that is given, or that somebody types.
    pub(super) fn read(&self) -> anyhow::Result<String> {
        let password = if self.password_stdin {
            first_line(std::io::stdin().lock())?
        } else if let Some(file) = &self.password_file {
            read_file(file)?
        } else if std::io::stdin().is_terminal() {
            ask_password()?
        } else {
            bail!("give the password with --password-stdin or --password-file FILE");
        };
        if password.is_empty() {
            bail!("the password is empty");
        }
        Ok(password)
    }
}

/// Asks who sits at the terminal.
pub(super) fn ask(question: &str) -> anyhow::Result<String> {
    eprint!("{question}");
    std::io::stderr().flush()?;
    first_line(std::io::stdin().lock())
}

/// Asks twice, with the terminal's echo off.
fn ask_password() -> anyhow::Result<String> {
    let quiet = Quiet::new();
    let first = ask("Password: ")?;
    eprintln!();
    let second = ask("Again:    ")?;
    eprintln!();
    drop(quiet);
    if first != second {
        bail!("the two passwords differ; try again");
    }
    Ok(first)
}

/// The terminal's echo is off while this lives.
struct Quiet;

impl Quiet {
    fn new() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(setting: &str) {
    let _ = Command::new("stty")
        .arg(setting)
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status();
}

fn first_line(mut from: impl std::io::BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path)
        .with_context(|| format!("the password file {} can't be read", path.display()))?;
    first_line(std::io::BufReader::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        assert_eq!(first_line(&b"se cret \r\nrest"[..]).unwrap(), "se cret ");
        assert_eq!(first_line(&b""[..]).unwrap(), "");
        assert!(read_file(Path::new("/nonexistent")).is_err());
    }
}
