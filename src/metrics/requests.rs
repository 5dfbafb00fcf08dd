//! How long requests take, by what was asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::http::Method;
use rhizome_storage::{Histogram, Observed};

use super::sheet::Labels;

/// Where buckets end, microseconds.
const BOUNDS: &[u64] = &[
    1_000, 5_000, 25_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000, 30_000_000,
];
/// The methods that are told apart; the last stands for all others.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "other"];
/// The kinds of answers.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// What has no route is counted under this.
const UNMATCHED: &str = "unmatched";
/// There are some hundreds of routes. However a request came to have another, no more than these are told apart.
const MOST_ROUTES: usize = 2_000;

/// How long requests took, by the template of their path, their method and the kind of their answer. What strangers
/// make up is [`UNMATCHED`] or `other`.
#[derive(Default)]
pub(crate) struct Requests(RwLock<HashMap<Box<str>, Arc<Route>>>);

/// Of one route, by method and kind of answer.
#[derive(Default)]
struct Route([[OnceLock<Box<Histogram>>; CLASSES.len()]; METHODS.len()]);

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Requests {
    /// A request was answered. `route`: the template of the path that served it, if there is one; `took`: until the
    /// answer's head.
    pub(crate) fn answered(
        &self,
        route: Option<&str>,
        method: &Method,
        status: u16,
        took: Duration,
    ) {
        let known = METHODS.iter().position(|name| *name == method.as_str());
        let method = known.unwrap_or(METHODS.len() - 1);
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let route = self.route(route.unwrap_or(UNMATCHED));
        let cell = route.0.get(method).and_then(|of| of.get(class));
        if let Some(cell) = cell {
            let histogram = cell.get_or_init(|| Box::new(Histogram::new(BOUNDS)));
            histogram.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn route(&self, name: &str) -> Arc<Route> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = known.get(name) {
            return route.clone();
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = if known.len() < MOST_ROUTES {
            name
        } else {
            UNMATCHED
        };
        known.entry(name.into()).or_default().clone()
    }

    /// What was counted so far.
    pub(super) fn now(&self) -> Vec<(Labels, Observed)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut routes: Vec<_> = known
            .iter()
            .map(|(name, of)| (name.clone(), of.clone()))
            .collect();
        drop(known);
        routes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut samples = Vec::new();
        for (name, route) in routes {
            for (method, classes) in METHODS.iter().zip(&route.0) {
                for (class, cell) in CLASSES.iter().zip(classes) {
                    if let Some(histogram) = cell.get() {
                        let labels = vec![
                            ("route", name.to_string().into()),
                            ("method", (*method).into()),
                            ("status", (*class).into()),
                        ];
                        samples.push((labels, histogram.now()));
                    }
                }
            }
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_make_no_labels() {
        let requests = Requests::default();
        let took = Duration::from_millis(3);
        for n in 0..1_000 {
            let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
            requests.answered(None, &method, 404, took);
            requests.answered(Some("/a/{p1}"), &method, 405, took);
        }
        for status in [0, 99, 600, 999] {
            requests.answered(None, &Method::GET, status, took);
        }
        let seen = requests.now();
        assert_eq!(seen.len(), 4, "{seen:?}");
        let others = seen.iter().filter(|(labels, _)| labels[1].1 == "other");
        assert_eq!(
            others.map(|(_, of)| of.count()).collect::<Vec<_>>(),
            [1_000, 1_000]
        );
        assert!(seen.iter().all(|(_, of)| of.sum == of.count() * 3_000));
    }

    #[test]
    fn there_is_an_end_to_routes() {
        let requests = Requests::default();
        for n in 0..3 * MOST_ROUTES {
            let route = format!("/{n}");
            requests.answered(Some(&route), &Method::GET, 200, Duration::ZERO);
        }
        assert!(requests.now().len() <= MOST_ROUTES + 1);
    }

    /// `cargo test --lib --release -- --ignored --nocapture what_counting_a_request_costs`
    #[test]
    #[ignore = "it measures"]
    fn what_counting_a_request_costs() {
        let requests = Requests::default();
        let route = "/_matrix/client/v3/rooms/{p1}/send/{p2}/{p3}";
        let began = std::time::Instant::now();
        for n in 0..1_000_000 {
            requests.answered(Some(route), &Method::PUT, 200, Duration::from_micros(n));
        }
        println!("a request: {:?}", began.elapsed() / 1_000_000);
    }
}
