//! What an API tells the door.

use std::{fmt::Debug, future::Future, net::IpAddr};

use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio_util::task::TaskTracker;

use crate::{Identity, MatrixError, Proof, Reservation};

/// What is known of a request from the table and the connection, before anything of it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Asked<K> {
    /// What its maker has to prove.
    pub proof: Proof,
    /// What it counts as.
    pub kind: K,
    /// Whether guests may ask it.
    pub guests: bool,
    /// Whether who is suspended may ask it.
    pub suspended: bool,
    /// Whether who is locked out may ask it.
    pub locked: bool,
    /// Where it comes from; `None` within one process.
    pub peer: Option<IpAddr>,
}

/// What is held for a request's maker until it is answered, and free again when it is dropped.
pub type Held = Box<dyn Send>;

/// The state of an API's endpoints. Cheap to clone.
pub trait Api: Clone + Send + Sync + 'static {
    /// What a request counts as: for limits, budgets and the bound of its body.
    type Kind: Debug + Copy + Send + Sync + 'static;
    /// What the head of a request says of who makes it.
    type Claim: Send;
    /// Whether pages of other origins may call it
    /// (<https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>).
    const CROSS_ORIGIN: bool;

    /// What an endpoint counts as that doesn't say so; `rate_limited` is what the specification calls it.
    fn usual_kind(rate_limited: bool) -> Self::Kind;

    /// The most bytes of a request's body.
    fn max_body(&self, kind: Self::Kind) -> usize;

    /// What reserves memory for a larger body of this address; `None`: it needn't.
    fn reservation(&self, _peer: Option<IpAddr>) -> Option<Reservation> {
        None
    }

    /// What an OPTIONS of this path is told beside what every one is, or instead of it.
    fn options(&self, _path: &str) -> HeaderMap {
        HeaderMap::new()
    }

    /// Requests that are finished although their clients have hung up.
    fn unfinished(&self) -> &TaskTracker;

    /// Judges the head: tokens, limits, budgets. Only if this succeeds is the body read.
    fn admit(
        &self,
        asked: Asked<Self::Kind>,
        head: &Request<()>,
    ) -> impl Future<Output = Result<Self::Claim, MatrixError>> + Send;

    /// Who it is, now that the whole body is there. A body that is streamed counts as empty.
    fn identify(
        &self,
        asked: Asked<Self::Kind>,
        claim: Self::Claim,
        request: &Request<Bytes>,
    ) -> impl Future<Output = Result<Identity, MatrixError>> + Send;

    /// What is held for who makes a request until it is answered: a place, if they may only have so many under way.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`: they have too many.
    fn hold(
        &self,
        _asked: Asked<Self::Kind>,
        _who: &Identity,
    ) -> Result<Option<Held>, MatrixError> {
        Ok(None)
    }
}
