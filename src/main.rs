//! The `rhizome` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rhizome::cli::main()
}
