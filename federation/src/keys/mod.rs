//! Other servers' signing keys, and ours for them.
//!
//! Keys are looked for in memory, in the database, at the server itself, and last at the configured
//! notaries. Whatever brings them, they count only if the server has signed them itself. One request
//! per server is under way at a time; servers that fail are left alone for a while.

mod fetch;
mod former;
mod given;
mod known;
mod publish;
pub(crate) mod renewal;
mod storing;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rhizome_protocol::{
    receive::{KeyLookup, Keys},
    server_keys::ServerKeys,
    sign::KeyPair,
};
use rhizome_storage::{Store, millis};
use ruma::{OwnedServerName, ServerName};

use crate::{FederationConfig, Outbound, config::OldVerifyKey};
use known::KnownKeys;
pub use known::public_key;
pub(crate) use publish::endpoints;

/// Servers whose keys are kept in memory.
const CACHE_SIZE: usize = 10_000;
/// Servers that are asked at the same time for one gathering.
const PARALLEL: usize = 24;
/// Servers of one gathering from which on the notaries are asked first, in batches.
const MANY: usize = 12;
/// All the time that one gathering may take.
const GATHER_TIMEOUT: Duration = Duration::from_mins(1);
/// A server that has just told its keys isn't asked again for another one before this.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long a server that failed is left alone at first, and at most.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_mins(5);

/// A key that is needed: whose, which, and when it must have been valid (ms).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The server.
    pub server: OwnedServerName,
    /// `ed25519:…`
    pub key_id: String,
    /// Milliseconds since 1970.
    pub valid_at: i64,
}

/// What is needed of one server: key ids, and when they must have been valid (ms).
type Needed<'a> = BTreeSet<(&'a str, i64)>;
type ByServer<'a> = BTreeMap<&'a ServerName, Needed<'a>>;

fn by_server(wanted: &[Wanted]) -> ByServer<'_> {
    let mut by_server = ByServer::new();
    for want in wanted {
        let keys = by_server.entry(&want.server).or_default();
        keys.insert((&want.key_id, want.valid_at));
    }
    by_server
}

/// Keys gathered for the core by [`KeyRing::prefetch`]. A server that was asked for and a key that
/// couldn't be had counts as [`KeyLookup::Expired`]: asking again at once is of no use.
#[derive(Debug, Default, Clone)]
pub struct GatheredKeys {
    servers: HashMap<OwnedServerName, Arc<KnownKeys>>,
}

impl Keys for GatheredKeys {
    fn key(&self, server: &ServerName, key_id: &str, valid_at_ms: i64) -> KeyLookup {
        match self
            .servers
            .get(server)
            .map(|known| known.lookup(key_id, valid_at_ms))
        {
            None => KeyLookup::Unknown,
            Some(KeyLookup::Unknown) => KeyLookup::Expired,
            Some(answer) => answer,
        }
    }
}

/// Keys of other servers: cached, stored, fetched. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    outbound: Outbound,
    server_name: OwnedServerName,
    key: KeyPair,
    old: Vec<OldVerifyKey>,
    ours: Arc<KnownKeys>,
    notaries: Vec<OwnedServerName>,
    state: Mutex<State>,
    /// Answers that were stored.
    stored: AtomicUsize,
}

#[derive(Default)]
struct State {
    known: HashMap<OwnedServerName, Cached>,
    /// Fetches under way: who wants the same server's keys waits for this lock, then looks again.
    fetching: HashMap<OwnedServerName, Weak<tokio::sync::Mutex<()>>>,
    failing: HashMap<OwnedServerName, Failing>,
    /// Counts uses, for finding the entries that weren't used for longest.
    uses: u64,
}

struct Cached {
    known: Arc<KnownKeys>,
    used: u64,
}

/// A server that didn't answer. Times are the store's clock's.
#[derive(Debug, Clone, Copy)]
struct Failing {
    failures: u32,
    until: Duration,
}

impl KeyRing {
    /// The ring of the server `server_name` with this signing key.
    ///
    /// # Errors
    /// An old key in the configuration isn't valid.
    pub fn new(
        server_name: OwnedServerName,
        key: KeyPair,
        store: Store,
        config: &FederationConfig,
        outbound: Outbound,
    ) -> Result<Self, crate::ConfigError> {
        let ours = Arc::new(known::ours(&key, &config.old_verify_keys)?);
        let notaries = config
            .trusted_key_servers
            .iter()
            .filter(|name| **name != server_name)
            .cloned()
            .collect();
        let inner = Inner {
            store,
            outbound,
            server_name,
            key,
            old: config.old_verify_keys.clone(),
            ours,
            notaries,
            state: Mutex::default(),
            stored: AtomicUsize::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// [`KeyRing::current_key`], if it is there without asking anybody.
    pub(crate) async fn key_at_hand(&self, server: &ServerName, key_id: &str) -> Option<[u8; 32]> {
        let now = self.inner.store.clock().now_ms();
        match self.at_hand(server).await.lookup(key_id, now) {
            KeyLookup::Found(key) => Some(key),
            KeyLookup::Unknown | KeyLookup::Expired => None,
        }
    }

    /// The key with which a server signs a request now, or `None` if it can't be had.
    pub async fn current_key(&self, server: &ServerName, key_id: &str) -> Option<[u8; 32]> {
        let now = self.inner.store.clock().now_ms();
        let wanted = Wanted {
            server: server.to_owned(),
            key_id: key_id.to_owned(),
            valid_at: now,
        };
        match self.prefetch(&[wanted]).await.key(server, key_id, now) {
            KeyLookup::Found(key) => Some(key),
            KeyLookup::Unknown | KeyLookup::Expired => None,
        }
    }

    /// Gathers the wanted keys, at most a minute long. What can't be had is absent from the answer.
    pub async fn prefetch(&self, wanted: &[Wanted]) -> GatheredKeys {
        self.gather(&by_server(wanted), None).await
    }

    /// [`KeyRing::prefetch`]; a server that hasn't answered within `patience` counts as failing.
    async fn gather(&self, wanted: &ByServer<'_>, patience: Option<Duration>) -> GatheredKeys {
        let mut gathered = GatheredKeys::default();
        let mut missing = Vec::new();
        for (server, keys) in wanted {
            let known = self.at_hand(server).await;
            if !known.satisfies(keys) {
                missing.push((*server, keys));
            }
            gathered.servers.insert((*server).to_owned(), known);
        }
        if missing.is_empty() {
            return gathered;
        }
        let fetched = Mutex::new(Vec::new());
        let work = async {
            if missing.len() >= MANY {
                self.ask_notaries(&missing).await;
            }
            stream::iter(&missing)
                .for_each_concurrent(PARALLEL, async |(server, keys)| {
                    let known = self.fetch_within(server, keys, patience).await;
                    lock(&fetched).push(((*server).to_owned(), known));
                })
                .await;
        };
        if tokio::time::timeout(GATHER_TIMEOUT, work).await.is_err() {
            tracing::info!(servers = missing.len(), "gathering keys took too long");
        }
        let fetched = std::mem::take(&mut *lock(&fetched));
        gathered.servers.extend(fetched);
        gathered
    }

    /// What is in memory or in the database.
    async fn at_hand(&self, server: &ServerName) -> Arc<KnownKeys> {
        if server == self.inner.server_name {
            return self.inner.ours.clone();
        }
        if let Some(known) = self.cached(server) {
            return known;
        }
        let Some(known) = self.stored(server).await else {
            return Arc::default();
        };
        self.remember(server, known.clone());
        known
    }

    fn cached(&self, server: &ServerName) -> Option<Arc<KnownKeys>> {
        let mut state = lock(&self.inner.state);
        state.uses += 1;
        let uses = state.uses;
        let cached = state.known.get_mut(server)?;
        cached.used = uses;
        Some(cached.known.clone())
    }

    fn remember(&self, server: &ServerName, known: Arc<KnownKeys>) {
        let mut state = lock(&self.inner.state);
        if state.known.len() >= CACHE_SIZE {
            // The older half goes at once, so that this is seldom done.
            let oldest = state.uses.saturating_sub(CACHE_SIZE as u64 / 2);
            state.known.retain(|_, cached| cached.used > oldest);
        }
        let used = state.uses;
        let before = state.known.get(server);
        // Of two that were stored one after the other, the later one stays.
        if before.is_none_or(|before| before.known.fetched <= known.fetched) {
            let cached = Cached { known, used };
            state.known.insert(server.to_owned(), cached);
        }
    }

    /// [`KeyRing::fetch`], for so long.
    async fn fetch_within(
        &self,
        server: &ServerName,
        keys: &Needed<'_>,
        patience: Option<Duration>,
    ) -> Arc<KnownKeys> {
        let Some(patience) = patience else {
            return self.fetch(server, keys).await;
        };
        if let Ok(known) = tokio::time::timeout(patience, self.fetch(server, keys)).await {
            return known;
        }
        self.note_outcome(server, false);
        self.at_hand(server).await
    }

    /// Asks a server, then the notaries, unless somebody else has just done so.
    async fn fetch(&self, server: &ServerName, keys: &Needed<'_>) -> Arc<KnownKeys> {
        let turn = self.turn(server);
        let _turn = turn.lock().await;
        let known = self.newest(server).await;
        if known.satisfies(keys) || !self.may_ask(server, &known) {
            return known;
        }
        let mut best = known;
        let mut answered = false;
        match self.ask_server(server).await {
            Ok(answer) => {
                answered = true;
                best = self.admit(server, answer).await;
            }
            Err(reason) => tracing::debug!(%server, reason, "a server didn't tell its keys"),
        }
        if !best.satisfies(keys) && !self.inner.notaries.is_empty() {
            self.ask_notaries(&[(server, keys)]).await;
            best = self.at_hand(server).await;
        }
        // A server that answers, but knows no such key, isn't failing: anybody can name keys that don't
        // exist. `ASK_AGAIN` bounds how often it is asked for such.
        self.note_outcome(server, answered || best.satisfies(keys));
        best
    }

    fn turn(&self, server: &ServerName) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = lock(&self.inner.state);
        if state.fetching.len() > CACHE_SIZE {
            state.fetching.retain(|_, turn| turn.strong_count() > 0);
        }
        if let Some(turn) = state.fetching.get(server).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        state
            .fetching
            .insert(server.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// Whether asking now may be of use: neither failing nor asked a moment ago.
    fn may_ask(&self, server: &ServerName, known: &KnownKeys) -> bool {
        let clock = self.inner.store.clock();
        let now = clock.monotonic();
        let failing = lock(&self.inner.state).failing.get(server).copied();
        if let Some(failing) = failing {
            return failing.until <= now;
        }
        let age = clock.now_ms().saturating_sub(known.fetched);
        age < 0 || age >= millis(ASK_AGAIN)
    }

    /// A server that failed may be asked again.
    pub(crate) fn try_again(&self, server: &ServerName) {
        lock(&self.inner.state).failing.remove(server);
    }

    fn note_outcome(&self, server: &ServerName, well: bool) {
        let now = self.inner.store.clock().monotonic();
        let mut state = lock(&self.inner.state);
        if well {
            state.failing.remove(server);
            return;
        }
        if state.failing.len() >= CACHE_SIZE {
            state.failing.retain(|_, failing| failing.until > now);
            if state.failing.len() >= CACHE_SIZE {
                state.failing.clear();
            }
        }
        let failing = state.failing.entry(server.to_owned()).or_insert(Failing {
            failures: 0,
            until: now,
        });
        failing.failures = failing.failures.saturating_add(1);
        let wait = BACK_OFF_MIN.saturating_mul(1 << failing.failures.saturating_sub(1).min(16));
        failing.until = now + wait.min(BACK_OFF_MAX);
    }
}

/// A verified answer about a server's keys, with the JSON that the server has signed.
pub(crate) struct KeyAnswer {
    pub(crate) keys: ServerKeys,
    pub(crate) json: String,
    /// When the server was asked that gave it itself, ms. `None`: a notary has passed it on, so it may be old.
    pub(crate) asked: Option<i64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
