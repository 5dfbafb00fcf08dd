//! What the operator keeps out. There is little of it, so all of it is kept in memory, and asking for it costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ruma::{RoomId, ServerName, UserId};

use crate::facts::Stored as _;
use crate::facts::block::Block;
use crate::{CommitError, Result, Store};

/// Which way a server is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What it asks and sends is refused.
    In,
    /// It is asked and sent nothing.
    Out,
    /// Both.
    Both,
}

impl Way {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "in" => Self::In,
            "out" => Self::Out,
            _ => Self::Both,
        }
    }
}

/// What the operator keeps out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    rooms: BTreeSet<String>,
    servers: BTreeMap<String, Way>,
    names: BTreeSet<String>,
    shadows: BTreeSet<String>,
}

impl Blocked {
    /// Whether there are rooms into which nobody here may come.
    pub fn has_rooms(&self) -> bool {
        !self.rooms.is_empty()
    }

    /// Whether nobody here may come into this room.
    pub fn room(&self, room: &RoomId) -> bool {
        self.rooms.contains(room.as_str())
    }

    /// Whether what this server asks and sends is refused.
    pub fn from(&self, server: &ServerName) -> bool {
        let ways = self.server(server);
        ways.into_iter().flatten().any(|way| way != Way::Out)
    }

    /// Whether this server is asked and sent nothing.
    pub fn to(&self, server: &ServerName) -> bool {
        let ways = self.server(server);
        ways.into_iter().flatten().any(|way| way != Way::In)
    }

    /// What is said of the server, and of all servers of its host.
    fn server(&self, server: &ServerName) -> [Option<Way>; 2] {
        // Mostly there is none. Names of hosts are the same in capitals.
        if self.servers.is_empty() {
            return [None; 2];
        }
        [server.as_str(), server.host()].map(|name| {
            let name = name.to_ascii_lowercase();
            self.servers.get(&name).copied()
        })
    }

    /// Whether nobody may register this name, the part before the colon.
    pub fn name(&self, localpart: &str) -> bool {
        self.names.contains(localpart)
    }

    /// Whether what this user does is shown to nobody else.
    pub fn user(&self, user: &UserId) -> bool {
        self.shadows.contains(user.as_str())
    }
}

/// What is in memory, and how often it has become stale: what was read before that isn't kept.
#[derive(Debug, Default)]
pub(crate) struct KnownBlocks {
    loaded: Option<Arc<Blocked>>,
    stale: u64,
}

impl Store {
    /// What the operator keeps out.
    pub async fn blocks(&self) -> Result<Arc<Blocked>> {
        let stale = {
            let known = self.known_blocks();
            if let Some(loaded) = &known.loaded {
                return Ok(loaded.clone());
            }
            known.stale
        };
        let mut blocks = Blocked::default();
        for block in self.all_blocks().await? {
            match block.kind.as_str() {
                Block::ROOM => drop(blocks.rooms.insert(block.what)),
                Block::SERVER => {
                    let way = Way::parse(&block.way);
                    blocks.servers.insert(block.what, way);
                }
                Block::NAME => drop(blocks.names.insert(block.what)),
                Block::SHADOW => drop(blocks.shadows.insert(block.what)),
                _ => {}
            }
        }
        let loaded = Arc::new(blocks);
        let mut known = self.known_blocks();
        if known.stale == stale {
            known.loaded = Some(loaded.clone());
        }
        Ok(loaded)
    }

    /// All that is kept out, by kind and name.
    pub async fn all_blocks(&self) -> Result<Vec<Block>> {
        let query = self.sql(
            "SELECT kind, what, way, reason, since_ms, blocked, pos FROM block WHERE blocked = 1 \
             ORDER BY kind, what",
        );
        self.rows(query).await?.iter().map(Block::read).collect()
    }

    /// Keeps something out.
    pub async fn block(&self, block: Block) -> Result<(), CommitError> {
        self.commit(vec![block.into()].into()).await.map(drop)
    }

    /// What is said of something that is kept out.
    pub async fn block_of(&self, kind: &str, what: &str) -> Result<Option<Block>> {
        let query = self
            .sql(
                "SELECT kind, what, way, reason, since_ms, blocked, pos FROM block \
                 WHERE kind = $1 AND what = $2 AND blocked = 1",
            )
            .bind(kind)
            .bind(what);
        self.row(query).await?.as_ref().map(Block::read).transpose()
    }

    /// Lets something in again; `false` if it wasn't kept out.
    pub async fn unblock(&self, kind: &str, what: &str) -> Result<bool, CommitError> {
        let Some(block) = self.block_of(kind, what).await? else {
            return Ok(false);
        };
        let block = Block {
            blocked: false,
            ..block
        };
        self.block(block).await?;
        Ok(true)
    }

    /// Something is kept out from now on, or let in again.
    pub(crate) fn forget_blocks(&self) {
        let mut known = self.known_blocks();
        known.loaded = None;
        known.stale += 1;
    }

    fn known_blocks(&self) -> MutexGuard<'_, KnownBlocks> {
        let known: &Mutex<KnownBlocks> = &self.core.caches.blocks;
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, server_name, user_id};

    use super::*;
    use crate::testing::each_database;

    fn block(kind: &str, what: &str, way: &str) -> Block {
        Block {
            kind: kind.into(),
            what: what.into(),
            way: way.into(),
            reason: "because \u{0}".into(),
            since_ms: 1,
            blocked: true,
        }
    }

    #[tokio::test]
    async fn what_is_kept_out_is_known_until_it_is_let_in() {
        each_database(async |store| {
            assert_eq!(*store.blocks().await.unwrap(), Blocked::default());
            for one in [
                block(Block::ROOM, "!r:x", ""),
                block(Block::SERVER, "bad.example", "in"),
                block(Block::SERVER, "worse.example:1", "both"),
                block(Block::NAME, "root", ""),
            ] {
                store.block(one).await.unwrap();
            }
            let blocks = store.blocks().await.unwrap();
            assert!(blocks.room(room_id!("!r:x")) && !blocks.room(room_id!("!R:x")));
            let bad = server_name!("BAD.example");
            assert!(blocks.from(bad) && !blocks.to(bad));
            let worse = server_name!("worse.example:1");
            assert!(blocks.from(worse) && blocks.to(worse));
            assert!(!blocks.to(server_name!("worse.example")));
            // Without a port all servers of the host are meant.
            let other = server_name!("bad.example:8448");
            assert!(blocks.from(other) && !blocks.to(other));
            assert!(!blocks.to(server_name!("worse.example:2")));
            assert!(blocks.name("root") && !blocks.name("roo"));
            assert!(!blocks.user(user_id!("@root:x")));
            assert_eq!(store.all_blocks().await.unwrap()[0].what, "root");
            let why = store.block_of(Block::ROOM, "!r:x").await.unwrap();
            assert_eq!(why.unwrap().reason, "because \u{0}");
            assert!(store.unblock(Block::ROOM, "!r:x").await.unwrap());
            let none = store.block_of(Block::ROOM, "!r:x").await.unwrap();
            assert_eq!(none, None);
            assert!(!store.unblock(Block::ROOM, "!r:x").await.unwrap());
            assert!(!store.unblock(Block::NAME, "!r:x").await.unwrap());
            assert!(!store.blocks().await.unwrap().room(room_id!("!r:x")));
            // Again, in another way.
            store
                .block(block(Block::SERVER, "bad.example", "out"))
                .await
                .unwrap();
            let blocks = store.blocks().await.unwrap();
            assert!(blocks.to(bad) && !blocks.from(bad));
            assert_eq!(store.all_blocks().await.unwrap().len(), 3);
        })
        .await;
    }
}
