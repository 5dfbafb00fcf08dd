//! How many members of each room a server has, and since when it has any.

use std::collections::BTreeMap;

use super::Maker;
use crate::engine::sql::rows;
use crate::{Result, RoomNo, ServerNo};

/// How a server's number of members in a room moves.
#[derive(Default)]
pub(super) struct Moves {
    by: i64,
    /// Where it went up last.
    up: i64,
    /// Whether it went down before that: maybe nobody was left for a moment.
    fell: bool,
    rose_after: bool,
}

rows! {
    struct ServerRow {
        room: RoomNo,
        server: ServerNo,
        joined: i64,
        since: i64,
    }
}

rows! {
    struct SinceRow {
        room: RoomNo,
        server: ServerNo,
        since: i64,
    }
}

impl Moves {
    pub(super) fn add(&mut self, joined: i64, offset: i64) {
        self.by += joined;
        if joined > 0 {
            self.up = offset;
            self.rose_after |= self.fell;
        } else {
            self.fell = true;
        }
    }
}

/// Writes what has moved.
pub(super) fn write(
    servers: &BTreeMap<(RoomNo, ServerNo), Moves>,
    maker: &mut Maker<'_>,
) -> Result<()> {
    let moved = servers.iter().filter(|(_, moves)| moves.by != 0);
    let counts: Vec<_> = moved
        .map(|((room, server), moves)| ServerRow {
            room: *room,
            server: *server,
            joined: moves.by,
            since: moves.up,
        })
        .collect();
    maker.plan.statements.after(
        "INSERT INTO room_server (room, server, joined, since) \
         SELECT room, server, joined, since + $2 FROM ROWS($1) AS x WHERE true \
         ON CONFLICT (room, server) DO UPDATE SET joined = room_server.joined + excluded.joined, \
         since = CASE WHEN room_server.joined <= 0 THEN excluded.since ELSE room_server.since END",
        &counts,
    )?;
    let anew = servers.iter().filter(|(_, moves)| moves.rose_after);
    let anew: Vec<_> = anew
        .map(|((room, server), moves)| SinceRow {
            room: *room,
            server: *server,
            since: moves.up,
        })
        .collect();
    maker.plan.statements.after(
        "UPDATE room_server SET since = x.since + $2 FROM ROWS($1) AS x \
         WHERE room_server.room = x.room AND room_server.server = x.server",
        &anew,
    )
}
