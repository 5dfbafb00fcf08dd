//! The whole server, through its public face: starting and stopping, the command line, two servers
//! that talk, and the demo.

mod cli;
mod demo;
mod harness;
mod serve;
mod talk;
