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

    /// Users of other servers whose lists are stale and may be asked for at `now` (ms), longest first, at most
    /// `limit`; and when the next of all may be.
    pub async fn stale_remote_devices(
        &self,
        now: i64,
        limit: usize,
    ) -> Result<(Vec<UserNo>, Option<i64>)> {
        let query = self
            .sql(
                "SELECT user_no, retry_at FROM remote_devices WHERE stale = 1 \
                 ORDER BY retry_at LIMIT $1",
            )
            .bind(limit);
        let (mut due, mut next) = (Vec::new(), None);
        for row in self.rows(query).await? {
            let at: i64 = row.get("retry_at")?;
            if at <= now {
                due.push(row.get("user_no")?);
            } else {
                next = next.or(Some(at));
            }
        }
        Ok((due, next))
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
