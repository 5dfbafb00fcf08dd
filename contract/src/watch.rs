//! Watching a router: each exchange with it is checked.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};

use crate::{
    check::{Checked, Finding},
    coverage, deviations,
    exchange::Exchange,
};

/// Larger bodies go through unchecked: they take long to read in an unoptimised build, and what they consist of comes
/// in small ones too.
const LARGEST: usize = 1 << 20;

/// Looks at what goes in and out of routers. All clones are the same.
#[derive(Clone)]
pub struct Watch {
    seen: Arc<Seen>,
}

struct Seen {
    binary: Option<&'static str>,
    findings: Mutex<Vec<Finding>>,
}

impl Watch {
    /// For the tests of this binary, by which coverage calls them.
    pub fn new(binary: &'static str) -> Self {
        Self::with(Some(binary))
    }

    /// One that coverage doesn't hear of.
    pub fn unrecorded() -> Self {
        Self::with(None)
    }

    fn with(binary: Option<&'static str>) -> Self {
        let seen = Seen {
            binary,
            findings: Mutex::default(),
        };
        Self {
            seen: Arc::new(seen),
        }
    }

    /// The same router, watched.
    pub fn over(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), observe))
    }

    /// A router that stands for somebody whom a server of ours asks, and that may answer anything: requests are watched.
    pub fn over_asked(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), overhear))
    }

    /// Fails when something wasn't as the specification says.
    #[track_caller]
    pub fn assert_kept(&self) {
        let findings = std::mem::take(&mut *self.seen.findings());
        assert!(findings.is_empty(), "{}", told(&findings));
    }

    fn look(&self, exchange: &Exchange) {
        let checked = exchange.check();
        let binary = self.seen.binary;
        if let (Some(binary), Some(operation)) = (binary, checked.operation) {
            coverage::saw(binary, operation, exchange.status);
        }
        self.judge(exchange, checked);
    }

    /// Looks at a request that a server of ours makes of one that isn't watched itself, and may answer anything.
    pub fn asked(&self, exchange: &Exchange) {
        let checked = exchange.check_request();
        if let (Some(binary), Some(operation)) = (self.seen.binary, checked.operation) {
            coverage::asked(binary, operation);
        }
        self.judge(exchange, checked);
    }

    fn judge(&self, exchange: &Exchange, mut checked: Checked) {
        let binary = self.seen.binary;
        checked.findings.retain(|finding| {
            let accepted = deviations::accepting(exchange, finding);
            if let (Some(binary), Some(case)) = (binary, accepted) {
                coverage::deviated(binary, case);
            }
            accepted.is_none()
        });
        self.seen.findings().append(&mut checked.findings);
    }
}

impl Seen {
    fn findings(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seen {
    /// What nobody asked for fails the test all the same.
    fn drop(&mut self) {
        let findings = std::mem::take(&mut *self.findings());
        let kept = findings.is_empty() || std::thread::panicking();
        assert!(kept, "{}", told(&findings));
    }
}

fn told(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(|one| format!("\n  {one}")).collect();
    format!(
        "not as the specification says (contract/src/deviations.rs tells what may be so):{}",
        lines.concat()
    )
}

async fn observe(State(watch): State<Watch>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let copied = Copied::default();
    copied.state().1 = body.is_end_stream();
    let target = head.uri.path_and_query().map(ToString::to_string);
    let mut exchange = Exchange {
        method: head.method.to_string(),
        target: target.unwrap_or_default(),
        headers: head.headers.clone(),
        sent: None,
        status: 0,
        answer: None,
    };
    let body = Body::new(Copying {
        copied: copied.clone(),
        body,
    });
    let answer = next.run(Request::from_parts(head, body)).await;
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS || exchange.method == "HEAD" {
        return answer;
    }
    let (head, body) = answer.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    exchange.status = status.as_u16();
    exchange.sent = copied.whole();
    exchange.answer = (bytes.len() <= LARGEST).then(|| bytes.clone());
    watch.look(&exchange);
    Response::from_parts(head, Body::from(bytes))
}

async fn overhear(State(watch): State<Watch>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let target = head.uri.path_and_query().map(ToString::to_string);
    watch.asked(&Exchange {
        method: head.method.to_string(),
        target: target.unwrap_or_default(),
        headers: head.headers.clone(),
        sent: Some(bytes.clone()),
        status: 0,
        answer: None,
    });
    next.run(Request::from_parts(head, Body::from(bytes))).await
}

/// What was read of a body so far.
#[derive(Clone, Default)]
struct Copied {
    state: Arc<Mutex<(BytesMut, bool)>>,
}

impl Copied {
    fn state(&self) -> MutexGuard<'_, (BytesMut, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body, if all of it was read.
    fn whole(&self) -> Option<Bytes> {
        let mut state = self.state();
        let (bytes, ended) = &mut *state;
        let fits = *ended && bytes.len() <= LARGEST;
        fits.then(|| std::mem::take(bytes).freeze())
    }
}

/// A body that is copied while it is read, at the reader's pace.
struct Copying {
    copied: Copied,
    body: Body,
}

impl http_body::Body for Copying {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let ended = self.body.is_end_stream();
        let mut state = self.copied.state();
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref()
                    && state.0.len() <= LARGEST
                {
                    state.0.extend_from_slice(data.chunk());
                }
                state.1 = ended;
            }
            Some(Err(_)) => {}
            None => state.1 = true,
        }
        drop(state);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
