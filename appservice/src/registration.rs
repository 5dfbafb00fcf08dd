//! One application service, as its file describes it.

use ruma::OwnedUserId;
use url::Url;

use crate::namespaces::Namespaces;
use crate::secret::{HsToken, TokenHash};

/// An application service. Neither it nor its tokens can be printed.
pub struct Registration {
    /// Its name among all services.
    pub id: String,
    /// Where it listens, without a slash at the end. One without is told nothing.
    pub url: Option<Url>,
    /// The user that it is when it doesn't say for whom it acts: a local one, of its own.
    pub sender: OwnedUserId,
    /// Whether limits count for its users. The sender has none.
    pub rate_limited: bool,
    /// The third-party networks that it knows.
    pub protocols: Vec<String>,
    /// Whether it hears of typing, receipts and presence.
    pub receive_ephemeral: bool,
    /// Whether it hears of device lists and one-time keys (MSC3202).
    pub msc3202: bool,
    /// Whether it makes its users' devices itself (MSC4190), so that none of them logs in.
    pub msc4190: bool,
    /// The file that it was read from.
    pub file: String,
    pub(crate) as_token: TokenHash,
    pub(crate) hs_token: HsToken,
    pub(crate) namespaces: Namespaces,
}

impl Registration {
    /// What we show it so that it knows us.
    pub fn hs_token(&self) -> &HsToken {
        &self.hs_token
    }

    /// What is registered of users, aliases and rooms.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Whether a user is one of its own or of its namespace: only local ones can be.
    pub fn is_interested_in_user(&self, user: &str) -> bool {
        user == self.sender || (self.is_local(user) && self.namespaces.users.matches(user))
    }

    /// Whether an alias is in its namespace.
    pub fn is_interested_in_alias(&self, alias: &str) -> bool {
        self.namespaces.aliases.matches(alias)
    }

    /// Whether a room's id is in its namespace.
    pub fn is_interested_in_room(&self, room: &str) -> bool {
        self.namespaces.rooms.matches(room)
    }

    /// Whether only this service may make and use a user.
    pub fn exclusively_owns_user(&self, user: &str) -> bool {
        user == self.sender
            || (self.is_local(user) && self.namespaces.users.matches_exclusively(user))
    }

    /// Whether only this service may make and delete an alias: only local ones can be.
    pub fn exclusively_owns_alias(&self, alias: &str) -> bool {
        self.is_local(alias) && self.namespaces.aliases.matches_exclusively(alias)
    }

    fn is_local(&self, identifier: &str) -> bool {
        is_of(identifier, self.sender.server_name().as_str())
    }
}

/// What one network of a service's is called among all: in the instances of its protocols, and where a directory is
/// asked for that network's rooms.
pub fn instance_id(service: &str, network: &str) -> String {
    format!("{service}|{network}")
}

/// Whether an identifier with a sigil and a localpart is of this server.
pub(crate) fn is_of(identifier: &str, server: &str) -> bool {
    identifier
        .split_once(':')
        .is_some_and(|(_, name)| name == server)
}
