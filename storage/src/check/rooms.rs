//! Rooms: where they stand, and who is in them.

use std::collections::HashMap;

use ruma::OwnedEventId;

use super::CheckProgress;
use super::ask::{self, Question};
use super::finding::{DERIVED, Fault, Findings, RESTORE, Tally};
use super::moment::Moment;
use crate::engine::sql::Columns as _;
use crate::rooms::heads::extremities_of;
use crate::{EventNo, Extremity, Result, RoomNo};

/// Rooms that are looked at together.
const PIECE: usize = 200;

static QUESTIONS: &[Question] = &[
    Question {
        fault: Fault {
            what: "rooms lack their current state",
            means: "Nobody can do anything in them, or read who is there.",
            next: RESTORE,
        },
        sql: "SELECT r.room_id AS example, COUNT(*) OVER () AS total FROM room r \
              LEFT JOIN state_snapshot s ON s.no = r.snapshot AND s.room = r.no \
              WHERE r.snapshot IS NOT NULL AND s.no IS NULL ORDER BY r.no LIMIT $1",
    },
    Question {
        fault: Fault {
            what: "the numbers of joined or invited members of rooms aren't those of their members",
            means: "Lists of rooms, and clients, show wrong numbers.",
            next: DERIVED,
        },
        // Who was invited from outside is no member that we know of.
        sql: "SELECT r.room_id AS example, COUNT(*) OVER () AS total FROM room r LEFT JOIN (\
              SELECT room, SUM(CASE WHEN membership = 1 THEN 1 ELSE 0 END) AS joined, \
              SUM(CASE WHEN membership = 2 THEN 1 ELSE 0 END) AS invited \
              FROM membership WHERE event IS NOT NULL GROUP BY room) m ON m.room = r.no \
              WHERE r.joined <> COALESCE(m.joined, 0) OR r.invited <> COALESCE(m.invited, 0) \
              ORDER BY r.no LIMIT $1",
    },
    Question {
        fault: Fault {
            what: "the numbers of members that servers have in rooms aren't those of their members",
            means: "Servers don't get events of rooms that they are in, or get those of others.",
            next: DERIVED,
        },
        sql: "SELECT COALESCE(s.name, 'an unknown server') || ' in ' || COALESCE(r.room_id, 'an unknown room') AS example, \
              COUNT(*) OVER () AS total FROM (\
              SELECT room, server FROM (\
              SELECT room, server, joined AS n FROM room_server \
              UNION ALL SELECT room, server, -1 AS n FROM partial_server \
              UNION ALL SELECT m.room, u.server, -1 AS n FROM membership m \
              JOIN user_name u ON u.no = m.user_no WHERE m.membership = 1 AND m.event IS NOT NULL) AS counted \
              GROUP BY room, server HAVING SUM(n) <> 0) AS wrong \
              LEFT JOIN server_name s ON s.no = wrong.server LEFT JOIN room r ON r.no = wrong.room \
              ORDER BY wrong.room, wrong.server LIMIT $1",
    },
    Question {
        fault: Fault {
            what: "memberships rest on events that aren't there",
            means: "The rooms' members can't be listed.",
            next: RESTORE,
        },
        sql: "SELECT COALESCE(u.user_id, 'an unknown user') || ' in ' || COALESCE(r.room_id, 'an unknown room') AS example, \
              COUNT(*) OVER () AS total FROM membership m LEFT JOIN event e ON e.no = m.event AND e.room = m.room \
              LEFT JOIN user_name u ON u.no = m.user_no LEFT JOIN room r ON r.no = m.room \
              WHERE m.event IS NOT NULL AND e.no IS NULL ORDER BY m.room, m.user_no LIMIT $1",
    },
];

const HEADS: Fault = Fault {
    what: "rooms end in events that aren't there",
    means: "Nothing can be sent in them: every new event names the last ones.",
    next: RESTORE,
};

const COUNT: &str = "SELECT COUNT(*) AS count FROM room WHERE version IS NOT NULL";
const ROOMS: &str = "SELECT no, room_id, extremities FROM room \
    WHERE no > $1 AND version IS NOT NULL ORDER BY no LIMIT $2";
const NAMED: &str = "SELECT no, event_id, room FROM event WHERE no IN NUMBERS($1)";

/// A room, and what it ends in: as it says, or why that can't be read.
struct Ends {
    room: RoomNo,
    room_id: String,
    last: std::result::Result<Vec<Extremity>, String>,
}

/// Stored events by number: id and room.
type Stored = HashMap<EventNo, (OwnedEventId, RoomNo)>;

pub(super) async fn check(moment: &mut Moment, progress: &CheckProgress) -> Result<Findings> {
    let found = ask::all(moment, QUESTIONS, progress).await?;
    let count = moment.one(moment.sql(COUNT), "count").await?;
    progress.begin(count);
    let mut heads = HEADS.tally();
    let mut after = RoomNo(i64::MIN);
    loop {
        let query = moment.sql(ROOMS).bind(after).bind(PIECE);
        let mut rooms = Vec::new();
        for row in moment.rows(query).await? {
            let text: String = row.get("extremities")?;
            rooms.push(Ends {
                room: row.get("no")?,
                room_id: row.get("room_id")?,
                last: extremities_of(&text).map_err(|error| error.to_string()),
            });
        }
        let Some(last) = rooms.last() else { break };
        after = last.room;
        let ends = rooms.iter().flat_map(|room| &room.last).flatten();
        let query = moment.sql(NAMED).numbers(ends.map(|end| end.no));
        let mut stored = Stored::new();
        for row in moment.rows(query).await? {
            stored.insert(row.get("no")?, (row.get("event_id")?, row.get("room")?));
        }
        for room in &rooms {
            judge(room, &stored, &mut heads);
        }
        progress.add(rooms.len());
    }
    Ok(found.and(Findings::of([heads])))
}

/// Each end of a room is an event of that room, under its id.
fn judge(room: &Ends, stored: &Stored, heads: &mut Tally) {
    let ends = match &room.last {
        Ok(ends) => ends,
        Err(why) => return heads.add(|| format!("{}: {why}", room.room_id)),
    };
    for end in ends {
        let found = stored.get(&end.no);
        if found.is_none_or(|(id, of)| *id != end.event_id || *of != room.room) {
            heads.add(|| format!("{} in {}", end.event_id, room.room_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;

    #[test]
    fn ends_are_events_of_the_room() {
        let end = |no| Extremity {
            no: EventNo(no),
            event_id: owned_event_id!("$a"),
            depth: 1,
        };
        let room = |last| Ends {
            room: RoomNo(1),
            room_id: "!r".to_owned(),
            last,
        };
        let stored = Stored::from([
            (EventNo(1), (owned_event_id!("$a"), RoomNo(1))),
            (EventNo(2), (owned_event_id!("$a"), RoomNo(2))),
            (EventNo(3), (owned_event_id!("$b"), RoomNo(1))),
        ]);
        for (no, fine) in [(1, true), (2, false), (3, false), (4, false)] {
            let mut heads = HEADS.tally();
            judge(&room(Ok(vec![end(no)])), &stored, &mut heads);
            assert_eq!(Findings::of([heads]).wrong.is_empty(), fine, "{no}");
        }
        let mut heads = HEADS.tally();
        judge(&room(Err("no JSON".to_owned())), &stored, &mut heads);
        assert_eq!(Findings::of([heads]).wrong[0].examples, ["!r: no JSON"]);
    }
}
