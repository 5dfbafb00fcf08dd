//! What is known of servers, from the database.

use rhizome_federation::servers::{Closed, Direction, ServerRules};
use rhizome_storage::{Block, DestinationState, KnownDestination, Pos, Store};
use ruma::ServerName;
use serde::Serialize;

use super::inbound::Inbound;

/// More than this isn't counted.
pub(super) const MOST: usize = 10_000;

/// What waits for a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Waiting {
    /// Events, [`MOST`] at most.
    pub(super) events: usize,
    /// Messages to devices, likewise.
    pub(super) messages: usize,
}

impl Waiting {
    pub(super) async fn look_up(
        store: &Store,
        server: &ServerName,
        sent: Pos,
    ) -> anyhow::Result<Self> {
        let span = (sent, store.log().head());
        Ok(Self {
            events: store.outbound_count(server, span, MOST).await?,
            messages: store.to_device_waiting(server, sent, MOST).await?,
        })
    }
}

/// A line about a server. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) server: String,
    /// Attempts in a row that failed.
    pub(super) failures: u32,
    pub(super) failing_since: Option<i64>,
    pub(super) next_attempt: Option<i64>,
    pub(super) last_failure: Option<String>,
    pub(super) last_reached: Option<i64>,
    pub(super) waiting: Waiting,
    /// Rooms that both are in.
    pub(super) rooms: usize,
}

/// All that is known of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Details {
    #[serde(flatten)]
    pub(super) line: Line,
    /// Why what it asks and sends is refused, if it is.
    pub(super) refused: Option<&'static str>,
    /// Why it is asked and sent nothing, if so.
    pub(super) shunned: Option<&'static str>,
    /// Why the operator has blocked it.
    pub(super) block_reason: Option<String>,
    pub(super) keys: Vec<Key>,
    /// When its keys were fetched last.
    pub(super) keys_fetched: Option<i64>,
    /// What it has sent, and what became of that.
    pub(super) inbound: Option<Inbound>,
}

/// A signing key of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Key {
    pub(super) id: String,
    /// In use until then, as far as is known.
    pub(super) valid_until: Option<i64>,
    /// Out of use since then.
    pub(super) expired: Option<i64>,
}

/// Where what is known of servers is found.
pub(super) struct Looking<'a> {
    pub(super) store: &'a Store,
    pub(super) rules: &'a ServerRules,
    /// This server.
    pub(super) ours: &'a ServerName,
}

impl Looking<'_> {
    pub(super) async fn line(&self, known: KnownDestination) -> anyhow::Result<Line> {
        let KnownDestination {
            server,
            state,
            failure,
        } = known;
        let fails = state.failures > 0;
        let time = |ms: i64| (ms > 0).then_some(ms);
        Ok(Line {
            failures: state.failures,
            failing_since: time(state.failing_since).filter(|_| fails),
            next_attempt: fails.then_some(state.retry_at),
            last_failure: Some(failure).filter(|text| !text.is_empty()),
            last_reached: time(state.reached_ms),
            waiting: Waiting::look_up(self.store, &server, state.reached()).await?,
            rooms: self.store.rooms_shared(self.ours, &server).await?,
            server: server.to_string(),
        })
    }

    pub(super) async fn details(&self, server: &ServerName) -> anyhow::Result<Details> {
        let known = self.store.known_destination(server).await?;
        let known = known.unwrap_or_else(|| KnownDestination {
            server: server.to_owned(),
            state: DestinationState::default(),
            failure: String::new(),
        });
        let blocked = self.store.blocks().await?;
        let judged = |direction| {
            let closed = self.rules.judge(direction, server, &blocked);
            closed.map(Closed::as_str)
        };
        let (keys, fetched) = self.store.server_keys(server).await?;
        let keys = keys.into_iter().map(|key| Key {
            id: key.key_id,
            valid_until: key.valid_until,
            expired: key.expired,
        });
        Ok(Details {
            line: self.line(known).await?,
            refused: judged(Direction::In),
            shunned: judged(Direction::Out),
            block_reason: self.block_reason(server).await?,
            keys: keys.collect(),
            keys_fetched: (fetched > 0).then_some(fetched),
            inbound: Inbound::look_up(self.store, server).await?,
        })
    }

    async fn block_reason(&self, server: &ServerName) -> anyhow::Result<Option<String>> {
        let names = [server.as_str(), server.host()].map(str::to_ascii_lowercase);
        let blocks = self.store.all_blocks().await?;
        let mut blocks = blocks.into_iter();
        let block = blocks.find(|one| one.kind == Block::SERVER && names.contains(&one.what));
        Ok(block.map(|block| block.reason))
    }
}
