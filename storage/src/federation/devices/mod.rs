//! Lists of devices between servers: what others must be told of users here, and ([`remote`]) what is remembered of
//! theirs.

pub(crate) mod remote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName};

use crate::engine::sql::{Columns as _, rows};
use crate::{Behind, Pos, Result, Store, UserNo};

/// A change of a user's devices or keys that another server must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundDevice {
    /// Its position: the stream id.
    pub pos: Pos,
    /// Whose.
    pub user: UserNo,
    /// The user's name.
    pub user_id: OwnedUserId,
    /// Which device; `None`: the cross-signing keys.
    pub device: Option<OwnedDeviceId>,
    /// The change of a device of the user before this one, if that is still known.
    pub prev: Option<Pos>,
}

/// A user here who has come to share a room with another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSharer {
    /// When.
    pub pos: Pos,
    /// Who.
    pub user: UserNo,
    /// Their name.
    pub user_id: OwnedUserId,
    /// A device of theirs.
    pub device: OwnedDeviceId,
    /// When a device of theirs changed last.
    pub stream: Pos,
}

rows! {
    struct Asked<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
    }
}

/// Each change, and of users whose changes aren't there any more, the last.
const CHANGES: &str = "\
    SELECT c.pos, c.user_no, u.user_id, c.device_id, c.prev FROM (\
    SELECT pos, user_no, device_id, prev FROM device_change WHERE pos > $3 AND pos <= $4 \
    UNION ALL SELECT l.device_pos, l.user_no, l.device_id, NULL FROM device_list l \
    WHERE l.pos > $3 AND l.device_pos > $3 AND l.device_pos <= $4 \
    AND NOT EXISTS (SELECT 1 FROM device_change c WHERE c.pos = l.device_pos) \
    UNION ALL SELECT l.keys_pos, l.user_no, NULL, NULL FROM device_list l \
    WHERE l.pos > $3 AND l.keys_pos > $3 AND l.keys_pos <= $4 \
    AND NOT EXISTS (SELECT 1 FROM device_change c WHERE c.pos = l.keys_pos)) AS c \
    JOIN user_name u ON u.no = c.user_no JOIN server_name o ON o.no = u.server AND o.name = $2 \
    WHERE EXISTS (SELECT 1 FROM membership m \
    JOIN room_server r ON r.room = m.room AND r.joined > 0 AND r.since < c.pos \
    JOIN server_name d ON d.no = r.server AND d.name = $1 \
    WHERE m.user_no = c.user_no AND m.membership = 1) ORDER BY c.pos LIMIT $5";

impl Store {
    /// Changes of devices and keys of users of ours that a destination must be told, ascending: those of users with
    /// whom it shares a room, since it came into that.
    pub async fn device_changes_to(&self, behind: Behind<'_>) -> Result<Vec<OutboundDevice>> {
        let rows = self.rows(behind.bind(self.sql(CHANGES))).await?;
        rows.iter()
            .map(|row| {
                Ok(OutboundDevice {
                    pos: row.get("pos")?,
                    user: row.get("user_no")?,
                    user_id: row.get("user_id")?,
                    device: row.get("device_id")?,
                    prev: row.get("prev")?,
                })
            })
            .collect()
    }

    /// Users of ours who have come into a room in which a destination was, and shared none with it before, and have
    /// devices; by when they came.
    pub async fn new_sharers(&self, behind: Behind<'_>) -> Result<Vec<NewSharer>> {
        let query = self.sql(
            "SELECT MIN(m.since) AS pos, u.no AS user_no, u.user_id, l.device_pos, \
                 (SELECT MIN(device_id) FROM device WHERE user_no = u.no) AS device_id \
                 FROM server_name d \
                 JOIN room_server r ON r.server = d.no AND r.joined > 0 \
                 JOIN membership m ON m.room = r.room AND m.membership = 1 AND m.since >= r.since \
                 AND m.since > $3 AND m.since <= $4 \
                 JOIN user_name u ON u.no = m.user_no \
                 JOIN server_name o ON o.no = u.server AND o.name = $2 \
                 JOIN device_list l ON l.user_no = u.no \
                 WHERE d.name = $1 AND l.device_pos IS NOT NULL \
                 AND EXISTS (SELECT 1 FROM device v WHERE v.user_no = u.no) AND NOT EXISTS (\
                 SELECT 1 FROM membership h JOIN room_server s ON s.room = h.room \
                 AND s.server = d.no AND s.joined > 0 AND s.since <= $3 \
                 WHERE h.user_no = m.user_no AND h.membership = 1 AND h.since <= $3) \
                 GROUP BY u.no, u.user_id, l.device_pos ORDER BY pos LIMIT $5",
        );
        let rows = self.rows(behind.bind(query)).await?;
        rows.iter()
            .map(|row| {
                Ok(NewSharer {
                    pos: row.get("pos")?,
                    device: row.get("device_id")?,
                    user: row.get("user_no")?,
                    user_id: row.get("user_id")?,
                    stream: row.get("device_pos")?,
                })
            })
            .collect()
    }

    /// The servers that share a room with one of these users.
    pub async fn servers_sharing_with(&self, users: &[UserNo]) -> Result<Vec<OwnedServerName>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT DISTINCT n.name FROM membership m \
                 JOIN room_server r ON r.room = m.room AND r.joined > 0 \
                 JOIN server_name n ON n.no = r.server \
                 WHERE m.user_no IN NUMBERS($1) AND m.membership = 1",
            )
            .numbers(users.iter().copied());
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("name")).collect()
    }

    /// The destinations that share a room with a user of `ours` who has come there, or whose devices have changed,
    /// after what they have got.
    pub async fn destinations_behind_in_devices(
        &self,
        ours: &ServerName,
    ) -> Result<Vec<OwnedServerName>> {
        let query = self
            .sql(
                "SELECT n.name FROM (SELECT r.server, MAX(x.pos) AS pos FROM (\
                 SELECT m.room, MAX(CASE WHEN l.pos > m.since THEN l.pos ELSE m.since END) AS pos \
                 FROM membership m JOIN user_name u ON u.no = m.user_no \
                 JOIN server_name o ON o.no = u.server AND o.name = $1 \
                 JOIN device_list l ON l.user_no = m.user_no \
                 WHERE m.membership = 1 GROUP BY m.room) AS x \
                 JOIN room_server r ON r.room = x.room AND r.joined > 0 GROUP BY r.server) AS d \
                 JOIN server_name n ON n.no = d.server AND n.name <> $1 \
                 LEFT JOIN destination_state s ON s.server = n.name \
                 WHERE s.sent_pos IS NULL OR s.sent_pos < d.pos",
            )
            .bind(ours);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("name")).collect()
    }

    /// Those of some devices that are there, with their names.
    pub async fn device_names(
        &self,
        devices: &[(UserNo, OwnedDeviceId)],
    ) -> Result<BTreeMap<(UserNo, OwnedDeviceId), Option<String>>> {
        if devices.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked: Vec<_> = (devices.iter())
            .map(|(user_no, device_id)| Asked {
                user_no: *user_no,
                device_id,
            })
            .collect();
        let query = self
            .sql(
                "SELECT d.user_no, d.device_id, d.name FROM ROWS($1) AS x \
                 JOIN device d ON d.user_no = x.user_no AND d.device_id = x.device_id",
            )
            .rows(&asked);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                let device = (row.get("user_no")?, row.get("device_id")?);
                Ok((device, row.get("name")?))
            })
            .collect()
    }

    /// The stream id of a user's devices: when one of them changed last.
    pub async fn device_stream(&self, user: UserNo) -> Result<Pos> {
        let query = self
            .sql("SELECT device_pos FROM device_list WHERE user_no = $1")
            .bind(user);
        let row = self.row(query).await?;
        let pos: Option<Option<Pos>> = row.map(|row| row.get("device_pos")).transpose()?;
        Ok(pos.flatten().unwrap_or(Pos(0)))
    }

    /// Users whose devices or keys have changed after a position: `user`, and those who share a room with them. Whom
    /// the user has signed is named too: when that was isn't kept.
    pub async fn device_lists_since(&self, user: UserNo, after: Pos) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT l.user_no FROM membership a \
                 JOIN membership b ON b.room = a.room AND b.membership = 1 \
                 JOIN device_list l ON l.user_no = b.user_no AND l.pos > $2 \
                 WHERE a.user_no = $1 AND a.membership = 1 \
                 UNION SELECT user_no FROM device_list WHERE user_no = $1 AND pos > $2 \
                 UNION SELECT target_user FROM key_signature WHERE signer = $1 AND target_user <> $1",
            )
            .bind(user)
            .bind(after);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}
