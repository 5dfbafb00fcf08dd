//! A request's way through the door.

use std::{
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, RawPathParams, Request},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    Api, Asked, BodyForm, Head, Held, Identity, MatrixError, Payload, Reservation, Upload, cors,
    endpoint::{Endpoint, Methods, method_name},
    finish::{Answering, ToTheEnd},
    request::Admitted,
};

/// A server's text is in memory so many times while it is worked on: as it came, cut into events, and taken apart.
const TAKEN_APART: usize = 3;

/// What is kept of a request, and for its maker, until it is answered.
type Kept = (Option<Reservation>, Option<Held>);

/// The address that a request came from, which whoever serves the router puts there; `None` within one process.
fn peer_of(extensions: &http::Extensions) -> Option<IpAddr> {
    let socket = extensions.get::<ConnectInfo<SocketAddr>>();
    socket.map(|info| info.0.ip())
}

/// Answers a request for one of the endpoints of a path.
pub(crate) async fn dispatch<S: Api>(
    api: S,
    methods: Arc<Methods<S>>,
    request: Request,
) -> Response {
    if S::CROSS_ORIGIN && request.method() == Method::OPTIONS {
        let mut answer = told::<S>(StatusCode::NO_CONTENT.into_response());
        let more = api.options(request.uri().path());
        answer.headers_mut().extend(more);
        return answer;
    }
    let Some(endpoint) = methods.get(method_name(request.method())) else {
        return told::<S>(not_allowed(&methods));
    };
    let answer = AssertUnwindSafe(serve(api, endpoint, request)).catch_unwind();
    told::<S>(answer.await.unwrap_or_else(|_| {
        tracing::error!("an endpoint panicked");
        MatrixError::internal().into_response()
    }))
}

/// Answers a request for a path that there isn't.
pub(crate) fn unknown<S: Api>(method: &Method) -> Response {
    told::<S>(match *method {
        Method::OPTIONS if S::CROSS_ORIGIN => StatusCode::NO_CONTENT.into_response(),
        _ => MatrixError::unrecognized().into_response(),
    })
}

fn not_allowed<S: Api>(methods: &Methods<S>) -> Response {
    let mut response = MatrixError::method_not_allowed().into_response();
    let there: Vec<&str> = methods.keys().copied().collect();
    if let Ok(there) = HeaderValue::try_from(there.join(", ")) {
        response.headers_mut().insert(header::ALLOW, there);
    }
    response
}

fn told<S: Api>(mut response: Response) -> Response {
    if S::CROSS_ORIGIN {
        cors::allow(response.headers_mut());
    }
    response
}

async fn serve<S: Api>(api: S, endpoint: &Endpoint<S>, request: Request) -> Response {
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let only_reads = is_get || endpoint.is_poll;
    // Boxed: a request that waits for something doesn't hold the room that this needs.
    match Box::pin(admit(&api, endpoint, request)).await {
        Ok((admitted, kept)) if only_reads => {
            let answer = (endpoint.run)(api, admitted).await;
            drop(kept);
            answer
        }
        Ok((admitted, kept)) => {
            let answer = keeping(kept, (endpoint.run)(api.clone(), admitted));
            ToTheEnd::new(answer, api.unfinished()).await
        }
        Err(error) => error.into_response(),
    }
}

/// The same answer, until which this is kept.
fn keeping(kept: Kept, answer: Answering) -> Answering {
    if let (None, None) = kept {
        return answer;
    }
    Box::pin(async move {
        let answer = answer.await;
        drop(kept);
        answer
    })
}

/// The head first: who may ask for how much is settled before the body is read.
async fn admit<S: Api>(
    api: &S,
    endpoint: &Endpoint<S>,
    request: Request,
) -> Result<(Admitted, Kept), MatrixError> {
    let (mut parts, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let path = params.iter().map(|(_, value)| value.to_owned()).collect();
    let peer = peer_of(&parts.extensions);
    let asked = Asked {
        proof: endpoint.proof,
        kind: endpoint.kind,
        guests: endpoint.guests.load(Ordering::Relaxed),
        suspended: endpoint.suspended.load(Ordering::Relaxed),
        locked: endpoint.locked.load(Ordering::Relaxed),
        peer,
    };
    let head = http::Request::from_parts(parts, ());
    let claim = api.admit(asked, &head).await?;
    let upload = Upload::new(body, api.max_body(endpoint.kind))?;
    let (bytes, stream, mut reserved) = match endpoint.form {
        BodyForm::Stream => (bytes::Bytes::new(), Some(upload), None),
        BodyForm::Json | BodyForm::Bytes => {
            let (bytes, reserved) = upload.whole(|| api.reservation(peer)).await?;
            (bytes, None, reserved)
        }
    };
    let request = head.map(|()| bytes);
    let identity = api.identify(asked, claim, &request).await?;
    let held = api.hold(asked, &identity)?;
    if let (Some(reserved), Identity::Server(server)) = (&mut reserved, &identity)
        && !reserved.pass_to(server, TAKEN_APART)
    {
        return Err(MatrixError::limit_exceeded(1_000));
    }
    let (parts, bytes) = request.into_parts();
    let admitted = Admitted {
        head: Head { parts, path },
        body: stream.map_or(Payload::Whole(bytes), Payload::Stream),
        identity,
        peer,
    };
    Ok((admitted, (reserved, held)))
}
