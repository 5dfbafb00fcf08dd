//! What the sender of events to other servers reads.
//!
//! The commit that stores an event with [`NewEvent::send_to`](crate::NewEvent::send_to) writes, in one
//! transaction with it, a row of `outbound` (position, room, event, destination set) and moves
//! `destination_room` (destination, room → last position that it must get). So a destination has
//! something to get exactly where `last_pos` is greater than what the sender has noted as sent.

use std::collections::HashMap;
use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use crate::engine::sql::Columns as _;
use crate::{Pos, Result, RoomNo, ServerNo, SetNo, Store, StoredEvent};

/// An event that must be sent.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Its position.
    pub pos: Pos,
    /// The event.
    pub event: Arc<StoredEvent>,
    /// All servers that must get it.
    pub destinations: Arc<[OwnedServerName]>,
}

/// How far a destination must get in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationRoom {
    /// The room.
    pub room: RoomNo,
    /// The position of the last event that it must get.
    pub last_pos: Pos,
}

impl Store {
    /// Events to send with `after < pos ≤ upto`, to any destination, ascending, at most `limit`.
    pub async fn outbound(&self, after: Pos, upto: Pos, limit: usize) -> Result<Vec<Outbound>> {
        let query = self
            .sql(
                "SELECT o.pos, o.event, o.set_no, d.servers FROM outbound o \
                 JOIN destination_set d ON d.no = o.set_no \
                 WHERE o.pos > $1 AND o.pos <= $2 ORDER BY o.pos LIMIT $3",
            )
            .bind(after)
            .bind(upto)
            .bind(limit);
        let rows = self.rows(query).await?;
        let mut sets: HashMap<SetNo, Arc<[OwnedServerName]>> = HashMap::new();
        let mut out = Vec::with_capacity(rows.len());
        let nos: Result<Vec<_>> = rows.iter().map(|row| row.get("event")).collect();
        for (row, event) in rows.iter().zip(self.events_by_no(&nos?).await?) {
            let set = row.get("set_no")?;
            let known = sets.get(&set).cloned();
            let destinations = if let Some(known) = known {
                known
            } else {
                let nos: Vec<(ServerNo,)> = serde_json::from_str(&row.get::<String>("servers")?)?;
                let nos: Vec<_> = nos.into_iter().map(|(no,)| no).collect();
                let servers: Arc<[_]> = self.servers(&nos).await?.into();
                sets.insert(set, servers.clone());
                servers
            };
            out.push(Outbound {
                pos: row.get("pos")?,
                event,
                destinations,
            });
        }
        Ok(out)
    }

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
        // A set is written `[[1],[2]]`.
        let query = self
            .sql(
                "SELECT o.event FROM outbound o JOIN destination_set d ON d.no = o.set_no \
                 WHERE o.pos > $2 AND o.pos <= $3 AND o.room IN \
                 (SELECT room FROM destination_room WHERE server = $1 AND last_pos > $2) \
                 AND d.servers LIKE '%[' || CAST($1 AS TEXT) || ']%' \
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

    /// The rooms in which the destination must get something after `after`, by last position.
    pub async fn destination_rooms(
        &self,
        destination: &ServerName,
        after: Pos,
        limit: usize,
    ) -> Result<Vec<DestinationRoom>> {
        let Some(server) = self.known_server(destination).await? else {
            return Ok(Vec::new());
        };
        let query = self
            .sql(
                "SELECT room, last_pos FROM destination_room \
                 WHERE server = $1 AND last_pos > $2 ORDER BY last_pos LIMIT $3",
            )
            .bind(server)
            .bind(after)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(DestinationRoom {
                    room: row.get("room")?,
                    last_pos: row.get("last_pos")?,
                })
            })
            .collect()
    }

    /// Destinations that must get something after `after`, with the last position of each.
    pub async fn destinations_after(&self, after: Pos) -> Result<Vec<(OwnedServerName, Pos)>> {
        let query = self
            .sql(
                "SELECT s.name, MAX(r.last_pos) AS last_pos FROM destination_room r \
                 JOIN server_name s ON s.no = r.server \
                 WHERE r.last_pos > $1 GROUP BY s.name",
            )
            .bind(after);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.get("name")?, row.get("last_pos")?)))
            .collect()
    }
}
