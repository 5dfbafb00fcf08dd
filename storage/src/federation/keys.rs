//! Other servers' signing keys.

use ruma::{OwnedServerName, ServerName};

use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, Query, rows};
use crate::{Result, Store};

/// A signing key that a server has, or has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// `ed25519:…`
    pub key_id: String,
    /// The public key in unpadded base64.
    pub public: String,
    /// In use until then as far as we know, milliseconds since 1970.
    pub valid_until: Option<i64>,
    /// Out of use since then, milliseconds since 1970.
    pub expired: Option<i64>,
}

/// What a server answered about its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyResponse {
    /// The server.
    pub server: OwnedServerName,
    /// The JSON object that it signed.
    pub response: String,
    /// Until when it is valid, milliseconds since 1970.
    pub valid_until: i64,
    /// When we got it, milliseconds since 1970.
    pub fetched: i64,
}

rows! {
    struct KeyRow<'a> {
        key_id: &'a str,
        public: &'a str,
        valid_until: Option<i64>,
        expired: Option<i64>,
    }
}

rows! {
    struct FormerRow<'a> {
        place: usize,
        response: &'a str,
        valid_until: i64,
        fetched: i64,
    }
}

impl Store {
    /// All keys of a server that we have seen, and when we last asked (ms; 0 is never). That time is also the version of
    /// what is stored: it is never the same twice.
    pub async fn server_keys(&self, server: &ServerName) -> Result<(Vec<StoredKey>, i64)> {
        let query = self
            .sql(
                "SELECT k.key_id, k.public, k.valid_until, k.expired, r.fetched \
                 FROM server_key_response r LEFT JOIN server_key k ON k.server = r.server \
                 WHERE r.server = $1 ORDER BY k.key_id LIMIT 200",
            )
            .bind(server);
        let mut keys = Vec::new();
        let mut fetched = 0;
        for row in self.rows(query).await? {
            fetched = row.get("fetched")?;
            // An answer need not have a key that we can use.
            let Some(key_id) = row.get::<Option<String>>("key_id")? else {
                continue;
            };
            keys.push(StoredKey {
                key_id,
                public: row.get("public")?,
                valid_until: row.get("valid_until")?,
                expired: row.get("expired")?,
            });
        }
        Ok((keys, fetched))
    }

    /// What a server last answered about its keys, then what it answered before, newest first, as far as that
    /// was kept.
    pub async fn key_responses(&self, server: &ServerName) -> Result<Vec<KeyResponse>> {
        let query = self
            .sql(
                "SELECT response, valid_until, fetched, -1 AS place FROM server_key_response \
                 WHERE server = $1 UNION ALL \
                 SELECT response, valid_until, fetched, place FROM server_key_former \
                 WHERE server = $1 ORDER BY place",
            )
            .bind(server);
        let mut responses = Vec::new();
        for row in self.rows(query).await? {
            responses.push(KeyResponse {
                server: server.to_owned(),
                response: row.get("response")?,
                valid_until: row.get("valid_until")?,
                fetched: row.get("fetched")?,
            });
        }
        Ok(responses)
    }

    /// Stores an answer and the keys in it; `former` are the answers from before that are kept. Keys seen before
    /// and absent now are kept as they are: they may still be needed for old events.
    ///
    /// All of it only if what is stored is still what was `seen`: that of this time ([`Store::server_keys`]). `false`: somebody
    /// else has stored an answer since, to be looked at first. `answer.fetched` must be later than `seen`.
    pub async fn store_server_keys(
        &self,
        answer: &KeyResponse,
        former: &[KeyResponse],
        keys: &[StoredKey],
        seen: i64,
    ) -> Result<bool> {
        let former: Vec<_> = former
            .iter()
            .enumerate()
            .map(|(place, former)| FormerRow {
                place,
                response: &former.response,
                valid_until: former.valid_until,
                fetched: former.fetched,
            })
            .collect();
        let rows: Vec<_> = keys
            .iter()
            .map(|key| KeyRow {
                key_id: &key.key_id,
                public: &key.public,
                valid_until: key.valid_until,
                expired: key.expired,
            })
            .collect();
        let mut tx = self.begin().await?;
        // First of all, so that others who store for this server wait, and then see that it has changed.
        let query = as_seen(&tx, answer, seen);
        if tx.execute(query).await? == 0 {
            tx.rollback().await;
            return Ok(false);
        }
        let query = tx
            .sql(
                "INSERT INTO server_key (server, key_id, public, valid_until, expired) \
                 SELECT $1, key_id, public, valid_until, expired FROM ROWS($2) AS x WHERE true \
                 ON CONFLICT (server, key_id) DO UPDATE SET public = excluded.public, \
                 valid_until = excluded.valid_until, expired = excluded.expired",
            )
            .bind(&answer.server)
            .rows(&rows);
        tx.execute(query).await?;
        let query = tx
            .sql("DELETE FROM server_key_former WHERE server = $1")
            .bind(&answer.server);
        tx.execute(query).await?;
        if !former.is_empty() {
            let query = tx
                .sql(
                    "INSERT INTO server_key_former (server, place, response, valid_until, fetched) \
                     SELECT $1, place, response, valid_until, fetched FROM ROWS($2) AS x",
                )
                .bind(&answer.server)
                .rows(&former);
            tx.execute(query).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The servers in rooms that `ours` is in whose keys end at or after `from` and before `to` (ms), as far as we know;
    /// those that end first, first.
    pub async fn servers_whose_keys_end(
        &self,
        ours: &ServerName,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<OwnedServerName>> {
        // Keys that a server has dropped without a word have ended earlier than those that it has: its last one counts.
        let query = self
            .sql(
                "SELECT n.name FROM (SELECT server, MAX(valid_until) AS ends FROM server_key \
                 WHERE valid_until IS NOT NULL GROUP BY server) e \
                 JOIN server_name n ON n.name = e.server \
                 WHERE e.ends >= $1 AND e.ends < $2 AND EXISTS (\
                 SELECT 1 FROM room_server r JOIN room_server o ON o.room = r.room AND o.joined > 0 \
                 WHERE r.server = n.no AND r.joined > 0 \
                 AND o.server = (SELECT u.no FROM server_name u WHERE u.name = $3)) \
                 ORDER BY e.ends, n.name LIMIT $4",
            )
            .bind(from)
            .bind(to)
            .bind(ours)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("name")).collect()
    }

    /// Forgets the keys of servers that never had a member in a room of ours: anybody can make us look for those.
    /// The `kept` newest that were fetched at or after `since` (ms) are kept. Gives the number of servers.
    pub async fn forget_strangers_keys(&self, kept: usize, since: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let query = tx
            .sql(
                "DELETE FROM server_key_response WHERE server NOT IN ( \
                     SELECT s.name FROM room_server r JOIN server_name s ON s.no = r.server) \
                 AND server NOT IN ( \
                     SELECT server FROM server_key_response WHERE fetched >= $1 AND server NOT IN ( \
                         SELECT s.name FROM room_server r JOIN server_name s ON s.no = r.server) \
                     ORDER BY fetched DESC, server LIMIT $2)",
            )
            .bind(since)
            .bind(kept);
        let forgotten = tx.execute(query).await?;
        for theirs in [
            "DELETE FROM server_key WHERE server NOT IN (SELECT server FROM server_key_response)",
            "DELETE FROM server_key_former WHERE server NOT IN (SELECT server FROM server_key_response)",
        ] {
            let query = tx.sql(theirs);
            tx.execute(query).await?;
        }
        tx.commit().await?;
        Ok(forgotten)
    }
}

/// Makes the answer the newest one, if what is stored is what was seen.
fn as_seen(tx: &Tx, answer: &KeyResponse, seen: i64) -> Query {
    if seen == 0 {
        let insert = tx.sql(
            "INSERT INTO server_key_response (server, response, valid_until, fetched) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (server) DO NOTHING",
        );
        return insert
            .bind(&answer.server)
            .bind(&answer.response)
            .bind(answer.valid_until)
            .bind(answer.fetched);
    }
    tx.sql(
        "UPDATE server_key_response SET response = $1, valid_until = $2, fetched = $3 \
         WHERE server = $4 AND fetched = $5",
    )
    .bind(&answer.response)
    .bind(answer.valid_until)
    .bind(answer.fetched)
    .bind(&answer.server)
    .bind(seen)
}

#[cfg(test)]
mod tests;
