//! A made-up API: whoever says who they are is believed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    response::Response,
};
use futures_util::stream;
use http::Request;
use rhizome_edge::{
    Api, Asked, Bodies, Caller, Identity, MatrixError, Proof, Reservation, Service, Table,
};
use rhizome_storage::UserNo;
use ruma::{owned_server_name, owned_user_id};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// The bound of bodies.
pub const MOST: usize = 1 << 20;
/// The memory for bodies of one address.
pub const OF_ONE: usize = MOST;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Usual,
    /// Nobody may ask for it any more.
    Spent,
}

/// The API that pages may call; [`Closed`] is the other.
#[derive(Clone)]
pub struct Open {
    pub bodies: Arc<Bodies>,
    pub unfinished: TaskTracker,
    /// How often something was done.
    pub done: Arc<AtomicUsize>,
    /// What handlers wait for that wait; a permit lets one go on.
    pub gate: Arc<Semaphore>,
}

impl Open {
    pub fn new() -> Self {
        Self {
            bodies: Bodies::new(16 * OF_ONE, OF_ONE),
            unfinished: TaskTracker::new(),
            done: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    pub fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

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

fn believed(head: &Request<()>) -> Result<Identity, MatrixError> {
    let Some(says) = head.headers().get("says") else {
        return Ok(Identity::Nobody);
    };
    Ok(match says.to_str().unwrap() {
        "user" => Identity::User(user(Some("D"))),
        "administrator" => Identity::Administrator(user(Some("D"))),
        "service" => Identity::Service(Service {
            id: "bridge".into(),
            user: user(None),
        }),
        "server" => Identity::Server(owned_server_name!("a.example")),
        _ => return Err(MatrixError::unknown_token(false)),
    })
}

impl Api for Open {
    type Kind = Kind;
    type Claim = Identity;
    const CROSS_ORIGIN: bool = true;

    fn usual_kind(_: bool) -> Kind {
        Kind::Usual
    }

    fn max_body(&self, _: Kind) -> usize {
        MOST
    }

    fn reservation(&self, peer: Option<IpAddr>) -> Option<Reservation> {
        Some(self.bodies.reservation(peer))
    }

    fn unfinished(&self) -> &TaskTracker {
        &self.unfinished
    }

    async fn admit(&self, asked: Asked<Kind>, head: &Request<()>) -> Result<Identity, MatrixError> {
        if asked.kind == Kind::Spent {
            return Err(MatrixError::limit_exceeded(1_000));
        }
        if asked.proof == Proof::Nothing {
            return Ok(Identity::Nobody);
        }
        believed(head)
    }

    async fn identify(
        &self,
        _: Asked<Kind>,
        claim: Identity,
        _: &Request<Bytes>,
    ) -> Result<Identity, MatrixError> {
        Ok(claim)
    }
}

/// Like [`Open`], but not for pages.
#[derive(Clone)]
pub struct Closed(pub Open);

impl Api for Closed {
    type Kind = Kind;
    type Claim = Identity;
    const CROSS_ORIGIN: bool = false;

    fn usual_kind(_: bool) -> Kind {
        Kind::Usual
    }

    fn max_body(&self, kind: Kind) -> usize {
        self.0.max_body(kind)
    }

    fn unfinished(&self) -> &TaskTracker {
        self.0.unfinished()
    }

    async fn admit(&self, asked: Asked<Kind>, head: &Request<()>) -> Result<Identity, MatrixError> {
        self.0.admit(asked, head).await
    }

    async fn identify(
        &self,
        asked: Asked<Kind>,
        claim: Identity,
        request: &Request<Bytes>,
    ) -> Result<Identity, MatrixError> {
        self.0.identify(asked, claim, request).await
    }
}

/// A body that comes in pieces of a KiB each.
pub fn pieces(count: usize) -> Body {
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 10]));
    Body::from_stream(stream::iter((0..count).map(move |_| piece())))
}

/// A body that comes in pieces and then doesn't go on.
pub fn stalled(count: usize) -> Body {
    use futures_util::StreamExt as _;
    let some = pieces(count).into_data_stream();
    Body::from_stream(some.chain(stream::pending()))
}

pub fn from(peer: [u8; 4], request: http::request::Builder) -> http::request::Builder {
    request.extension(ConnectInfo(SocketAddr::from((peer, 1))))
}

pub async fn ask(router: &Router, request: Request<Body>) -> Response {
    router.clone().oneshot(request).await.unwrap()
}

pub async fn bytes_of(answer: Response) -> Bytes {
    axum::body::to_bytes(answer.into_body(), usize::MAX)
        .await
        .unwrap()
}

pub async fn json_of(answer: Response) -> Value {
    serde_json::from_slice(&bytes_of(answer).await).unwrap()
}

/// Status and code of an error.
pub async fn error_of(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = json_of(answer).await;
    (status, body["errcode"].as_str().unwrap().to_owned())
}

pub fn open(table: Table<Open>) -> (Open, Router) {
    let api = Open::new();
    (api.clone(), table.into_router(api))
}
