//! Whom or what rules are asked about.

use std::str::FromStr;

use ruma::{OwnedRoomOrAliasId, OwnedServerName, OwnedUserId, ServerName};

use super::Subject;
use crate::Error;

/// Whom or what rules are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// A user.
    User(OwnedUserId),
    /// A server.
    Server(OwnedServerName),
    /// A room, by its id or an alias.
    Room(OwnedRoomOrAliasId),
}

/// A name to hold against rules.
pub(super) struct Name {
    pub subject: Subject,
    /// Of a server in small letters.
    pub exact: String,
    pub lower: String,
}

impl Entity {
    /// The names by which rules may mean it.
    pub(super) fn names(&self) -> Vec<Name> {
        match self {
            Self::User(user) => {
                let mut names = of_server(user.server_name());
                names.push(name(Subject::User, user.as_str()));
                names
            }
            Self::Server(server) => of_server(server),
            Self::Room(room) => vec![name(Subject::Room, room.as_str())],
        }
    }
}

/// As in server ACLs a rule needn't know the port; one that does is held to it.
fn of_server(server: &ServerName) -> Vec<Name> {
    let whole = server.as_str().to_lowercase();
    let host = server.host().to_lowercase();
    let mut names = vec![name(Subject::Server, &host)];
    if whole != host {
        names.push(name(Subject::Server, &whole));
    }
    names
}

fn name(subject: Subject, exact: &str) -> Name {
    Name {
        subject,
        exact: exact.to_owned(),
        lower: exact.to_lowercase(),
    }
}

impl FromStr for Entity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = match text.chars().next() {
            Some('@') => OwnedUserId::try_from(text).map(Self::User),
            Some('!' | '#') => OwnedRoomOrAliasId::try_from(text).map(Self::Room),
            _ => OwnedServerName::try_from(text).map(Self::Server),
        };
        read.map_err(|error| {
            Error::Invalid(format!(
                "{text:?} is no user (@…), room (!… or #…) or server: {error}"
            ))
        })
    }
}
