//! What the sender of events to other servers reads.
//!
//! The commit that stores an event with [`NewEvent::send_to`](crate::NewEvent::send_to) writes, in one
//! transaction with it, a row of `outbound` (position, room, event, destination set) and moves `outbound_last`
//! (destination set → position of the last event that goes to it). So a message costs the same however many servers get
//! it, and a destination has something to get exactly where one of its sets has gone beyond what the sender has noted as
//! sent.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::Columns as _;
use crate::{Pos, Result, Store, StoredEvent};

impl Store {
    /// Events to send to one destination with `after < pos ≤ upto`, ascending, at most `limit`.
    pub async fn outbound_to(
        &self,
        destination: &ServerName,
        after: Pos,
        upto: Pos,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT o.event FROM set_member m JOIN outbound_last l ON l.set_no = m.set_no \
                 JOIN outbound o ON o.set_no = m.set_no \
                 WHERE m.server = $1 AND l.last_pos > $2 AND o.pos > $2 AND o.pos <= $3 \
                 ORDER BY o.pos LIMIT $4",
            )
            .bind(server)
            .bind(after)
            .bind(upto)
            .bind(limit);
        let rows = self.rows(query).await?;
        let nos: Result<Vec<_>> = rows.iter().map(|row| row.get("event")).collect();
        self.events_by_no(&nos?).await
    }

    /// Events of users of `ours` that are sticky in rooms which the destination's first user came into with
    /// `after < pos ≤ upto`, and were so before, at positions after `told`; with these, ascending, at most `limit`.
    pub async fn sticky_for_newcomer(
        &self,
        destination: &ServerName,
        ours: &ServerName,
        (after, upto): (Pos, Pos),
        told: Pos,
        limit: usize,
    ) -> Result<Vec<(Pos, Arc<StoredEvent>)>> {
        let theirs = self.known_server(destination).await?;
        let Some((theirs, ours)) = theirs.zip(self.known_server(ours).await?) else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT s.pos, s.event FROM sticky s JOIN user_name w ON w.no = s.sender AND w.server = $2 \
                 JOIN (SELECT m.room AS room, MIN(m.since) AS came FROM membership m \
                 JOIN user_name u ON u.no = m.user_no AND u.server = $1 \
                 WHERE m.membership = 1 AND m.room IN (SELECT room FROM sticky WHERE expires_ms > $6) \
                 GROUP BY m.room) AS c ON c.room = s.room \
                 WHERE c.came > $3 AND c.came <= $4 AND s.pos < c.came AND s.pos > $5 \
                 AND s.expires_ms > $6 AND s.allowed = 1 ORDER BY s.pos LIMIT $7",
            )
            .bind(theirs)
            .bind(ours)
            .bind(after)
            .bind(upto)
            .bind(told)
            .bind(self.clock().now_ms())
            .bind(limit);
        let mut found = Vec::new();
        for row in self.rows(query).await? {
            if let Some(event) = self.event_by_no(row.get("event")?).await? {
                found.push((row.get("pos")?, event));
            }
        }
        Ok(found)
    }

    /// Destinations that must get something after `after`.
    pub async fn destinations_after(&self, after: Pos) -> Result<Vec<OwnedServerName>> {
        let query = self
            .sql(
                "SELECT DISTINCT s.name FROM outbound_last l JOIN set_member m ON m.set_no = l.set_no \
                 JOIN server_name s ON s.no = m.server WHERE l.last_pos > $1",
            )
            .bind(after);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("name")).collect()
    }
}
