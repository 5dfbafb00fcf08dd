//! Two homeservers in this process, and people who use them through the public APIs only.
//!
//! [`run`] tells a story and fails when the two servers don't end up with the same events and the same
//! state; [`serve`] only starts them, for clients to try. Which homeserver that is, the caller says: this
//! crate knows servers by [`Homeserver`] alone. A [`Site`], a [`Person`] and a [`Socket`] are also what
//! flow tests are made of.

mod agree;
mod http;
mod olm;
mod page;
mod person;
mod picture;
mod site;
mod socket;
mod stage;
mod story;

pub use {
    agree::agree,
    http::{Refused, call, escape, http_client, text},
    person::{Person, timeline},
    site::{Authority, Homeserver, Place, Site},
    socket::Socket,
    story::{run, serve},
};
