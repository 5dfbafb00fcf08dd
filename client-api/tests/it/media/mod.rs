//! Files: uploads, downloads, thumbnails.

mod attacks;
mod downloads;
mod flows;
mod limits;
mod memory;
mod pending;
mod pictures;
mod previews;
mod ranges;
mod redirects;
mod remote;
mod resumable;
mod unauthenticated;
mod uploads;
mod world;
