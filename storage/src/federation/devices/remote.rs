//! What is remembered of the devices of users of other servers.

use ruma::ServerName;

use crate::engine::sql::Columns as _;
use crate::{RemoteBasis, RemoteList, Result, Store, UserNo};

/// What is known of the list of devices of a user of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteUser {
    /// Who.
    pub user: UserNo,
    /// What is remembered.
    pub basis: RemoteBasis,
    /// How many devices are remembered.
    pub devices: usize,
    /// How many bytes their keys are.
    pub bytes: usize,
    /// Whether the user shares a room with somebody here,
    pub shares: bool,
    /// and has done so without a break since what is remembered was learned.
    pub held: bool,
}

impl RemoteUser {
    /// Whether what is remembered is what is so, as far as we have been told.
    pub fn is_current(&self) -> bool {
        self.held && self.basis.list.is_some_and(|list| !list.stale)
    }
}

impl Store {
    /// What is known of the lists of users of other servers; `ours` is this one.
    pub async fn remote_users(
        &self,
        users: &[UserNo],
        ours: &ServerName,
    ) -> Result<Vec<RemoteUser>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT u.no AS user_no, r.stream_id, r.learned, r.stale, r.failures, r.retry_at, \
                 l.pos AS changed, \
                 (SELECT COUNT(*) FROM device_keys k WHERE k.user_no = u.no) AS devices, \
                 (SELECT COALESCE(SUM(OCTET_LENGTH(k.keys)), 0) FROM device_keys k \
                 WHERE k.user_no = u.no) AS bytes, \
                 CASE WHEN EXISTS (SELECT 1 FROM membership m \
                 JOIN room_server s ON s.room = m.room AND s.joined > 0 \
                 JOIN server_name o ON o.no = s.server AND o.name = $2 \
                 WHERE m.user_no = u.no AND m.membership = 1) THEN 1 ELSE 0 END AS shared, \
                 CASE WHEN EXISTS (SELECT 1 FROM membership m \
                 JOIN room_server s ON s.room = m.room AND s.joined > 0 AND s.since <= r.learned \
                 JOIN server_name o ON o.no = s.server AND o.name = $2 \
                 WHERE m.user_no = u.no AND m.membership = 1 AND m.since <= r.learned) \
                 THEN 1 ELSE 0 END AS held \
                 FROM user_name u LEFT JOIN remote_devices r ON r.user_no = u.no \
                 LEFT JOIN device_list l ON l.user_no = u.no WHERE u.no IN NUMBERS($1)",
            )
            .numbers(users.iter().copied())
            .bind(ours);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                let basis = RemoteBasis {
                    list: RemoteList::read(row)?,
                    changed: row.get("changed")?,
                };
                Ok(RemoteUser {
                    user: row.get("user_no")?,
                    basis,
                    devices: row.get("devices")?,
                    bytes: row.get("bytes")?,
                    shares: row.get::<i64>("shared")? > 0,
                    held: row.get::<i64>("held")? > 0,
                })
            })
            .collect()
    }

    /// Users of other servers whose lists are stale and may be asked for at `now` (ms), of each server in turn
    /// whoever has waited longest, at most `of_one` of one, and `limit`; and when the next of the others may be.
    pub async fn stale_remote_devices(
        &self,
        now: i64,
        of_one: usize,
        limit: usize,
    ) -> Result<(Vec<UserNo>, Option<i64>)> {
        let query = self
            .sql(
                "SELECT user_no FROM (SELECT r.user_no, r.retry_at, ROW_NUMBER() OVER (\
                 PARTITION BY u.server ORDER BY r.retry_at, r.user_no) AS place \
                 FROM remote_devices r JOIN user_name u ON u.no = r.user_no \
                 WHERE r.stale = 1 AND r.retry_at <= $1) AS x \
                 WHERE place <= $2 ORDER BY place, retry_at, user_no LIMIT $3",
            )
            .bind(now)
            .bind(of_one)
            .bind(limit);
        let rows = self.rows(query).await?;
        let due: Result<_> = rows.iter().map(|row| row.get("user_no")).collect();
        let query = self
            .sql(
                "SELECT MIN(retry_at) AS next FROM remote_devices \
                 WHERE stale = 1 AND retry_at > $1",
            )
            .bind(now);
        let next: Option<Option<i64>> = (self.row(query).await?)
            .map(|row| row.get("next"))
            .transpose()?;
        Ok((due?, next.flatten()))
    }

    /// Users of other servers of whom something is remembered although nobody here shares a room with them; at most
    /// `limit`, after `after`, by number. `ours` is this server.
    pub async fn forgettable_remote_devices(
        &self,
        ours: &ServerName,
        limit: usize,
    ) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT r.user_no FROM remote_devices r WHERE NOT EXISTS (\
                 SELECT 1 FROM membership m \
                 JOIN room_server s ON s.room = m.room AND s.joined > 0 \
                 JOIN server_name o ON o.no = s.server AND o.name = $1 \
                 WHERE m.user_no = r.user_no AND m.membership = 1) ORDER BY r.user_no LIMIT $2",
            )
            .bind(ours)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}
