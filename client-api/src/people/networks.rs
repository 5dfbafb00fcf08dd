//! Other networks that are reached from here (client-server API, "Third-party Lookups"). Whoever reaches one says what it
//! speaks and looks things up there ([`Network`]): application services do. Without any there is no protocol, and nobody and
//! no place to be found.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use axum::extract::State;
use futures_util::future::{BoxFuture, join, join_all};
use rhizome_appservice::Registration;
use rhizome_edge::RawJson;
use ruma::{
    RoomAliasId, UserId,
    api::client::thirdparty::{
        get_location_for_protocol::v3 as location, get_location_for_room_alias::v3 as by_alias,
        get_protocol::v3 as protocol, get_protocols::v3 as protocols,
        get_user_for_protocol::v3 as user, get_user_for_user_id::v3 as by_id,
    },
    thirdparty::{Location, Protocol, User},
};
use serde::Serialize;

use super::services::{self, Fields};
use crate::{App, MatrixError, Ruma};

/// The most fields that somebody may look for at once.
const MOST_FIELDS: usize = 32;
/// The most that is told of what was found.
const MOST_FOUND: usize = 1_000;

/// Reaches another network. What it can't find out, in time or at all, it doesn't find.
pub trait Network: Debug + Send + Sync {
    /// The protocols that it speaks, by their names.
    fn protocols(&self) -> BTreeMap<String, Protocol>;

    /// Rooms that are places of the network.
    fn locations<'a>(
        &'a self,
        protocol: &'a str,
        fields: &'a Fields,
    ) -> BoxFuture<'a, Vec<Location>>;

    /// Users here who are users of the network.
    fn users<'a>(&'a self, protocol: &'a str, fields: &'a Fields) -> BoxFuture<'a, Vec<User>>;

    /// The places of the network that a room is.
    fn locations_of<'a>(&'a self, alias: &'a RoomAliasId) -> BoxFuture<'a, Vec<Location>>;

    /// Who of the network a user is.
    fn users_of<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Vec<User>>;
}

/// All that are reached.
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<Arc<dyn Network>>);

impl Networks {
    /// These.
    pub fn of(networks: Vec<Arc<dyn Network>>) -> Self {
        Self(networks)
    }

    /// All protocols.
    fn protocols(&self) -> impl Iterator<Item = (String, Protocol)> {
        self.0.iter().flat_map(|network| network.protocols())
    }

    /// Those that speak a protocol.
    fn speaking(&self, protocol: &str) -> Vec<&Arc<dyn Network>> {
        let speaks = |network: &&Arc<dyn Network>| network.protocols().contains_key(protocol);
        self.0.iter().filter(speaks).collect()
    }
}

/// All protocols, or this one. What speaks the same one is several instances of it.
async fn spoken(app: &App, wanted: Option<&str>) -> BTreeMap<String, Protocol> {
    let of_services = services::protocols(app, wanted).await;
    let mut all: BTreeMap<String, Protocol> = BTreeMap::new();
    for (name, protocol) in app.config.networks.protocols().chain(of_services) {
        match all.get_mut(&name) {
            Some(known) => known.instances.extend(protocol.instances),
            None => drop(all.insert(name, protocol)),
        }
    }
    all
}

/// Networks, and application services.
type Speaking<'a> = (Vec<&'a Arc<dyn Network>>, Vec<Arc<Registration>>);

/// Who speaks a protocol.
///
/// # Errors
/// `M_NOT_FOUND` if nobody does.
fn speaking<'a>(app: &'a App, protocol: &str) -> Result<Speaking<'a>, MatrixError> {
    let networks = app.config.networks.speaking(protocol);
    let services = services::speaking(app, Some(protocol));
    if networks.is_empty() && services.is_empty() {
        return Err(unknown());
    }
    Ok((networks, services))
}

fn unknown() -> MatrixError {
    MatrixError::not_found("No network of this protocol is reached from here")
}

/// What all have found together.
async fn told<T: Serialize>(
    asked: impl Iterator<Item = BoxFuture<'_, Vec<T>>>,
    of_services: impl Future<Output = Vec<T>>,
) -> Result<RawJson, MatrixError> {
    let (of_networks, of_services) = join(join_all(asked), of_services).await;
    let of_networks = of_networks.into_iter().flatten();
    let mut found: Vec<T> = of_networks.chain(of_services).collect();
    if found.is_empty() {
        let message = "Nothing like that was found on any network";
        return Err(MatrixError::not_found(message));
    }
    found.truncate(MOST_FOUND);
    RawJson::of(&found)
}

fn check(fields: &Fields) -> Result<(), MatrixError> {
    if fields.len() > MOST_FIELDS {
        return Err(MatrixError::invalid_param("These are too many fields"));
    }
    Ok(())
}

/// `GET /_matrix/client/v3/thirdparty/protocols`
pub async fn protocols(
    State(app): State<App>,
    Ruma { .. }: Ruma<protocols::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&spoken(&app, None).await)
}

/// `GET /_matrix/client/v3/thirdparty/protocol/{protocol}`
pub async fn protocol(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<protocol::Request>,
) -> Result<RawJson, MatrixError> {
    let mut spoken = spoken(&app, Some(&req.protocol)).await;
    RawJson::of(&spoken.remove(&req.protocol).ok_or_else(unknown)?)
}

/// `GET /_matrix/client/v3/thirdparty/location/{protocol}`
pub async fn location(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<location::Request>,
) -> Result<RawJson, MatrixError> {
    check(&req.fields)?;
    let (networks, services) = speaking(&app, &req.protocol)?;
    let path = ["location", &req.protocol];
    let of_services = services::find(&app, services, &path, &req.fields);
    let asked = networks.into_iter();
    let asked = asked.map(|network| network.locations(&req.protocol, &req.fields));
    told(asked, of_services).await
}

/// `GET /_matrix/client/v3/thirdparty/user/{protocol}`
pub async fn user(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<user::Request>,
) -> Result<RawJson, MatrixError> {
    check(&req.fields)?;
    let (networks, services) = speaking(&app, &req.protocol)?;
    let path = ["user", &req.protocol];
    let of_services = services::find(&app, services, &path, &req.fields);
    let asked = networks.into_iter();
    let asked = asked.map(|network| network.users(&req.protocol, &req.fields));
    told(asked, of_services).await
}

/// `GET /_matrix/client/v3/thirdparty/location`
pub async fn location_of_alias(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<by_alias::Request>,
) -> Result<RawJson, MatrixError> {
    let (services, query) = (
        services::speaking(&app, None),
        services::one("alias", req.alias.as_str()),
    );
    let of_services = services::find(&app, services, &["location"], &query);
    let asked = app.config.networks.0.iter();
    let asked = asked.map(|network| network.locations_of(&req.alias));
    told(asked, of_services).await
}

/// `GET /_matrix/client/v3/thirdparty/user`
pub async fn user_of_id(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<by_id::Request>,
) -> Result<RawJson, MatrixError> {
    let (services, query) = (
        services::speaking(&app, None),
        services::one("userid", req.userid.as_str()),
    );
    let of_services = services::find(&app, services, &["user"], &query);
    let asked = app.config.networks.0.iter();
    let asked = asked.map(|network| network.users_of(&req.userid));
    told(asked, of_services).await
}
