//! The table of an API's endpoints: what is served where, to whom, as what.
//!
//! What is generic (decoding, the handler, encoding) is one boxed closure per endpoint, which keeps the crates
//! above quick to compile.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    response::IntoResponse,
    routing::any,
};
use http::Method;
use ruma::api::path_builder::PathBuilder as _;

use crate::{
    Api, Caller, Decode, MatrixError, Proof, Reply, Ruma, Scheme, dispatch,
    endpoint::{Endpoint, Methods, method_name},
    finish::Answering,
    request::Admitted,
};

/// The endpoints by path and method.
pub struct Table<S: Api> {
    paths: BTreeMap<String, Methods<S>>,
    /// What was added last.
    last: Option<Arc<Endpoint<S>>>,
}

impl<S: Api> Default for Table<S> {
    fn default() -> Self {
        Self {
            paths: BTreeMap::new(),
            last: None,
        }
    }
}

impl<S: Api> Table<S> {
    /// Adds `handler` at the method and all paths of its request type, counted as what the API's requests
    /// usually count as.
    #[must_use]
    pub fn serve<T, H, F, R>(self, handler: H) -> Self
    where
        T: Decode + Send + 'static,
        T::Authentication: Scheme,
        H: Fn(State<S>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.serve_as(S::usual_kind(T::RATE_LIMITED), handler)
    }

    /// The same, counted as `kind` by limits and budgets.
    #[must_use]
    pub fn serve_as<T, H, F, R>(self, kind: S::Kind, handler: H) -> Self
    where
        T: Decode + Send + 'static,
        T::Authentication: Scheme,
        H: Fn(State<S>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.insert(T::Authentication::PROOF, (kind, false), handler)
    }

    /// An endpoint that only reads, and waits for what there is to read: whatever its method, it ends when its
    /// client hangs up.
    #[must_use]
    pub fn serve_poll<T, H, F, R>(self, handler: H) -> Self
    where
        T: Decode + Send + 'static,
        T::Authentication: Scheme,
        H: Fn(State<S>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        let kind = S::usual_kind(T::RATE_LIMITED);
        self.insert(T::Authentication::PROOF, (kind, true), handler)
    }

    /// An endpoint that may have a token but has no use for it: a stale one does no harm.
    #[must_use]
    pub fn serve_public<T, H, F, R>(self, handler: H) -> Self
    where
        T: Decode + Send + 'static,
        T::Authentication: Scheme<Who = Option<Caller>>,
        H: Fn(State<S>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        self.insert(Proof::Nothing, (S::usual_kind(false), false), handler)
    }

    /// What was added last is for guests too.
    #[must_use]
    pub fn and_guests(self) -> Self {
        if let Some(endpoint) = &self.last {
            endpoint.guests.store(true, Ordering::Relaxed);
        }
        self
    }

    /// What was added last is for nobody who is suspended.
    #[must_use]
    pub fn but_suspended(self) -> Self {
        if let Some(endpoint) = &self.last {
            endpoint.suspended.store(false, Ordering::Relaxed);
        }
        self
    }

    /// What was added last is also for who is locked out of everything else.
    #[must_use]
    pub fn and_locked(self) -> Self {
        if let Some(endpoint) = &self.last {
            endpoint.locked.store(true, Ordering::Relaxed);
        }
        self
    }

    fn insert<T, H, F, R>(
        mut self,
        proof: Proof,
        (kind, is_poll): (S::Kind, bool),
        handler: H,
    ) -> Self
    where
        T: Decode + Send + 'static,
        T::Authentication: Scheme,
        H: Fn(State<S>, Ruma<T>) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Result<R, MatrixError>> + Send + 'static,
        R: Reply + 'static,
    {
        // Decoded before the future is made: a long poll must not hold what it was decoded from.
        let run: Box<dyn Fn(S, Admitted) -> Answering + Send + Sync> =
            Box::new(move |api, admitted| match Ruma::<T>::decode(admitted) {
                Ok(ruma) => {
                    let answer = handler(State(api), ruma);
                    Box::pin(async move {
                        match answer.await {
                            Ok(response) => response.reply(),
                            Err(error) => error.into_response(),
                        }
                    })
                }
                Err(error) => Box::pin(std::future::ready(error.into_response())),
            });
        let endpoint = Arc::new(Endpoint {
            proof,
            kind,
            form: T::FORM,
            is_poll,
            guests: AtomicBool::new(false),
            suspended: AtomicBool::new(true),
            locked: AtomicBool::new(false),
            run,
        });
        for path in T::PATH_BUILDER.all_paths() {
            for path in spellings(path) {
                let methods = self.paths.entry(path).or_default();
                methods.insert(method_name(&T::METHOD), endpoint.clone());
            }
        }
        self.last = Some(endpoint);
        self
    }

    /// Each path with each of its methods, and what that counts as.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &'static str, S::Kind)> {
        self.paths.iter().flat_map(|(path, methods)| {
            let each = methods.iter();
            each.map(|(method, endpoint)| (path.as_str(), *method, endpoint.kind))
        })
    }

    /// The router of all endpoints, with CORS, 404 and 405 as the specification wants them
    /// (<https://spec.matrix.org/v1.19/client-server-api/#common-error-codes>).
    pub fn into_router(self, api: S) -> Router {
        let mut router = Router::new();
        for (path, methods) in self.paths {
            let methods = Arc::new(methods);
            router = router.route(
                &path,
                any(move |State(api): State<S>, request: Request| {
                    dispatch::dispatch(api, methods, request)
                }),
            );
        }
        router
            .fallback(async |method: Method| dispatch::unknown::<S>(&method))
            .with_state(api)
    }
}

/// The paths under which a path of ruma's is served: its variables renamed by position, so that
/// different methods of one path agree; with and without the slash before an empty state key
/// (<https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey>).
fn spellings(path: &str) -> Vec<String> {
    let mut count = 0;
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                count += 1;
                format!("{{p{count}}}")
            } else {
                segment.to_owned()
            }
        })
        .collect();
    let full = segments.join("/");
    match full.strip_suffix("/{p3}") {
        Some(without_key) if path.ends_with("/{state_key}") => {
            vec![without_key.to_owned(), format!("{without_key}/"), full]
        }
        _ => vec![full],
    }
}
