//! `rhizome-complement`: the entrypoint of our container image for conformance suites, and the
//! reader of what such a suite reports.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod certificate;
mod container;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Rhizome for conformance suites.
#[derive(Debug, Parser)]
#[command(name = "rhizome-complement", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The container's entrypoint: make a certificate for SERVER_NAME, then become the server
    Serve,
    /// Read the output of `go test -json`: one file per run
    Report(report::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve => container::serve().map(|never| match never {}),
        Command::Report(args) => report::report(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rhizome-complement: {error:#}");
            ExitCode::FAILURE
        }
    }
}
