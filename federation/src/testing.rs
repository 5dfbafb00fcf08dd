//! An in-process network: several servers in one test, without sockets, with cables to cut, and ways on which
//! requests meet with what a test wants.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use rhizome_media::{Media, MediaConfig, Pictures};
use rhizome_rooms::Rooms;
use rhizome_storage::Store;
use ruma::{OwnedServerName, ServerName};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// What comes of a request: the answer, or why there is none.
pub type Came = Result<Response<Body>, String>;

/// Decides what becomes of requests, and when.
type Way = dyn Fn(Passing) -> BoxFuture<'static, Came> + Send + Sync;

/// Routers by server name. Cheap to clone; all clones are the same network.
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    routers: HashMap<OwnedServerName, Router>,
    down: HashSet<OwnedServerName>,
    requests: Vec<(OwnedServerName, String)>,
    /// How requests go, if not straight.
    way: Option<Arc<Way>>,
    /// Where the servers' files lie; gone with the network.
    folders: Vec<TempDir>,
}

impl Network {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server joins the network.
    pub fn attach(&self, name: &ServerName, router: Router) {
        self.state().routers.insert(name.to_owned(), router);
    }

    /// A server leaves it: requests to it fail, and nothing is held of it any more.
    pub fn detach(&self, name: &ServerName) {
        self.state().routers.remove(name);
    }

    /// From now on this is what becomes of requests: it may let them arrive ([`Passing::arrive`]) at once or later, more
    /// than once or never, and answers as it likes.
    pub fn go_by(&self, way: impl Fn(Passing) -> BoxFuture<'static, Came> + Send + Sync + 'static) {
        self.state().way = Some(Arc::new(way));
    }

    /// Requests to this server fail from now on.
    pub fn cut(&self, name: &ServerName) {
        self.state().down.insert(name.to_owned());
    }

    /// They succeed again.
    pub fn mend(&self, name: &ServerName) {
        self.state().down.remove(name);
    }

    /// Every request so far: its destination, its method and target.
    pub fn requests(&self) -> Vec<(OwnedServerName, String)> {
        self.state().requests.clone()
    }

    /// A server's files, in a folder that goes with this network.
    ///
    /// # Panics
    /// There is no place for it.
    pub fn media(&self, rooms: &Rooms, store: &Store, pictures: Arc<dyn Pictures>) -> Media {
        self.media_with(rooms, store, pictures, |_| {})
    }

    /// The same with other settings.
    ///
    /// # Panics
    /// There is no place for it.
    #[allow(clippy::expect_used, reason = "a test can do nothing about it")]
    pub fn media_with(
        &self,
        rooms: &Rooms,
        store: &Store,
        pictures: Arc<dyn Pictures>,
        change: impl FnOnce(&mut MediaConfig),
    ) -> Media {
        let folder = TempDir::new().expect("a folder for files");
        let mut config = MediaConfig::new(rooms.server_name().to_owned(), folder.path());
        change(&mut config);
        let media = Media::open(store.clone(), config, pictures).expect("files can be kept");
        self.state().folders.push(folder);
        media
    }

    /// A visit to a web address: the host is a server of this network.
    pub(crate) async fn visit(
        &self,
        (method, url): (Method, &reqwest::Url),
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, String> {
        let host = url.host_str().unwrap_or_default();
        let to = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let to: OwnedServerName = to
            .try_into()
            .map_err(|error: ruma::IdParseError| error.to_string())?;
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target = format!("{target}?{query}");
        }
        let request = Request::builder().method(method).uri(target);
        let mut request = request
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        self.deliver(None, &to, request).await
    }

    /// A request of a server, or of nobody who says who they are.
    pub(crate) async fn deliver(
        &self,
        from: Option<&ServerName>,
        to: &ServerName,
        request: Request<Body>,
    ) -> Came {
        let way = {
            let mut state = self.state();
            let line = format!("{} {}", request.method(), request.uri());
            state.requests.push((to.to_owned(), line));
            state.way.clone()
        };
        let Some(way) = way else {
            return self.arrive(to, request).await;
        };
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX)
            .await
            .map_err(|error| error.to_string())?;
        let passing = Passing {
            from: from.map(ToOwned::to_owned),
            to: to.to_owned(),
            request: Request::from_parts(head, body),
            network: self.clone(),
        };
        way(passing).await
    }

    async fn arrive(&self, to: &ServerName, request: Request<Body>) -> Came {
        let router = {
            let state = self.state();
            if state.down.contains(to) {
                return Err(format!("{to} is cut off"));
            }
            state
                .routers
                .get(to)
                .cloned()
                .ok_or(format!("{to} isn't in this network"))?
        };
        router
            .oneshot(request)
            .await
            .map_err(|never| match never {})
    }
}

/// A request on its way.
#[derive(Clone)]
pub struct Passing {
    /// Which server sends it; `None`: it is a visit to a web address.
    pub from: Option<OwnedServerName>,
    /// Where it goes.
    pub to: OwnedServerName,
    /// What is sent.
    pub request: Request<Bytes>,
    network: Network,
}

impl Passing {
    /// It arrives, once more if it has before.
    ///
    /// # Errors
    /// There is no such server, or it is cut off.
    pub async fn arrive(&self) -> Came {
        let request = self.request.clone().map(Body::from);
        self.network.arrive(&self.to, request).await
    }
}
