//! The older forms of endpoints whose current form is v2, and one with another method: the same requests elsewhere.

use http::Request;
use ruma::{
    api::{
        IncomingRequest,
        auth_scheme::NoAuthentication,
        error::DeserializationError,
        federation::{
            authentication::ServerSignatures,
            membership::{create_join_event, create_leave_event},
            thirdparty::bind_callback,
        },
    },
    metadata,
};

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`
pub(super) struct SendJoin(pub(super) create_join_event::v2::Request);

metadata! {
    @for SendJoin,
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/v1/send_join/{room_id}/{event_id}",
}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`
pub(super) struct SendLeave(pub(super) create_leave_event::v2::Request);

metadata! {
    @for SendLeave,
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/v1/send_leave/{room_id}/{event_id}",
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: the body is the event itself, as that of
/// `send_leave` is.
pub(super) struct Invite(pub(super) create_leave_event::v2::Request);

metadata! {
    @for Invite,
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/v1/invite/{room_id}/{event_id}",
}

/// `POST /_matrix/federation/v1/3pid/onbind`
pub(super) struct OnBind(pub(super) bind_callback::v1::Request);

metadata! {
    @for OnBind,
    method: POST,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/federation/v1/3pid/onbind",
}

macro_rules! decoded_as {
    ($outer:ident, $inner:ty) => {
        impl IncomingRequest for $outer {
            type EndpointError = <$inner as IncomingRequest>::EndpointError;
            type OutgoingResponse = <$inner as IncomingRequest>::OutgoingResponse;

            fn try_from_http_request_inner(
                request: Request<&[u8]>,
                path_args: &[&str],
            ) -> Result<Self, DeserializationError> {
                <$inner>::try_from_http_request_inner(request, path_args).map(Self)
            }
        }
    };
}

decoded_as!(SendJoin, create_join_event::v2::Request);
decoded_as!(SendLeave, create_leave_event::v2::Request);
decoded_as!(Invite, create_leave_event::v2::Request);
decoded_as!(OnBind, bind_callback::v1::Request);
