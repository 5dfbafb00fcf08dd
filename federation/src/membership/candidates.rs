//! Whom to ask to be let into a room, and what of their refusals says most.

use std::collections::HashSet;

use rhizome_storage::RemoteInvite;
use ruma::{OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use serde::Deserialize;

use crate::{Federation, MatrixError, partial};

/// How many servers are tried.
const MAX_CANDIDATES: usize = 10;
/// How many of these an invite tells.
const MAX_OF_INVITE: usize = 4;
/// How many of these are servers that were in the room with us.
const MAX_KNOWN: usize = 3;
/// What servers say that don't know whether the user is allowed into a restricted room.
const UNABLE_TO_AUTHORISE: &str = "M_UNABLE_TO_AUTHORISE_JOIN";
/// What servers say that know the user for allowed in, but can't let anybody in themselves.
const UNABLE_TO_GRANT: &str = "M_UNABLE_TO_GRANT_JOIN";

/// Whom to ask: those the user named; if the user is invited, the server of who did that, and others that the
/// invite tells of, in case that one is out of reach. If the user named nobody but us: those who are, or were, in
/// the room with us, and the one in the room's id.
pub(crate) async fn candidates(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
    via: Vec<OwnedServerName>,
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let mut candidates = via;
    candidates.retain(|server| server != fed.server_name());
    let named = !candidates.is_empty();
    if let Some(invite) = invite(fed, user, room_id).await? {
        candidates.truncate(MAX_CANDIDATES - MAX_OF_INVITE);
        let mut told = of_invite(fed, &invite, room_id);
        told.truncate(MAX_OF_INVITE);
        candidates.extend(told);
    }
    if !named {
        let head = fed.store().room(room_id).await?;
        let partial = match &head {
            Some(head) => fed.store().partial_room(head.room).await?,
            None => None,
        };
        if let Some(partial) = partial {
            // Of the others it is only said that they are there.
            candidates.extend(partial.ask);
        } else if let Some(head) = head {
            let servers = fed.store().joined_servers(head.room).await?;
            let others = servers.iter().filter(|server| *server != fed.server_name());
            candidates.extend(others.take(MAX_KNOWN).cloned());
        }
        candidates.extend(room_id.server_name().map(ToOwned::to_owned));
    }
    let mut candidates = partial::doors(fed, room_id, candidates).await?;
    let mut seen = HashSet::new();
    candidates.retain(|server| server != fed.server_name() && seen.insert(server.clone()));
    candidates.truncate(MAX_CANDIDATES);
    Ok(candidates)
}

/// The user's invite to a room that we aren't in.
pub(crate) async fn invite(
    fed: &Federation,
    user: &UserId,
    room_id: &RoomId,
) -> Result<Option<RemoteInvite>, MatrixError> {
    let (Some(user), Some(room)) = (
        fed.store().known_user(user).await?,
        fed.store().known_room(room_id).await?,
    ) else {
        return Ok(None);
    };
    Ok(fed.store().remote_invite(user, room).await?)
}

/// The servers that an invite, or a knock, tells of: the one it came from, those that the room's state came from,
/// the one in the room's id. Each once.
pub(crate) fn of_invite(
    fed: &Federation,
    invite: &RemoteInvite,
    room_id: &RoomId,
) -> Vec<OwnedServerName> {
    #[derive(Deserialize)]
    struct Sent {
        sender: OwnedUserId,
    }
    let state: Vec<Sent> = serde_json::from_str(&invite.stripped_state).unwrap_or_default();
    let mut servers: Vec<OwnedServerName> = std::iter::once(&invite.sender)
        .chain(state.iter().map(|event| &event.sender))
        .map(|user| user.server_name().to_owned())
        .chain(room_id.server_name().map(ToOwned::to_owned))
        .collect();
    let mut seen = HashSet::new();
    servers.retain(|server| server != fed.server_name() && seen.insert(server.clone()));
    servers
}

/// Of what several servers had against a user's wish, what says most to the user.
#[derive(Default)]
pub(crate) struct Refusal(Option<MatrixError>);

impl Refusal {
    /// A refusal says more than a server that can't be reached, or can't tell.
    pub(crate) fn add(&mut self, server: &ServerName, room_id: &RoomId, error: MatrixError) {
        tracing::info!(%server, room = %room_id, %error, "can't get into the room through this server");
        let says_little = |known: &MatrixError| known.status.is_server_error() || is_unable(known);
        if self.0.as_ref().is_none_or(says_little) {
            self.0 = Some(error);
        }
    }

    pub(crate) fn into_error(self) -> MatrixError {
        match self.0 {
            // Between servers that is a matter of asking another one; to the user, the door is shut.
            Some(error) if is_unable(&error) => MatrixError::forbidden(error.message),
            Some(error) => error,
            None => MatrixError::not_found(
                "This server is not in the room and knows no server that could be asked",
            ),
        }
    }
}

/// Whether a server merely can't let the user into a restricted room itself.
pub(crate) fn is_unable(error: &MatrixError) -> bool {
    [UNABLE_TO_AUTHORISE, UNABLE_TO_GRANT].contains(&&*error.errcode)
}
