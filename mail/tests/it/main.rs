//! Mails over real connections, to a mail server that looks at what it gets.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod connections;
mod encryption;
mod hostile;
mod mime;
mod refusals;
mod sending;
mod sink;
mod world;
