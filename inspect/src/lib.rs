//! Looking into a room: what is stored of it, and why it is so.
//!
//! Reads only, on a [`Store`] alone, so that the server may run meanwhile or not. The reports are plain data
//! that `serde` writes as JSON; [`dot`] draws a [`Graph`] for Graphviz.
//!
//! | question | answer |
//! |---|---|
//! | what is there of a room? | [`room`] |
//! | what became of an event, and why? what did it change? | [`event`] |
//! | why does this state stand where forks met? | [`ForkReport`], in both of these |
//! | what is around an event? | [`around`], in [`event`] too |
//! | are the stored states right? | [`recompute`] |
//! | what does a moderation policy list say? | [`policies`] |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod dot;
mod event;
mod fork;
mod graph;
mod line;
mod loaded;
mod policies;
mod recompute;
mod summary;

use std::sync::Arc;

use rhizome_rooms::Error;
pub use rhizome_rooms::policies::Entity;
use rhizome_storage::{RoomHead, Store};
use ruma::{OwnedRoomAliasId, OwnedRoomId};

pub use {
    dot::dot,
    event::{EventReport, StateEffect, event},
    fork::{CandidateReport, ConflictReport, ForkReport, Side, StepReport},
    graph::{Graph, Node, around},
    line::{EventLine, Mention, Reason},
    policies::{PolicyLine, PolicyReport, policies},
    recompute::{Disagreement, Place, Recomputed, recompute},
    summary::{Gap, RoomReport, Snapshots, room},
};

/// What the functions here return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The room that an id, or an alias of this server, names.
///
/// # Errors
///
/// [`Error::Invalid`] if it is neither; [`Error::UnknownRoom`], [`Error::NotFound`] if nothing has that name.
pub async fn find(store: &Store, name: &str) -> Result<Arc<RoomHead>> {
    let id = if name.starts_with('#') {
        let alias = OwnedRoomAliasId::try_from(name)
            .map_err(|error| Error::Invalid(format!("{name:?} is no room alias: {error}")))?;
        let stored = store.alias(&alias).await?;
        let stored = stored.ok_or_else(|| {
            Error::NotFound(format!(
                "This server has no alias {alias}; give the room's id"
            ))
        })?;
        stored.room_id
    } else {
        OwnedRoomId::try_from(name).map_err(|error| {
            Error::Invalid(format!(
                "{name:?} is no room id (!…) and no alias (#…): {error}"
            ))
        })?
    };
    let head = store.room(&id).await?;
    head.ok_or(Error::UnknownRoom(id))
}
