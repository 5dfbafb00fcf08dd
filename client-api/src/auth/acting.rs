//! Application services show their token and say for whom they act
//! (<https://spec.matrix.org/v1.19/application-service-api/#identity-assertion>).
//!
//! Whose the token is, memory says: a request with any other token pays a look at its hash, and nothing where there are no
//! services. Users for whom services act are kept with the tokens seen lately (`token.rs`), so that what ends or changes an
//! account or a device counts here as it does there.

use std::{net::IpAddr, sync::Arc};

use http::StatusCode;
use rhizome_appservice::Registration;
use rhizome_edge::{Acting, Asked, MatrixError, Service, Shown};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, RoomAliasId, UserId};

use crate::{
    App, Caller,
    auth::{
        standing,
        token::{self, KnownToken},
    },
    content,
    limits::{By, Kind},
    user_ids::{exclusive, is_ours},
};

/// The query's parameters: of the user, and of the device, as specified and as it was once.
const USER: &str = "user_id";
const DEVICES: [&str; 2] = ["device_id", "org.matrix.msc3202.device_id"];

/// The application service whose token this is.
pub fn service_of(app: &App, token: &str) -> Option<Arc<Registration>> {
    app.federation.services().by_token(token)
}

/// What is shown where services act for nobody in particular.
pub fn shown(app: &App, token: Option<&str>) -> Shown {
    let Some(token) = token else {
        return Shown::Nothing;
    };
    match service_of(app, token) {
        Some(service) => Shown::Service(service.id.clone()),
        None => Shown::Another,
    }
}

/// The service that shows its token where it acts for nobody in particular.
///
/// # Errors
/// 401 `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`.
pub fn shown_service(app: &App, shown: Shown) -> Result<Arc<Registration>, MatrixError> {
    let services = app.federation.services().current();
    let service = services.by_id(&shown.service()?).cloned();
    service.ok_or_else(|| MatrixError::unknown_token(false))
}

/// Whether a service may make, or log in as, a user.
///
/// # Errors
/// 400 `M_EXCLUSIVE`
pub fn require_theirs(
    app: &App,
    service: &Registration,
    user_id: &UserId,
) -> Result<(), MatrixError> {
    let services = app.federation.services().current();
    let owner = services.exclusive_owner_of_user(user_id);
    let is_others = owner.is_some_and(|owner| owner.id != service.id);
    if is_others || !service.is_interested_in_user(user_id.as_str()) || is_ours(app, user_id) {
        return Err(exclusive(
            "The user isn't in the namespaces of the application service",
        ));
    }
    Ok(())
}

/// Whether a service may have tokens for its users: not if the operator lets it do without (MSC4190).
///
/// # Errors
/// 400 `M_APPSERVICE_LOGIN_UNSUPPORTED`
pub fn require_login(service: &Registration) -> Result<(), MatrixError> {
    if !service.msc4190 {
        return Ok(());
    }
    Err(MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_APPSERVICE_LOGIN_UNSUPPORTED",
        "The registration says that the application service makes its devices itself (io.element.msc4190): register with \
         inhibit_login",
    ))
}

/// Whether an alias may be made or deleted by whoever it is: those in a service's namespace by that one alone, and by a
/// service only those. Says whether a service does it.
///
/// # Errors
/// 400 `M_EXCLUSIVE`
pub fn require_alias(app: &App, who: &Caller, alias: &RoomAliasId) -> Result<bool, MatrixError> {
    let services = app.federation.services().current();
    let owner = services.exclusive_owner_of_alias(alias);
    let Some(acting) = &who.service else {
        return match owner {
            None => Ok(false),
            Some(_) => Err(exclusive("The alias is an application service's")),
        };
    };
    let service = services.by_id(&acting.id);
    let is_in = service.is_some_and(|service| service.is_interested_in_alias(alias.as_str()));
    if !is_in || owner.is_some_and(|owner| owner.id != acting.id) {
        return Err(exclusive(
            "The alias isn't in the namespaces of the application service",
        ));
    }
    Ok(true)
}

/// For whom a service acts, by the query of its request.
///
/// # Errors
/// 403 `M_FORBIDDEN` if it mustn't act for that user, or they have no account; 400 `M_UNKNOWN_DEVICE` if the device isn't
/// theirs; 403 `M_USER_DEACTIVATED`, 401 `M_USER_LOCKED`.
pub async fn act(
    app: &App,
    service: &Registration,
    asked: Asked<Kind>,
    query: Option<&str>,
) -> Result<Service, MatrixError> {
    let (user_id, device_id) = asserted(service, query)?;
    // The server's own user speaks for the operator.
    if !service.is_interested_in_user(user_id.as_str()) || is_ours(app, &user_id) {
        return Err(not_theirs());
    }
    let known = find(app, &user_id, device_id.as_deref(), asked.peer).await?;
    if known.locked && !asked.locked {
        return Err(standing::locked());
    }
    let acting = Acting {
        id: service.id.clone(),
        is_limited: service.rate_limited && service.sender != user_id,
    };
    Ok(Service {
        id: service.id.clone(),
        user: Caller {
            service: Some(Arc::new(acting)),
            ..known.caller
        },
    })
}

/// Whom a query names, and which device; without a user, the service's own.
fn asserted(
    service: &Registration,
    query: Option<&str>,
) -> Result<(OwnedUserId, Option<OwnedDeviceId>), MatrixError> {
    let pairs = query.map(content::pairs).unwrap_or_default();
    let of = |wanted: &str| {
        let found = pairs.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let user_id = match of(USER) {
        Some(user) => UserId::parse(user).map_err(|_| not_theirs())?,
        None => service.sender.clone(),
    };
    let device_id = DEVICES.into_iter().find_map(of).map(OwnedDeviceId::from);
    Ok((user_id, device_id))
}

async fn find(
    app: &App,
    user_id: &UserId,
    device_id: Option<&DeviceId>,
    peer: Option<IpAddr>,
) -> Result<KnownToken, MatrixError> {
    // No token's hash begins like a user's id, and no id of a device that there is has such a character.
    let key = match device_id {
        None => user_id.to_string(),
        Some(device) => format!("{user_id}\0{device}"),
    };
    let now = app.store.clock().now_ms();
    token::follow_log(app);
    match app.tokens.get(&key, now) {
        Some(known) => Ok(known),
        None => Box::pin(load(app, key, (user_id, device_id), peer, now)).await,
    }
}

async fn load(
    app: &App,
    key: String,
    (user_id, device_id): (&UserId, Option<&DeviceId>),
    peer: Option<IpAddr>,
    now: i64,
) -> Result<KnownToken, MatrixError> {
    let moment = app.tokens.moment();
    let Some(actor) = app.store.actor(user_id, device_id).await? else {
        let message = "The application service hasn't registered this user";
        return Err(MatrixError::forbidden(message));
    };
    if actor.deactivated {
        return Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_USER_DEACTIVATED",
            "The account has been deactivated",
        ));
    }
    if actor.awaits_approval {
        return Err(standing::awaiting_approval());
    }
    if let Some(device) = device_id {
        let Some(seen_ms) = actor.seen_ms else {
            return Err(MatrixError::new(
                StatusCode::BAD_REQUEST,
                "M_UNKNOWN_DEVICE",
                "The user has no such device",
            ));
        };
        if !actor.is_locked {
            token::see(app, (actor.user, device, seen_ms), peer, now).await;
        }
    }
    let caller = Caller {
        user_id: user_id.to_owned(),
        user: actor.user,
        device_id: device_id.map(ToOwned::to_owned),
        is_guest: actor.is_guest,
        is_suspended: actor.is_suspended,
        service: None,
    };
    let known = KnownToken::lasting(caller, actor.is_locked, now);
    app.tokens.put(moment, key, known.clone());
    Ok(known)
}

/// Whether the user for whom a service acts is that service's alone.
pub fn owns(app: &App, who: &Caller) -> bool {
    let services = app.federation.services().current();
    let owner = services.exclusive_owner_of_user(&who.user_id);
    let acting = who.service.as_ref();
    owner.is_some_and(|owner| acting.is_some_and(|acting| acting.id == owner.id))
}

/// Whether it is a service's own user.
pub fn is_sender(app: &App, who: &Caller) -> bool {
    let services = app.federation.services().current();
    services.by_sender(&who.user_id).is_some()
}

/// Whose bucket it is when a user does what was asked for earlier: a service's, if nobody else acts for the user.
pub fn by<'a>(app: &App, user: &'a UserId) -> By<'a> {
    let owner = app.federation.services().current();
    let owner = owner.exclusive_owner_of_user(user);
    By {
        user,
        service: owner.map(|service| service.rate_limited && service.sender != user),
    }
}

/// One answer for whom it mustn't act for and whom there can't be.
fn not_theirs() -> MatrixError {
    MatrixError::forbidden("The application service can't act for this user")
}
