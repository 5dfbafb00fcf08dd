//! Files as servers give them to each other: `multipart/mixed` of two parts, first JSON about the file, then the file
//! or where it is (<https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>).

mod boundary;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub(super) use boundary::boundary;
pub(super) use read::{Broken, Reader, Said};
pub(super) use write::Frame;
