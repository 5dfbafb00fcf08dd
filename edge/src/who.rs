//! Who makes a request.
//!
//! What an endpoint wants to know follows from its authentication scheme, and so does the type that its handler
//! gets: asking for a user on a public endpoint doesn't compile.

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
    /// The device that the access token belongs to. A user for whom an application service acts may have none.
    pub device_id: Option<OwnedDeviceId>,
    /// Whether they are a guest, who may do less.
    pub is_guest: bool,
    /// Whether the operator has suspended them: they may read, and hardly more.
    pub is_suspended: bool,
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

/// What a request has proved its maker to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular.
    Nobody,
    /// A user, by an access token.
    User(Caller),
    /// A user who administers this server.
    Administrator(Caller),
    /// An application service.
    Service(Service),
    /// Another server, by its signature.
    Server(OwnedServerName),
}

impl Identity {
    /// The user who acts, or for whom somebody does.
    pub fn user(&self) -> Option<&Caller> {
        match self {
            Self::User(user) | Self::Administrator(user) => Some(user),
            Self::Service(service) => Some(&service.user),
            Self::Nobody | Self::Server(_) => None,
        }
    }

    fn into_user(self) -> Option<Caller> {
        match self {
            Self::User(user) | Self::Administrator(user) => Some(user),
            Self::Service(service) => Some(service.user),
            Self::Nobody | Self::Server(_) => None,
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
    /// The same if there is one; users have no use for theirs.
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
    AppserviceTokenOptional: ServiceIfAny -> Option<Service> = |identity| Ok(match identity {
        Identity::Service(service) => Some(service),
        _ => None,
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
        }
    }

    fn of<S: Scheme>(everybody: &[Identity; 5]) -> [u16; 5] {
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
        ];
        assert_eq!(of::<NoAuthentication>(&everybody), [200; 5]);
        assert_eq!(of::<AccessToken>(&everybody), [401, 200, 200, 200, 401]);
        assert_eq!(of::<AccessTokenOptional>(&everybody), [200; 5]);
        let administrators = of::<AdministratorToken>(&everybody);
        assert_eq!(administrators, [401, 403, 200, 403, 403]);
        assert_eq!(of::<AppserviceToken>(&everybody), [401, 403, 403, 200, 403]);
        assert_eq!(
            of::<ServerSignatures>(&everybody),
            [401, 401, 401, 401, 200]
        );
    }

    #[test]
    fn who_has_no_device_is_told_what_is_missing() {
        assert_eq!(user(Some("D")).device().unwrap(), "D");
        let error = user(None).device().unwrap_err();
        assert_eq!(error.errcode, "M_MISSING_PARAM");
        assert_eq!(user(None).device_or_none(), "");
    }
}
