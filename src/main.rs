//! The `rhizome` binary.

use std::process::ExitCode;

/// Many small allocations on many threads is what a server does; the system's allocator is slower at it
/// and gives less memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rhizome::cli::main()
}
