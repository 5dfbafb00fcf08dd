//! The way to one destination: where it can be reached, and the client for the place in use.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use reqwest::Client;

use crate::outbound::{
    discovery::Route,
    dns::Reason,
    places::{Place, Places},
};

#[derive(Default)]
pub(super) struct Way {
    state: Mutex<State>,
    /// Who looks for a place has this: others wait for what is found.
    choosing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The route whose places these are.
    route: Option<Arc<Route>>,
    places: Places,
    held: Option<Holding>,
    /// When it was last found that nobody answers anywhere, and why.
    lost: Option<(Instant, Reason)>,
}

impl State {
    fn knows_places_of(&self, route: &Arc<Route>) -> bool {
        let known = self.route.as_ref();
        known.is_some_and(|known| Arc::ptr_eq(known, route))
    }
}

/// The place in use.
struct Holding {
    /// The route for which the client was made.
    route: Arc<Route>,
    held: Held,
    /// Whether it has been of use since somebody gave up on it. If not it is chosen anew.
    is_sure: bool,
}

/// A client, and where it connects to.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) at: SocketAddr,
    pub(super) client: Client,
}

impl Way {
    /// The place in use, if it is one of this route's and was not tried.
    pub(super) fn held(&self, route: &Arc<Route>, tried: &[SocketAddr]) -> Option<Held> {
        let state = self.state();
        let holding = state.held.as_ref()?;
        // While a place is looked for, the one in use may still be that of the route before, with its manners.
        let is_for_it = holding.is_sure && holding.route == *route;
        let is_of_use = is_for_it && !tried.contains(&holding.held.at);
        (state.knows_places_of(route) && is_of_use).then(|| holding.held.clone())
    }

    /// Waits until nobody else is looking for a place.
    pub(super) async fn choosing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.choosing.lock().await
    }

    /// Whether the places are those of this answer of discovery's. A later one, though it says the same, is an occasion to
    /// look again.
    pub(super) fn knows_places_of(&self, route: &Arc<Route>) -> bool {
        self.state().knows_places_of(route)
    }

    /// From now on the places are these.
    pub(super) fn look_up(&self, route: &Arc<Route>, places: Vec<Place>) {
        let mut state = self.state();
        state.places = Places::with(places, &state.places);
        state.route = Some(route.clone());
    }

    /// Whether there is a place beside those that were tried and this one.
    pub(super) fn has_another(&self, tried: &[SocketAddr], at: SocketAddr) -> bool {
        self.state().places.has_another(tried, at)
    }

    /// Which places to try now.
    pub(super) fn to_try(&self, tried: &[SocketAddr]) -> Vec<Place> {
        self.state().places.to_try(tried, Instant::now())
    }

    /// The place in use, if it may stay: it is one of these, and no target before its own has come back.
    pub(super) fn of_use(&self, open: &[Place]) -> Option<SocketAddr> {
        let state = self.state();
        let holding = state.held.as_ref().filter(|holding| holding.is_sure)?;
        let first = open.first()?.target;
        let mut stays = open.iter();
        stays
            .any(|place| place.address == holding.held.at && place.target == first)
            .then_some(holding.held.at)
    }

    /// From now on this place is in use. Its client stays if it is for this very place and route.
    pub(super) fn hold(
        &self,
        route: &Arc<Route>,
        at: SocketAddr,
        new_client: impl FnOnce() -> reqwest::Result<Client>,
    ) -> reqwest::Result<Held> {
        let mut state = self.state();
        let same = state.held.as_ref();
        let same = same.filter(|holding| holding.held.at == at && holding.route == *route);
        let client = match same {
            Some(holding) => holding.held.client.clone(),
            None => new_client()?,
        };
        let held = Held { at, client };
        state.held = Some(Holding {
            route: route.clone(),
            held: held.clone(),
            is_sure: true,
        });
        Ok(held)
    }

    /// A place was of no use.
    pub(super) fn failed(&self, at: SocketAddr) {
        self.state().places.failed(at, Instant::now());
        self.doubt(at);
    }

    /// None of these places answers.
    pub(super) fn lost(&self, places: &[Place], why: &str) {
        for place in places {
            self.failed(place.address);
        }
        self.state().lost = Some((Instant::now(), why.to_owned()));
    }

    /// Why nobody answers anywhere, if that was found after this: who has waited for it needn't look again.
    pub(super) fn lost_since(&self, waiting: Instant) -> Option<Reason> {
        let state = self.state();
        let lost = state.lost.as_ref().filter(|(at, _)| *at >= waiting);
        lost.map(|(_, why)| why.clone())
    }

    /// A request is under way. If it is given up before [`Trying::has_ended`], the place is chosen anew: nobody may be there.
    pub(super) fn trying(&self, at: SocketAddr) -> Trying<'_> {
        Trying {
            way: Some(self),
            at,
        }
    }

    fn doubt(&self, at: SocketAddr) {
        if let Some(holding) = &mut self.state().held
            && holding.held.at == at
        {
            holding.is_sure = false;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way.
pub(super) struct Trying<'a> {
    way: Option<&'a Way>,
    at: SocketAddr,
}

impl Trying<'_> {
    /// There is an answer, or it is known why not.
    pub(super) fn has_ended(mut self) {
        self.way = None;
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if let Some(way) = self.way {
            way.doubt(self.at);
        }
    }
}
