//! What the sender of events to other servers reads.
//!
//! The commit that stores an event with [`NewEvent::send_to`](crate::NewEvent::send_to) writes, in one
//! transaction with it, a row of `outbound` (position, room, event, destination set) and moves
//! `destination_room` (destination, room → last position that it must get). So a destination has
//! something to get exactly where `last_pos` is greater than what the sender has noted as sent.

use std::collections::HashMap;
use std::sync::Arc;

use ruma::{OwnedServerName, ServerName};

use crate::engine::db::{Columns as _, signed};
use crate::{EventNo, Pos, Result, RoomNo, ServerNo, SetNo, Store, StoredEvent};

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
            .bind(after.0)
            .bind(upto.0)
            .bind(signed(limit));
        let rows = self.rows(query).await?;
        let mut sets: HashMap<SetNo, Arc<[OwnedServerName]>> = HashMap::new();
        let mut out = Vec::with_capacity(rows.len());
        let nos: Result<Vec<_>> = rows.iter().map(|row| Ok(EventNo(row.int(1)?))).collect();
        for (row, event) in rows.iter().zip(self.events_by_no(&nos?).await?) {
            let set = SetNo(row.int(2)?);
            let known = sets.get(&set).cloned();
            let destinations = if let Some(known) = known {
                known
            } else {
                let nos: Vec<(ServerNo,)> = serde_json::from_str(&row.raw(3)?)?;
                let nos: Vec<_> = nos.into_iter().map(|(no,)| no).collect();
                let servers: Arc<[_]> = self.servers(&nos).await?.into();
                sets.insert(set, servers.clone());
                servers
            };
            out.push(Outbound {
                pos: Pos(row.int(0)?),
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
        let query = self
            .sql(
                "SELECT o.event FROM outbound o JOIN destination_set d ON d.no = o.set_no \
                 WHERE o.pos > $2 AND o.pos <= $3 AND o.room IN \
                 (SELECT room FROM destination_room WHERE server = $1 AND last_pos > $2) \
                 AND EXISTS (SELECT 1 FROM EACH(d.servers) WHERE CAST(value ->> 0 AS BIGINT) = $1) \
                 ORDER BY o.pos LIMIT $4",
            )
            .bind(server.0)
            .bind(after.0)
            .bind(upto.0)
            .bind(signed(limit));
        let rows = self.rows(query).await?;
        let nos: Result<Vec<_>> = rows.iter().map(|row| Ok(EventNo(row.int(0)?))).collect();
        self.events_by_no(&nos?).await
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
            .bind(server.0)
            .bind(after.0)
            .bind(signed(limit));
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(DestinationRoom {
                    room: RoomNo(row.int(0)?),
                    last_pos: Pos(row.int(1)?),
                })
            })
            .collect()
    }

    /// Destinations that must get something after `after`, with the last position of each.
    pub async fn destinations_after(&self, after: Pos) -> Result<Vec<(OwnedServerName, Pos)>> {
        let query = self
            .sql(
                "SELECT s.name, MAX(r.last_pos) FROM destination_room r \
                 JOIN server_name s ON s.no = r.server \
                 WHERE r.last_pos > $1 GROUP BY s.name",
            )
            .bind(after.0);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| Ok((row.id(0)?, Pos(row.int(1)?))))
            .collect()
    }
}
