//! The forms in which clients heard of news before there was `/sync`, and in which those who look at rooms from outside
//! still do: faces of what `/sync` and `/messages` read.

pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod initial;
mod peek;
pub(crate) mod room;

use std::collections::HashSet;

use rhizome_storage::{Pos, Store, StoredEvent};
use ruma::OwnedUserId;

use crate::{
    place::token::Token,
    view::{
        json::Json,
        seen::{Seen, Style, Viewer},
    },
};

/// The events that an answer has if nobody says how many.
const LIMIT: usize = 20;

/// The most events of an answer of `/events`.
const MAX_EVENTS: usize = 100;

/// A token for this point. Whoever got it has been told no messages for their device, and acknowledges none by it.
fn token(store: &Store, pos: Pos) -> Token {
    Token {
        to_device: Some(Pos(0)),
        ..Token::new(store, pos, store.ephemeral().heard())
    }
}

/// Whether somebody said it whom the reader doesn't want to hear.
fn is_ignored(event: &StoredEvent, ignored: &HashSet<OwnedUserId>) -> bool {
    event.pdu.state_key().is_none() && ignored.contains(event.pdu.sender())
}

/// An answer of `/events`.
fn chunk(viewer: &Viewer, events: &[Seen], (start, end): (&Token, &Token), now_ms: i64) -> String {
    let mut json = Json::with_capacity(512 * events.len() + 256);
    json.open().key("start").string(&start.to_string());
    json.key("end").string(&end.to_string());
    json.key("chunk").open_list();
    for event in events {
        event.write(&mut json, viewer, now_ms, &Style::ROOM);
    }
    json.close_list().close();
    json.finish()
}
