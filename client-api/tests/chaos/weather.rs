//! What becomes of requests between servers. It follows from the story's number, for each way by itself: how often a way was
//! gone, not when, decides what happens there.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::{Body, to_bytes};
use futures_util::FutureExt as _;
use http::Response;
use rhizome_federation::testing::{Came, Network, Passing};
use rhizome_storage::testing::soon;
use ruma::{OwnedServerName, ServerName};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::task::TaskTracker;

use crate::{random::Random, story::Way};

/// The weather of a story. All clones are the same.
#[derive(Clone)]
pub struct Weather(Arc<Inner>);

struct Inner {
    seed: u64,
    /// What is late outlives who has sent it.
    threads: Handle,
    late: TaskTracker,
    /// How many steps are over; the greatest number when all that was held up comes.
    step: watch::Sender<u64>,
    state: Mutex<State>,
}

type Link = (OwnedServerName, OwnedServerName);

#[derive(Default)]
struct State {
    /// Those of the servers that are up: a server works on its own threads, whoever asks.
    up: HashMap<OwnedServerName, Handle>,
    ways: HashMap<Link, Way>,
    chances: HashMap<Link, Random>,
    /// Requests whose answer was lost once.
    unheard: HashSet<String>,
    /// What has these words in it never gets to this server.
    withheld: Option<(OwnedServerName, String)>,
}

/// What becomes of a request.
enum Fate {
    Arrives,
    Lost,
    AnswerLost,
    Twice,
    /// It arrives after this step.
    Held(u64),
    /// The same, and whoever sent it thinks that it is lost.
    Late(u64),
}

impl Weather {
    /// Weather over a network. `threads` last as long as the story.
    pub fn over(network: &Network, seed: u64, threads: Handle) -> Self {
        let weather = Self(Arc::new(Inner {
            seed,
            threads,
            late: TaskTracker::new(),
            step: watch::Sender::new(0),
            state: Mutex::default(),
        }));
        let over = weather.clone();
        network.go_by(move |passing| {
            let weather = over.clone();
            async move { weather.meets(passing).await }.boxed()
        });
        weather
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server works on these threads from now on.
    pub fn up(&self, server: &ServerName, threads: Handle) {
        self.state().up.insert(server.to_owned(), threads);
    }

    pub fn down(&self, server: &ServerName) {
        self.state().up.remove(server);
    }

    pub fn set(&self, from: &ServerName, to: &ServerName, way: Way) {
        let link = (from.to_owned(), to.to_owned());
        self.state().ways.insert(link, way);
    }

    /// From now on, and when all is well again, nothing with these words in it gets to the server.
    pub fn withhold(&self, server: &ServerName, words: &str) {
        self.state().withheld = Some((server.to_owned(), words.to_owned()));
    }

    /// A step of the story is over.
    pub fn goes_on(&self) {
        let next = |step: &mut u64| *step = step.saturating_add(1);
        self.0.step.send_modify(next);
    }

    /// All ways are open again, and what is still under way has arrived.
    pub async fn clears_up(&self) {
        self.state().ways.clear();
        self.0.step.send_replace(u64::MAX);
        self.0.late.close();
        soon("what is late arrives", self.0.late.wait()).await;
    }

    async fn meets(self, passing: Passing) -> Came {
        match self.fate(&passing) {
            Fate::Arrives => self.arrives(&passing).await,
            Fate::Lost => Err(format!("{} can't be reached", passing.to)),
            Fate::AnswerLost => {
                drop(self.arrives(&passing).await);
                Err(format!("{} answers nothing", passing.to))
            }
            Fate::Twice => {
                drop(self.arrives(&passing).await);
                self.arrives(&passing).await
            }
            Fate::Held(until) => {
                self.comes(until).await;
                self.arrives(&passing).await
            }
            Fate::Late(until) => {
                let to = passing.to.clone();
                let weather = self.clone();
                let late = async move {
                    weather.comes(until).await;
                    drop(weather.arrives(&passing).await);
                };
                self.0.late.spawn_on(late, &self.0.threads);
                Err(format!("{to} doesn't answer"))
            }
        }
    }

    fn fate(&self, passing: &Passing) -> Fate {
        let Some(from) = &passing.from else {
            return Fate::Arrives;
        };
        let path = passing.request.uri().path();
        let is_transaction = path.starts_with("/_matrix/federation/v1/send/");
        let link = (from.clone(), passing.to.clone());
        let mut state = self.state();
        if state.withholds(&passing.to, passing.request.body()) {
            return Fate::Lost;
        }
        let way = state.ways.get(&link).copied().unwrap_or_default();
        let begin = || Random(self.0.seed ^ seed_of(&link));
        let delay = {
            let of = link.clone();
            state.chances.entry(of).or_insert_with(begin).below(4)
        };
        let until = u64::try_from(delay).unwrap_or_default() + 1;
        let until = self.0.step.borrow().saturating_add(until);
        match way {
            Way::Cut => Fate::Lost,
            Way::Slow if is_transaction => Fate::Held(until),
            Way::Late if is_transaction && delay > 0 => Fate::Late(until),
            Way::Doubled if is_transaction => Fate::Twice,
            Way::Deaf if is_transaction && delay > 0 => Fate::AnswerLost,
            Way::Deaf if !is_transaction && state.is_first(passing) => Fate::AnswerLost,
            _ => Fate::Arrives,
        }
    }

    /// Waits for a step to be over.
    async fn comes(&self, until: u64) {
        let mut step = self.0.step.subscribe();
        // The sender lives as long as `self`.
        let _ = step.wait_for(|step| *step >= until).await;
    }

    /// The request is served, on the threads of who serves it.
    async fn arrives(&self, passing: &Passing) -> Came {
        let to = &passing.to;
        let threads = self.state().up.get(to).cloned();
        let threads = threads.ok_or_else(|| format!("{to} is down"))?;
        let there = passing.clone();
        let served = threads.spawn(async move {
            let (head, body) = there.arrive().await?.into_parts();
            let body = to_bytes(body, usize::MAX).await;
            let body = body.map_err(|error| error.to_string())?;
            Ok::<_, String>((head, body))
        });
        let served = served.await.map_err(|_| format!("{to} was killed"))?;
        let (head, body) = served?;
        if let Some(from) = &passing.from
            && self.state().withholds(from, &body)
        {
            return Err(format!("{to} answers what is withheld"));
        }
        Ok(Response::from_parts(head, Body::from(body)))
    }
}

impl State {
    fn withholds(&self, to: &ServerName, bytes: &[u8]) -> bool {
        self.withheld.as_ref().is_some_and(|(server, words)| {
            let words = words.as_bytes();
            server == to && bytes.windows(words.len()).any(|piece| piece == words)
        })
    }

    /// Whether the answer to such a request hasn't been lost yet.
    fn is_first(&mut self, passing: &Passing) -> bool {
        let (to, method) = (&passing.to, passing.request.method());
        let path = passing.request.uri().path();
        self.unheard.insert(format!("{to} {method} {path}"))
    }
}

/// A number that tells ways apart.
fn seed_of((from, to): &Link) -> u64 {
    let bytes = from.as_str().bytes().chain(to.as_str().bytes());
    bytes.fold(0, |number: u64, byte| {
        number.wrapping_mul(131).wrapping_add(u64::from(byte))
    })
}
