//! Who makes a request.
//!
//! What an endpoint wants to know follows from its authentication scheme, and so does the type that its handler
//! gets: asking for a user on a public endpoint doesn't compile.

use std::sync::Arc;

use rhizome_storage::UserNo;
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId,
    api::{
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, AuthScheme,
            NoAccessToken, NoAuthentication, SendAccessToken,
        },
        federation::authentication::ServerSignatures,
    },
};

use crate::MatrixError;

/// A user who makes a request, or for whom it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user: UserNo,
    /// The device that the access token belongs to. A user for whom an application service or an administrator acts may have
    /// none.
    pub device_id: Option<OwnedDeviceId>,
    /// Whether they are a guest, who may do less.
    pub is_guest: bool,
    /// Whether the operator has suspended them: they may read, and hardly more.
    pub is_suspended: bool,
    /// The application service that acts for them, if it isn't themselves.
    pub service: Option<Arc<Acting>>,
}

/// The application service behind a request that is made for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acting {
    /// The id of its registration.
    pub id: String,
    /// Whether limits count for what it does for this user.
    pub is_limited: bool,
}

impl Caller {
    /// The device, for what can't be done without one.
    ///
    /// # Errors
    /// 400 `M_MISSING_PARAM`: an application service may name one.
    pub fn device(&self) -> Result<&OwnedDeviceId, MatrixError> {
        self.device_id
            .as_ref()
            .ok_or_else(|| MatrixError::missing_param("This needs a device: name it as device_id"))
    }

    /// Refuses an administrator who acts as the user, by a token of no device: what others take for the user's own, and what
    /// would stay when the token ends, isn't made so.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN`
    pub fn require_own(&self) -> Result<(), MatrixError> {
        if self.device_id.is_none() && self.service.is_none() {
            return Err(MatrixError::forbidden(
                "Only the user's own devices do this, not who acts as the user",
            ));
        }
        Ok(())
    }

    /// Whether no limits count: the operator has said so of the application service that acts.
    pub fn is_unlimited(&self) -> bool {
        (self.service.as_ref()).is_some_and(|service| !service.is_limited)
    }

    /// What sets this one of the user's devices apart: its name, or the empty one for whoever has none.
    pub fn device_or_none(&self) -> OwnedDeviceId {
        self.device_id.clone().unwrap_or_else(|| "".into())
    }
}

/// An application service, by its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The id of its registration.
    pub id: String,
    /// For whom it acts: its own user, or one of its namespace.
    pub user: Caller,
}

/// What a request shows to an endpoint where application services may show their token, for no user in particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No token.
    Nothing,
    /// One that is no application service's.
    Another,
    /// That of the application service with this id.
    Service(String),
}

impl Shown {
    /// The application service, for what only they may do.
    ///
    /// # Errors
    /// 401 `M_MISSING_TOKEN` or `M_UNKNOWN_TOKEN`, as of any token.
    pub fn service(self) -> Result<String, MatrixError> {
        match self {
            Self::Service(id) => Ok(id),
            Self::Nothing => Err(MatrixError::missing_token()),
            Self::Another => Err(MatrixError::unknown_token(false)),
        }
    }
}

/// What a request has proved its maker to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular.
    Nobody,
    /// A user, by an access token.
    User(Caller),
    /// A user who administers this server.
    Administrator(Caller),
    /// An application service that acts for a user.
    Service(Service),
    /// Whoever shows this, for no user.
    Shown(Shown),
    /// Another server, by its signature.
    Server(OwnedServerName),
}

impl Identity {
    /// The user who acts, or for whom somebody does.
    pub fn user(&self) -> Option<&Caller> {
        match self {
            Self::User(user) | Self::Administrator(user) => Some(user),
            Self::Service(service) => Some(&service.user),
            Self::Nobody | Self::Shown(_) | Self::Server(_) => None,
        }
    }

    fn into_user(self) -> Option<Caller> {
        match self {
            Self::User(user) | Self::Administrator(user) => Some(user),
            Self::Service(service) => Some(service.user),
            Self::Nobody | Self::Shown(_) | Self::Server(_) => None,
        }
    }
}

/// What the maker of a request has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: a token is ignored.
    Nothing,
    /// An access token, of a user or of an application service that acts for one.
    User,
    /// The same if there is one; a wrong one is an error.
    UserIfAny,
    /// An access token of somebody who administers this server.
    Administrator,
    /// An application service's token.
    Service,
    /// The same if there is one, for no user; users have no use for theirs.
    ServiceIfAny,
    /// Another server's signature.
    Server,
}

/// What the door makes of an authentication scheme.
pub trait Scheme: AuthScheme {
    /// What has to be proved.
    const PROOF: Proof;
    /// What the handler gets.
    type Who: Send;

    /// The identity as the handler gets it.
    ///
    /// # Errors
    /// It isn't what the scheme promises: nothing that the API can verify.
    fn who(identity: Identity) -> Result<Self::Who, MatrixError>;
}

macro_rules! schemes {
    ($($scheme:ty: $proof:ident -> $who:ty = |$identity:ident| $made:expr;)*) => { $(
        impl Scheme for $scheme {
            const PROOF: Proof = Proof::$proof;
            type Who = $who;

            fn who($identity: Identity) -> Result<Self::Who, MatrixError> {
                $made
            }
        }
    )* };
}

schemes! {
    NoAuthentication: Nothing -> () = |_identity| Ok(());
    NoAccessToken: Nothing -> () = |_identity| Ok(());
    AccessToken: User -> Caller = |identity| {
        identity.into_user().ok_or_else(MatrixError::missing_token)
    };
    AccessTokenOptional: UserIfAny -> Option<Caller> = |identity| Ok(identity.into_user());
    AdministratorToken: Administrator -> Caller = |identity| match identity {
        Identity::Administrator(user) => Ok(user),
        Identity::Nobody => Err(MatrixError::missing_token()),
        _ => Err(MatrixError::forbidden("You are not an administrator of this server")),
    };
    AppserviceToken: Service -> Service = |identity| match identity {
        Identity::Service(service) => Ok(service),
        Identity::Nobody => Err(MatrixError::missing_token()),
        _ => Err(MatrixError::forbidden("Only application services may do this")),
    };
    AppserviceTokenOptional: ServiceIfAny -> Shown = |identity| Ok(match identity {
        Identity::Shown(shown) => shown,
        _ => Shown::Nothing,
    });
    ServerSignatures: Server -> OwnedServerName = |identity| match identity {
        Identity::Server(name) => Ok(name),
        _ => Err(MatrixError::unauthorized("The request isn't signed by a server")),
    };
}

/// The scheme of endpoints for those who administer this server, which the specification leaves to servers: an
/// access token like any other, of a user who does.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdministratorToken;

impl AuthScheme for AdministratorToken {
    type Input<'a> = SendAccessToken<'a>;
    type AddAuthenticationError = <AccessToken as AuthScheme>::AddAuthenticationError;
    type Output = String;
    type ExtractAuthenticationError = <AccessToken as AuthScheme>::ExtractAuthenticationError;

    fn add_authentication<T: AsRef<[u8]>>(
        request: &mut http::Request<T>,
        input: SendAccessToken<'_>,
    ) -> Result<(), Self::AddAuthenticationError> {
        AccessToken::add_authentication(request, input)
    }

    fn extract_authentication<T>(
        request: &http::Request<T>,
    ) -> Result<String, Self::ExtractAuthenticationError> {
        AccessToken::extract_authentication(request)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_server_name, owned_user_id};

    use super::*;

    fn user(device: Option<&str>) -> Caller {
        Caller {
            user_id: owned_user_id!("@u:here"),
            user: UserNo(1),
            device_id: device.map(Into::into),
            is_guest: false,
            is_suspended: false,
            service: None,
        }
    }

    fn of<S: Scheme>(everybody: &[Identity; 6]) -> [u16; 6] {
        everybody
            .clone()
            .map(|identity| S::who(identity).map_or_else(|error| error.status.as_u16(), |_| 200))
    }

    /// What each scheme makes of everybody.
    #[test]
    fn a_scheme_takes_whom_it_is_for() {
        let service = Service {
            id: "bridge".into(),
            user: user(None),
        };
        let everybody = [
            Identity::Nobody,
            Identity::User(user(Some("D"))),
            Identity::Administrator(user(Some("D"))),
            Identity::Service(service),
            Identity::Server(owned_server_name!("a.example")),
            Identity::Shown(Shown::Service("bridge".into())),
        ];
        assert_eq!(of::<NoAuthentication>(&everybody), [200; 6]);
        let users = of::<AccessToken>(&everybody);
        assert_eq!(users, [401, 200, 200, 200, 401, 401]);
        assert_eq!(of::<AccessTokenOptional>(&everybody), [200; 6]);
        let administrators = of::<AdministratorToken>(&everybody);
        assert_eq!(administrators, [401, 403, 200, 403, 403, 403]);
        let services = of::<AppserviceToken>(&everybody);
        assert_eq!(services, [401, 403, 403, 200, 403, 403]);
        let servers = of::<ServerSignatures>(&everybody);
        assert_eq!(servers, [401, 401, 401, 401, 200, 401]);
        assert_eq!(of::<AppserviceTokenOptional>(&everybody), [200; 6]);
    }

    #[test]
    fn what_only_services_may_do_needs_a_token_of_theirs() {
        let told = |shown: Shown| shown.service().map_err(|error| error.errcode);
        assert_eq!(told(Shown::Service("bridge".into())), Ok("bridge".into()));
        assert_eq!(told(Shown::Nothing), Err("M_MISSING_TOKEN".into()));
        assert_eq!(told(Shown::Another), Err("M_UNKNOWN_TOKEN".into()));
    }

    #[test]
    fn who_has_no_device_is_told_what_is_missing() {
        assert_eq!(user(Some("D")).device().unwrap(), "D");
        let error = user(None).device().unwrap_err();
        assert_eq!(error.errcode, "M_MISSING_PARAM");
        assert_eq!(user(None).device_or_none(), "");
    }
}
