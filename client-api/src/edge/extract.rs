//! What a handler gets: a decoded request and who makes it.

use std::net::IpAddr;

use bytes::Bytes;
use rhizome_federation::{MatrixError, edge::ruma::bad_request};
use rhizome_storage::UserNo;
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::{
        IncomingRequest, IncomingRequestExt as _, Metadata,
        auth_scheme::{
            AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, NoAccessToken,
            NoAuthentication,
        },
    },
};

use crate::{auth::token::Needs, edge::endpoint::Raw};

/// A user and the device that the request's access token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user: UserNo,
    /// The device.
    pub device_id: OwnedDeviceId,
}

/// How the client API treats an authentication scheme.
pub trait Access: AuthScheme {
    /// Whether an access token must, may or need not come with the request.
    const NEEDS: Needs;
    /// What the handler gets: the caller, perhaps one, or nothing.
    type Who: Send;
    /// The caller as the handler gets it.
    fn who(caller: Option<Caller>) -> Result<Self::Who, MatrixError>;
}

impl Access for AccessToken {
    const NEEDS: Needs = Needs::Token;
    type Who = Caller;
    fn who(caller: Option<Caller>) -> Result<Caller, MatrixError> {
        caller.ok_or_else(MatrixError::missing_token)
    }
}

impl Access for AccessTokenOptional {
    const NEEDS: Needs = Needs::TokenIfAny;
    type Who = Option<Caller>;
    fn who(caller: Option<Caller>) -> Result<Option<Caller>, MatrixError> {
        Ok(caller)
    }
}

macro_rules! public {
    ($($scheme:ty)*) => { $(
        impl Access for $scheme {
            const NEEDS: Needs = Needs::Nothing;
            type Who = ();
            fn who(_: Option<Caller>) -> Result<(), MatrixError> {
                Ok(())
            }
        }
    )* };
}

// There are no application services yet: where only theirs may authenticate, nobody does.
public!(NoAuthentication NoAccessToken AppserviceTokenOptional);

/// A decoded request. The type of `who` follows from the request's authentication scheme: asking
/// for a user on a public endpoint doesn't compile.
pub struct Ruma<T>
where
    T: Metadata,
    T::Authentication: Access,
{
    /// Who makes the request.
    pub who: <T::Authentication as Access>::Who,
    /// The request.
    pub req: T,
    /// The body as it came.
    pub body: Bytes,
    /// Where the request came from.
    pub peer: IpAddr,
}

impl<T> Ruma<T>
where
    T: IncomingRequest,
    T::Authentication: Access,
{
    pub(crate) fn decode(raw: Raw) -> Result<Self, MatrixError> {
        let who = T::Authentication::who(raw.caller)?;
        let (parts, body) = raw.request.into_parts();
        let args: Vec<&str> = raw.path_args.iter().map(String::as_str).collect();
        let request = http::Request::from_parts(parts, body.as_ref());
        let req = T::try_from_http_request(request, &args).map_err(|error| bad_request(&error))?;
        Ok(Self {
            who,
            req,
            body,
            peer: raw.peer,
        })
    }
}
