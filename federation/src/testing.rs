//! An in-process network: several servers in one test, without sockets, with cables to cut.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, body::Body};
use http::{Request, Response};
use ruma::{OwnedServerName, ServerName};
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
