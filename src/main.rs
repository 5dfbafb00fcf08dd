//! The `rhizome` binary.
fn main() {}
