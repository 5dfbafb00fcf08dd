//! How many members of each room a server has, and since when it has any.

use std::collections::BTreeMap;

use super::Maker;
use crate::engine::sql::rows;
use crate::{Result, RoomNo, ServerNo};

/// How a server's number of members in a room moves.
#[derive(Default)]
pub(super) struct Moves {
    by: i64,
    /// The least that it was by in between: maybe nobody was left for a moment.
    lowest: i64,
    /// Where it went up first, since it was at its lowest.
    up: Option<i64>,
    rose_after_falling: bool,
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
        moved: i64,
        lowest: i64,
    }
}

impl Moves {
    pub(super) fn add(&mut self, joined: i64, offset: i64) {
        self.by += joined;
        if joined > 0 {
            self.up.get_or_insert(offset);
            self.rose_after_falling |= self.lowest < 0;
        } else if self.by < self.lowest {
            self.up = None;
            self.lowest = self.by;
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
            since: moves.up.unwrap_or_default(),
        })
        .collect();
    maker.plan.statements.after(
        "INSERT INTO room_server (room, server, joined, since) \
         SELECT room, server, joined, since + $2 FROM ROWS($1) AS x WHERE true \
         ON CONFLICT (room, server) DO UPDATE SET joined = room_server.joined + excluded.joined, \
         since = CASE WHEN room_server.joined <= 0 THEN excluded.since ELSE room_server.since END",
        &counts,
    )?;
    let anew = servers.iter().filter(|(_, moves)| moves.rose_after_falling);
    let anew: Vec<_> = anew
        .map(|((room, server), moves)| SinceRow {
            room: *room,
            server: *server,
            since: moves.up.unwrap_or_default(),
            moved: moves.by,
            lowest: moves.lowest,
        })
        .collect();
    // Where others stayed all the time, it has been there without a break.
    maker.plan.statements.after(
        "UPDATE room_server SET since = x.since + $2 FROM ROWS($1) AS x \
         WHERE room_server.room = x.room AND room_server.server = x.server \
         AND room_server.joined - x.moved + x.lowest <= 0",
        &anew,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(steps: &[(i64, i64)]) -> (i64, i64, Option<i64>, bool) {
        let mut moves = Moves::default();
        for (joined, offset) in steps {
            moves.add(*joined, *offset);
        }
        (moves.by, moves.lowest, moves.up, moves.rose_after_falling)
    }

    #[test]
    fn a_break_is_where_the_fewest_were_left() {
        assert_eq!(moves(&[(1, 3), (1, 5)]), (2, 0, Some(3), false));
        assert_eq!(moves(&[(-1, 3), (1, 5), (1, 7)]), (1, -1, Some(5), true));
        // Who comes first and goes again leaves no fewer than before.
        assert_eq!(moves(&[(1, 3), (-1, 5), (1, 7)]), (1, 0, Some(3), false));
        assert_eq!(
            moves(&[(-1, 1), (1, 2), (1, 3), (-1, 4)]),
            (0, -1, Some(2), true)
        );
    }
}
