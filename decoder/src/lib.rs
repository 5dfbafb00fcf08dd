//! Strangers' files are parsed here, and nowhere else.
//!
//! Pictures are the most dangerous bytes that a server takes: they say themselves how much memory and time
//! they want, and many eyes have looked for what makes a decoder stumble. So:
//!
//! - [`picture`] and [`strip`] are functions on bytes, without I/O of their own. Each looks at headers and
//!   at [`Limits`] before it allocates. What is wrong with a file is a [`Fault`].
//! - [`child::serve`] answers one request in a process of its own (`rhizome decode`), which has taken from
//!   itself, before it reads the file, everything but its two pipes, some memory and some time.
//! - [`Decoders`] is the server's side: some children at once, some waiting, each killed when its time is
//!   over; what they answer is checked like a stranger's.
//!
//! Files go through in pieces: a transfer holds [`PIECE`] bytes a direction, however large the file.
//! A child that thumbnails holds the file; one that strips doesn't.
//!
//! # What isn't decoded
//!
//! AVIF: the only decoder in Rust under a permissive licence (rav1d) is dav1d's C translated, unsafe on every
//! page. SVG: a document that runs scripts. Video: an operator's command makes stills.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod child;
mod decoders;
mod fault;
mod limits;
pub mod page;
pub mod picture;
pub mod strip;
mod wire;

pub use decoders::{Decoders, Error, Program, Settings};
pub use fault::{Excess, Fault};
pub use limits::Limits;

/// What goes through at once. A transfer holds one such buffer a direction.
pub const PIECE: usize = 64 << 10;
