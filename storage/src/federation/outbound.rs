//! What the sender of events to other servers reads.
//!
//! The commit that stores an event with [`NewEvent::send_to`](crate::NewEvent::send_to) writes, in one
//! transaction with it, a row of `outbound` (position, room, event, destination set) and moves `outbound_last`
//! (destination set → position of the last event that goes to it). So a message costs the same however many servers get
//! it, and a destination has something to get exactly where one of its sets has gone beyond what the sender has noted as
//! sent.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{EventNo, Pos, Result, RoomNo, Store, StoredEvent};

/// What waits for a server ($1) with `$2 < pos ≤ $3`. By the last positions of its sets, so that those that are up to date
/// aren't looked into.
macro_rules! waiting {
    ($what:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM set_member m JOIN outbound_last l ON l.set_no = m.set_no \
             JOIN outbound o ON o.set_no = m.set_no \
             WHERE m.server = $1 AND l.last_pos > $2 AND o.pos > $2 AND o.pos <= $3",
            $rest
        )
    };
}

/// An event that is to be sent: where it stands, in which room, and its number.
pub type Outbound = (Pos, RoomNo, EventNo);

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
            .sql(waiting!("o.event", " ORDER BY o.pos LIMIT $4"))
            .bind(server)
            .bind(after)
            .bind(upto)
            .bind(limit);
        let rows = self.rows(query).await?;
        let nos: Result<Vec<_>> = rows.iter().map(|row| row.get("event")).collect();
        self.events_by_no(&nos?).await
    }

    /// How many events wait for one destination with `after < pos ≤ upto`, counted up to `most`.
    pub async fn outbound_count(
        &self,
        destination: &ServerName,
        (after, upto): (Pos, Pos),
        most: usize,
    ) -> Result<usize> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(0);
        };
        let query = self
            .sql(concat!(
                "SELECT COUNT(*) AS n FROM (",
                waiting!("o.pos", " LIMIT $4"),
                ") AS waiting"
            ))
            .bind(server)
            .bind(after)
            .bind(upto)
            .bind(most);
        let row = self.row(query).await?;
        row.map_or(Ok(0), |row| row.get("n"))
    }

    /// Of the events that wait for one destination with `after < pos ≤ upto` the newest of each room, ascending.
    pub async fn outbound_newest(
        &self,
        destination: &ServerName,
        (after, upto): (Pos, Pos),
    ) -> Result<Vec<Outbound>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(concat!(
                "SELECT e.pos, e.room, e.event FROM (",
                waiting!("MAX(o.pos) AS pos", " GROUP BY o.room"),
                ") AS n JOIN outbound e ON e.pos = n.pos ORDER BY e.pos"
            ))
            .bind(server)
            .bind(after)
            .bind(upto);
        self.rows(query).await?.iter().map(outbound).collect()
    }

    /// Of the events that wait for one destination with `after < pos ≤ upto` those of these rooms, and those that are
    /// sticky.
    pub async fn outbound_that_stays(
        &self,
        destination: &ServerName,
        (after, upto): (Pos, Pos),
        rooms: &[RoomNo],
    ) -> Result<Vec<Outbound>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(waiting!(
                "o.pos, o.room, o.event",
                " AND (o.room IN NUMBERS($4) OR o.event IN (SELECT event FROM sticky WHERE expires_ms > $5)) \
                 ORDER BY o.pos"
            ))
            .bind(server)
            .bind(after)
            .bind(upto)
            .numbers(rooms.iter().copied())
            .bind(self.clock().now_ms());
        self.rows(query).await?.iter().map(outbound).collect()
    }

    /// Of the events at these positions those that one destination is to be sent.
    pub async fn outbound_at(
        &self,
        destination: &ServerName,
        positions: &[Pos],
    ) -> Result<Vec<Outbound>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql(
                "SELECT o.pos, o.room, o.event FROM outbound o \
                 JOIN set_member m ON m.set_no = o.set_no AND m.server = $1 \
                 WHERE o.pos IN NUMBERS($2) ORDER BY o.pos",
            )
            .bind(server)
            .numbers(positions.iter().copied());
        self.rows(query).await?.iter().map(outbound).collect()
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

fn outbound(row: &ReadRow) -> Result<Outbound> {
    Ok((row.get("pos")?, row.get("room")?, row.get("event")?))
}
