//! Other servers' signing keys.

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::{Columns as _, rows};
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
    /// All keys of a server that we have seen, and when we last asked (ms; 0 is never).
    pub async fn server_keys(&self, server: &ServerName) -> Result<(Vec<StoredKey>, i64)> {
        let query = self
            .sql(
                "SELECT k.key_id, k.public, k.valid_until, k.expired, COALESCE(r.fetched, 0) AS fetched \
                 FROM server_key k LEFT JOIN server_key_response r ON r.server = k.server \
                 WHERE k.server = $1 ORDER BY k.key_id LIMIT 200",
            )
            .bind(server);
        let mut keys = Vec::new();
        let mut fetched = 0;
        for row in self.rows(query).await? {
            fetched = row.get("fetched")?;
            keys.push(StoredKey {
                key_id: row.get("key_id")?,
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
    pub async fn store_server_keys(
        &self,
        answer: &KeyResponse,
        former: &[KeyResponse],
        keys: &[StoredKey],
    ) -> Result<()> {
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
            .sql(
                "INSERT INTO server_key_response (server, response, valid_until, fetched) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (server) DO UPDATE SET \
                 response = excluded.response, valid_until = excluded.valid_until, \
                 fetched = excluded.fetched",
            )
            .bind(&answer.server)
            .bind(&answer.response)
            .bind(answer.valid_until)
            .bind(answer.fetched);
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
        Ok(())
    }

    /// The servers in rooms of ours whose keys end at or after `from` and before `to` (ms), as far as we know; those that
    /// end first, first.
    pub async fn servers_whose_keys_end(
        &self,
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
                 SELECT 1 FROM room_server r WHERE r.server = n.no AND r.joined > 0) \
                 ORDER BY e.ends, n.name LIMIT $3",
            )
            .bind(from)
            .bind(to)
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

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::testing::each_database;

    fn key(id: &str, valid_until: Option<i64>, expired: Option<i64>) -> StoredKey {
        StoredKey {
            key_id: id.to_owned(),
            public: format!("public of {id}"),
            valid_until,
            expired,
        }
    }

    #[tokio::test]
    async fn keys_are_replaced_and_old_ones_kept() {
        each_database(async |store: Store| {
            let server = server_name!("a.example:8448");
            assert_eq!(store.server_keys(server).await.unwrap(), (vec![], 0));
            assert_eq!(store.key_responses(server).await.unwrap(), []);
            let mut answer = KeyResponse {
                server: server.to_owned(),
                response: r#"{"hostile":"\u0000 ' \" é"}"#.to_owned(),
                valid_until: 50,
                fetched: 10,
            };
            let keys = [
                key("ed25519:1", Some(50), None),
                key("ed25519:2", None, Some(5)),
            ];
            store.store_server_keys(&answer, &[], &keys).await.unwrap();
            assert_eq!(
                store.server_keys(server).await.unwrap(),
                (keys.to_vec(), 10)
            );
            let first = answer.clone();
            let responses = store.key_responses(server).await.unwrap();
            assert_eq!(responses, std::slice::from_ref(&first));
            answer.fetched = 20;
            let newer = [
                key("ed25519:1", None, Some(15)),
                key("ed25519:3", Some(90), None),
            ];
            let former = [first.clone(), first.clone()];
            let stored = store.store_server_keys(&answer, &former, &newer);
            stored.await.unwrap();
            let responses = store.key_responses(server).await.unwrap();
            assert_eq!(responses, [answer.clone(), first.clone(), first.clone()]);
            let stored = store.store_server_keys(&answer, &former[..1], &newer);
            stored.await.unwrap();
            let responses = store.key_responses(server).await.unwrap();
            assert_eq!(responses, [answer.clone(), first]);
            let all = vec![newer[0].clone(), keys[1].clone(), newer[1].clone()];
            assert_eq!(store.server_keys(server).await.unwrap(), (all, 20));
            assert_eq!(
                store
                    .server_keys(server_name!("b.example"))
                    .await
                    .unwrap()
                    .0,
                vec![]
            );
        })
        .await;
    }

    #[tokio::test]
    async fn servers_are_told_whose_keys_end() {
        each_database(async |store: Store| {
            for (server, ends, joined) in [
                ("ended", [50, 99], 1_i64),
                ("late", [150, 199], 1),
                ("early", [50, 100], 2),
                ("lasting", [120, 200], 1),
                ("left", [50, 150], 0),
            ] {
                let answer = KeyResponse {
                    server: server.try_into().unwrap(),
                    response: "{}".to_owned(),
                    valid_until: 500,
                    fetched: 1,
                };
                let mut keys = vec![key("ed25519:o", None, Some(150))];
                for ends in ends {
                    keys.push(key(&format!("ed25519:{ends}"), Some(ends), None));
                }
                let stored = store.store_server_keys(&answer, &[], &keys);
                stored.await.unwrap();
                let no = store.server_nos(&[&answer.server]).await.unwrap()[0];
                let query = store
                    .sql("INSERT INTO room_server (room, server, joined) VALUES (1, $1, $2)")
                    .bind(no)
                    .bind(joined);
                store.execute(query).await.unwrap();
            }
            let ending = async |limit| {
                let servers = store.servers_whose_keys_end(100, 200, limit).await;
                let servers = servers.unwrap();
                servers.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            assert_eq!(ending(9).await, ["early", "late"]);
            assert_eq!(ending(1).await, ["early"]);
        })
        .await;
    }

    #[tokio::test]
    async fn keys_of_strangers_are_forgotten() {
        each_database(async |store: Store| {
            let store_keys = async |server: &str, fetched| {
                let answer = KeyResponse {
                    server: server.try_into().unwrap(),
                    response: "{}".to_owned(),
                    valid_until: 50,
                    fetched,
                };
                let keys = [key("ed25519:1", Some(50), None)];
                let former = std::slice::from_ref(&answer);
                let stored = store.store_server_keys(&answer, former, &keys);
                stored.await.unwrap();
            };
            for (server, fetched) in [("old", 1), ("a", 10), ("b", 11), ("c", 12), ("member", 2)] {
                store_keys(server, fetched).await;
            }
            // One of them had a member in a room.
            let no = store.server_nos(&[server_name!("member")]).await.unwrap()[0];
            let query = store
                .sql("INSERT INTO room_server (room, server, joined) VALUES (1, $1, 0)")
                .bind(no);
            store.execute(query).await.unwrap();

            assert_eq!(store.forget_strangers_keys(2, 5).await.unwrap(), 2);
            for (server, is_there) in [
                ("old", false),
                ("a", false),
                ("b", true),
                ("c", true),
                ("member", true),
            ] {
                let server: OwnedServerName = server.try_into().unwrap();
                let (keys, _) = store.server_keys(&server).await.unwrap();
                assert_eq!(!keys.is_empty(), is_there, "{server}");
                let responses = store.key_responses(&server).await.unwrap();
                assert_eq!(responses.len(), if is_there { 2 } else { 0 }, "{server}");
            }
            assert_eq!(store.forget_strangers_keys(9, 20).await.unwrap(), 2);
        })
        .await;
    }
}
