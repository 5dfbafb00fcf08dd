//! An in-process network: several servers in one test, without sockets, with cables to cut.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use rhizome_media::{Media, MediaConfig, Pictures};
use rhizome_rooms::Rooms;
use rhizome_storage::Store;
use ruma::{OwnedServerName, ServerName};
use tempfile::TempDir;
use tower::ServiceExt as _;

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
        self.deliver(&to, request).await
    }

    pub(crate) async fn deliver(
        &self,
        to: &ServerName,
        request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        let router = {
            let mut state = self.state();
            let line = format!("{} {}", request.method(), request.uri());
            state.requests.push((to.to_owned(), line));
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
