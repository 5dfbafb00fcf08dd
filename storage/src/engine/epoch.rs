//! Which life of the database a position belongs to.
//!
//! Clients hold positions of the log. When the log goes back, because a backup was restored or a standby
//! took over that lacked the last commits, positions beyond it come again with another meaning; whoever
//! holds one must begin anew. That is what the epoch in each token is for: it is renewed when the operator
//! says so (`rhizome database restored`), and by whoever notices. A token from beyond the log's head is
//! enough evidence if it has the seal of this database: clients could make up the rest.

use std::sync::Arc;

use ring::hmac;

use crate::engine::database::Database;
use crate::engine::lock;
use crate::engine::sql::{Columns as _, Query};
use crate::{Dialect, Error, OpenError, Pos, Result, Store, random};

/// How much of the authentication code a seal has: enough that nobody guesses one.
const SEAL_BYTES: usize = 8;

/// The epoch, and what seals positions.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) now: Arc<str>,
    key: hmac::Key,
}

impl Epoch {
    pub(crate) async fn load(database: &Database, dialect: Dialect) -> Result<Self, OpenError> {
        let now = claim(database, dialect, "epoch", random::hex::<6>()?)
            .await?
            .into();
        let key = claim(database, dialect, "seal", random::hex::<32>()?).await?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Ok(Self { now, key })
    }
}

impl Store {
    /// What sync tokens carry: a token of another epoch counts as absent.
    pub fn epoch(&self) -> Arc<str> {
        lock(&self.core.epoch).now.clone()
    }

    /// The seal of a position in an epoch: who can show it has it from this database.
    pub fn seal(&self, epoch: &str, pos: Pos) -> String {
        let key = lock(&self.core.epoch).key.clone();
        let tag = hmac::sign(&key, format!("{epoch} {}", pos.0).as_bytes());
        crate::engine::db::hex(tag.as_ref().get(..SEAL_BYTES).unwrap_or_default())
    }

    /// Makes all sync tokens void: after a restore, or the promotion of a replica.
    pub async fn renew_epoch(&self) -> Result<Arc<str>> {
        let old = self.epoch();
        // Of several who notice at once, one renews it for all.
        let query = self
            .sql("UPDATE meta SET value = $1 WHERE name = 'epoch' AND value = $2")
            .bind(random::hex::<6>()?)
            .bind(old);
        self.execute(query).await?;
        let row = self.row(self.sql(READ)).await?;
        let row = row.ok_or_else(|| Error::broken("the epoch is gone"))?;
        Ok(self.take_epoch(row.get("value")?))
    }

    /// The database has this epoch by now: another process, or the command line, may have renewed it.
    pub(crate) fn take_epoch(&self, stored: String) -> Arc<str> {
        let mut epoch = lock(&self.core.epoch);
        if *epoch.now != *stored {
            tracing::warn!("the epoch was renewed: clients sync anew");
            epoch.now = stored.into();
        }
        epoch.now.clone()
    }

    /// Somebody has shown a position that this database gave out and doesn't have: the log has gone back.
    pub async fn log_went_back(&self, shown: Pos) -> Result<()> {
        tracing::error!(
            %shown, head = %self.log().head(),
            "a sync token is from beyond the log's end: an older state of the database was restored. \
             Clients sync anew"
        );
        self.renew_epoch().await?;
        Ok(())
    }

    /// The log was at `before` and is behind that now, under a running process. What this one holds in memory
    /// (rooms, numbers that it may give out) is of a life that hasn't been: it ends, to begin anew.
    pub(crate) async fn check_went_back(&self, before: Pos) -> Result<()> {
        // Asked of a connection that writes: another may go to a standby that is behind.
        let rows = self.execute_returning(self.sql(HEAD)).await?;
        let now: Option<Pos> = rows.first().map(|row| row.get("pos")).transpose()?;
        if now.is_some_and(|now| now < before) && !self.closing().is_cancelled() {
            tracing::error!(
                %before, ?now,
                "the log has gone back: an older state of the database was restored under this process, \
                 which ends to begin anew"
            );
            let renewed = self.renew_epoch().await;
            self.closing().cancel();
            renewed?;
        }
        Ok(())
    }
}

const READ: &str = "SELECT value FROM meta WHERE name = 'epoch'";
const HEAD: &str = "SELECT pos FROM counter WHERE id = 1";

/// What stands under this name; `new` if nothing did. Two processes may start at once: the first insert wins
/// for both.
async fn claim(
    database: &Database,
    dialect: Dialect,
    name: &'static str,
    new: String,
) -> Result<String, OpenError> {
    let put = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    let put = Query::new(dialect, put).bind(name).bind(new);
    database.execute(put).await?;
    let read = Query::new(dialect, "SELECT value FROM meta WHERE name = $1").bind(name);
    let row = database.row(read).await?;
    let row = row.ok_or_else(|| Error::broken("what was just written is gone"))?;
    Ok(row.get("value")?)
}
