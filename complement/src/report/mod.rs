//! `rhizome-complement report`: what a suite found, from the output of `go test -json`.
//!
//! One file is one run of any of the suite's packages; several files of the same packages are
//! several runs. Counted are top-level tests: what passes only sometimes doesn't pass.

mod passing;
mod run;
mod show;

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use self::passing::Passing;
use self::run::Run;

/// The command's arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The output of `go test -json`, one file per run
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The list of tests that pass
    #[arg(long, default_value = "complement/passing.txt")]
    passing: PathBuf,
    /// Add to the list what passed in at least two runs and failed in none
    #[arg(long)]
    update: bool,
    /// The suite's commit, for the head of the list
    #[arg(long, requires = "update")]
    commit: Option<String>,
}

/// Prints the report; fails when a listed test does.
pub(crate) fn report(args: &Args) -> anyhow::Result<ExitCode> {
    let mut runs = Vec::new();
    for path in &args.files {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        runs.push(Run::read(BufReader::new(file)).with_context(|| path.display().to_string())?);
    }
    let mut list = Passing::read(&args.passing)?;
    let results = run::merge(&runs);
    let (text, lost) = show::report(&results, &list);
    // A closed pipe is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if args.update {
        list.update(&results, args.commit.as_deref());
        list.write(&args.passing)?;
    }
    Ok(if lost == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
