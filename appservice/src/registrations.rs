//! All application services together.

use std::collections::HashMap;
use std::sync::Arc;

use ruma::{OwnedServerName, RoomAliasId, ServerName, UserId};

use crate::namespaces::{Matcher, Namespace, Namespaces};
use crate::problem::{LoadError, Problem};
use crate::registration::{Registration, is_of};
use crate::secret::TokenHash;

/// All services that are registered, sorted by id.
pub struct Registrations {
    server_name: OwnedServerName,
    services: Vec<Arc<Registration>>,
    tokens: HashMap<TokenHash, usize>,
    users: Owners,
    aliases: Owners,
    rooms: Owners,
}

impl Registrations {
    /// No services.
    pub fn none(server_name: &ServerName) -> Self {
        Self {
            server_name: server_name.to_owned(),
            services: Vec::new(),
            tokens: HashMap::new(),
            users: Owners::default(),
            aliases: Owners::default(),
            rooms: Owners::default(),
        }
    }

    /// # Errors
    /// Two have the same id, token or sender, or all regular expressions together take too much memory.
    pub(crate) fn new(
        server_name: &ServerName,
        mut services: Vec<Registration>,
    ) -> Result<Self, LoadError> {
        services.sort_by(|a, b| a.id.cmp(&b.id));
        let problems = doubles(&services);
        if !problems.is_empty() {
            return Err(LoadError(problems));
        }
        let tokens = services.iter().enumerate();
        let tokens = tokens.map(|(place, service)| (service.as_token.clone(), place));
        Ok(Self {
            server_name: server_name.to_owned(),
            tokens: tokens.collect(),
            users: Owners::of(&services, |namespaces| &namespaces.users)?,
            aliases: Owners::of(&services, |namespaces| &namespaces.aliases)?,
            rooms: Owners::of(&services, |namespaces| &namespaces.rooms)?,
            services: services.into_iter().map(Arc::new).collect(),
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// All, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Registration>> {
        self.services.iter()
    }

    /// Whose `as_token` it is. Costs nothing if there are no services.
    pub fn by_token(&self, token: &str) -> Option<&Arc<Registration>> {
        if self.services.is_empty() {
            return None;
        }
        let place = self.tokens.get(&TokenHash::of(token))?;
        self.services.get(*place)
    }

    /// The one with this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Registration>> {
        let place = self
            .services
            .binary_search_by(|service| service.id.as_str().cmp(id));
        place.ok().map(|place| &self.services[place])
    }

    /// The one whose own user this is.
    pub fn by_sender(&self, user: &UserId) -> Option<&Arc<Registration>> {
        self.iter().find(|service| service.sender == user)
    }

    /// Who alone may make and use this user.
    pub fn exclusive_owner_of_user(&self, user: &UserId) -> Option<&Arc<Registration>> {
        if !is_of(user.as_str(), self.server_name.as_str()) {
            return None;
        }
        let owner = self.users.exclusive(user.as_str());
        owner.map_or_else(|| self.by_sender(user), |place| self.services.get(place))
    }

    /// Who alone may make and delete this alias.
    pub fn exclusive_owner_of_alias(&self, alias: &RoomAliasId) -> Option<&Arc<Registration>> {
        if !is_of(alias.as_str(), self.server_name.as_str()) {
            return None;
        }
        let owner = self.aliases.exclusive(alias.as_str());
        owner.and_then(|place| self.services.get(place))
    }

    /// The services for which [`Registration::is_interested_in_user`] holds, by one look.
    pub fn interested_in_user(&self, user: &str) -> Vec<Arc<Registration>> {
        let mut places = Vec::new();
        if is_of(user, self.server_name.as_str()) {
            places = self.users.interested(user);
            let sender = self.services.iter().position(|one| one.sender == user);
            places.extend(sender);
            places.sort_unstable();
            places.dedup();
        }
        self.at(&places)
    }

    /// The services for which [`Registration::is_interested_in_alias`] holds, by one look.
    pub fn interested_in_alias(&self, alias: &str) -> Vec<Arc<Registration>> {
        self.at(&self.aliases.interested(alias))
    }

    /// The services for which [`Registration::is_interested_in_room`] holds, by one look.
    pub fn interested_in_room(&self, room: &str) -> Vec<Arc<Registration>> {
        self.at(&self.rooms.interested(room))
    }

    fn at(&self, places: &[usize]) -> Vec<Arc<Registration>> {
        let services = places.iter().filter_map(|place| self.services.get(*place));
        services.cloned().collect()
    }
}

/// The namespaces of one kind of all services, and whose they are.
#[derive(Default)]
struct Owners {
    matcher: Matcher,
    /// By the place of a namespace, that of its service.
    owners: Vec<usize>,
}

impl Owners {
    fn of(services: &[Registration], kind: fn(&Namespaces) -> &Matcher) -> Result<Self, LoadError> {
        let mut namespaces: Vec<Namespace> = Vec::new();
        let mut owners = Vec::new();
        for (place, service) in services.iter().enumerate() {
            for namespace in kind(&service.namespaces).namespaces() {
                namespaces.push(namespace.clone());
                owners.push(place);
            }
        }
        let matcher = Matcher::new(namespaces).map_err(|error| {
            let what = format!("the namespaces of all application services together: {error}");
            let remedy = "use fewer or simpler regular expressions";
            LoadError(vec![Problem::new("appservices.files", what, remedy)])
        })?;
        Ok(Self { matcher, owners })
    }

    fn interested(&self, identifier: &str) -> Vec<usize> {
        let places = self.matcher.which(identifier);
        let mut owners: Vec<_> = places.map(|place| self.owners[place]).collect();
        // Namespaces stand in the order of their services.
        owners.dedup();
        owners
    }

    fn exclusive(&self, identifier: &str) -> Option<usize> {
        let mut places = self.matcher.which(identifier);
        let place = places.find(|place| self.matcher.namespaces()[*place].exclusive);
        place.map(|place| self.owners[place])
    }
}

/// What of services must be theirs alone and isn't.
fn doubles(services: &[Registration]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let mut tell = |other: &Registration, what: String, remedy: &str| {
            let what = format!("{what} as in {}", other.file);
            problems.push(Problem::new(&service.file, what, remedy));
        };
        for other in &services[..index] {
            if other.id == service.id {
                let what = format!("`id` is {:?}", service.id);
                tell(
                    other,
                    what,
                    "give each application service an id of its own",
                );
            }
            if other.as_token == service.as_token {
                let what = "`as_token` is the same".to_owned();
                let remedy =
                    "give each application service a token of its own: by it we know who asks";
                tell(other, what, remedy);
            }
            if other.sender == service.sender {
                let what = format!("`sender_localpart` makes it {}", service.sender);
                tell(
                    other,
                    what,
                    "give each application service a user of its own",
                );
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests;
