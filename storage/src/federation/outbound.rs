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

/// What waits in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestOutbound {
    /// Which room.
    pub room: RoomNo,
    /// Where the newest of it stands,
    pub pos: Pos,
    /// and its number.
    pub event: EventNo,
    /// How many events wait there.
    pub waiting: usize,
}

/// An event of a room's history, and whether it waits for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Where it stands.
    pub pos: Pos,
    /// Its number.
    pub event: EventNo,
    /// Whether it waits.
    pub waits: bool,
}

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

    /// The first event to send to one destination with `after < pos ≤ upto`. What it costs follows the sets that the
    /// destination is in, not how much waits.
    pub async fn outbound_first(
        &self,
        destination: &ServerName,
        (after, upto): (Pos, Pos),
    ) -> Result<Option<Arc<StoredEvent>>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(None);
        };
        let query = self
            .sql(
                "SELECT e.event FROM outbound e WHERE e.pos = (SELECT MIN(f.pos) FROM (\
                 SELECT (SELECT MIN(o.pos) FROM outbound o WHERE o.set_no = m.set_no AND o.pos > $2) AS pos \
                 FROM set_member m JOIN outbound_last l ON l.set_no = m.set_no \
                 WHERE m.server = $1 AND l.last_pos > $2) AS f WHERE f.pos <= $3)",
            )
            .bind(server)
            .bind(after)
            .bind(upto);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        self.event_by_no(row.get("event")?).await
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
    ) -> Result<Vec<NewestOutbound>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(concat!(
                "SELECT e.pos, e.room, e.event, n.waiting FROM (",
                waiting!("MAX(o.pos) AS pos, COUNT(*) AS waiting", " GROUP BY o.room"),
                ") AS n JOIN outbound e ON e.pos = n.pos ORDER BY e.pos"
            ))
            .bind(server)
            .bind(after)
            .bind(upto);
        self.rows(query).await?.iter().map(newest).collect()
    }

    /// Of the events that wait for one destination in a room those with `after < pos ≤ upto`, ascending, at most `limit`.
    pub async fn outbound_of_room(
        &self,
        destination: &ServerName,
        room: RoomNo,
        (after, upto): (Pos, Pos),
        limit: usize,
    ) -> Result<Vec<Outbound>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT o.pos, o.room, o.event FROM outbound o \
                 JOIN set_member m ON m.set_no = o.set_no AND m.server = $1 \
                 WHERE o.room = $2 AND o.pos > $3 AND o.pos <= $4 ORDER BY o.pos LIMIT $5",
            )
            .bind(server)
            .bind(room)
            .bind(after)
            .bind(upto)
            .bind(limit);
        self.rows(query).await?.iter().map(outbound).collect()
    }

    /// The newest `limit` live events of a room with `after < pos ≤ upto`, whoever they are of, with whether they wait for one
    /// destination; newest first.
    pub async fn outbound_walk(
        &self,
        destination: &ServerName,
        room: RoomNo,
        (after, upto): (Pos, Pos),
        limit: usize,
    ) -> Result<Vec<Walked>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT e.ord, e.no, CASE WHEN EXISTS (SELECT 1 FROM outbound o \
                 JOIN set_member m ON m.set_no = o.set_no AND m.server = $1 WHERE o.pos = e.ord) \
                 THEN 1 ELSE 0 END AS waits FROM event e WHERE e.room = $2 AND e.ord IS NOT NULL \
                 AND e.ord > $3 AND e.ord <= $4 ORDER BY e.ord DESC LIMIT $5",
            )
            .bind(server)
            .bind(room)
            .bind(after.0.max(0))
            .bind(upto)
            .bind(limit);
        self.rows(query).await?.iter().map(walked).collect()
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

fn newest(row: &ReadRow) -> Result<NewestOutbound> {
    Ok(NewestOutbound {
        room: row.get("room")?,
        pos: row.get("pos")?,
        event: row.get("event")?,
        waiting: row.get("waiting")?,
    })
}

fn walked(row: &ReadRow) -> Result<Walked> {
    Ok(Walked {
        pos: row.get("ord")?,
        event: row.get("no")?,
        waits: row.get("waits")?,
    })
}
