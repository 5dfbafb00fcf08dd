//! Rows of rooms whose state isn't known in full: that they aren't, whom to ask, and what rests upon that.

use std::collections::BTreeMap;

use rhizome_protocol::visibility::HistoryVisibility;

use super::{Maker, Planned};
use crate::commit::decide::GroupState;
use crate::engine::sql::rows;
use crate::rooms::relation;
use crate::{DecidedAgain, EventNo, Partial, Result, RoomNo, ServerNo, SnapshotNo, Status};

rows! {
    struct RoomRow {
        room: RoomNo,
        joined: Option<EventNo>,
    }
}

rows! {
    struct AskRow {
        room: RoomNo,
        joined_ms: i64,
        ask: String,
    }
}

rows! {
    struct ServerRow {
        room: RoomNo,
        server: ServerNo,
        since: i64,
    }
}

rows! {
    struct EventRow {
        event: EventNo,
        joined: EventNo,
    }
}

rows! {
    struct AgainRow<'a> {
        no: EventNo,
        status: Status,
        reason: Option<&'a str>,
        state_before: Option<SnapshotNo>,
        state_after: Option<SnapshotNo>,
        visibility: Option<HistoryVisibility>,
        placed: bool,
    }
}

rows! {
    struct GoneRow {
        target: EventNo,
    }
}

impl Maker<'_> {
    /// To be done when the rows of events and of members are planned: counts of servers move after those of members.
    pub(super) fn partial(&mut self, known: &GroupState, now: i64) -> Result<()> {
        let partial = &known.partial;
        if partial.moved.is_empty() && partial.events.is_empty() {
            return Ok(());
        }
        let over: Vec<_> = (partial.over.iter())
            .map(|room| RoomRow {
                room: *room,
                joined: None,
            })
            .collect();
        let statements = &mut self.plan.statements;
        statements.after(
            "UPDATE room_server SET joined = joined - 1 WHERE (room, server) IN \
             (SELECT room, server FROM partial_server WHERE room IN (SELECT room FROM ROWS($1) AS x))",
            &over,
        )?;
        statements.after(
            "DELETE FROM partial_server WHERE room IN (SELECT room FROM ROWS($1) AS x)",
            &over,
        )?;
        statements.after(
            "DELETE FROM partial_room WHERE room IN (SELECT room FROM ROWS($1) AS x)",
            &over,
        )?;
        self.begun(now)?;
        self.again()?;
        let moved: Vec<_> = (partial.moved.iter())
            .map(|room| RoomRow {
                room: *room,
                joined: known
                    .rooms
                    .get(room)
                    .and_then(|head| head.as_ref()?.partial),
            })
            .collect();
        let events: Vec<_> = (partial.events.iter())
            .map(|(event, joined)| EventRow {
                event: *event,
                joined: *joined,
            })
            .collect();
        let statements = &mut self.plan.statements;
        statements.after(
            "UPDATE room SET partial_join = x.joined FROM ROWS($1) AS x WHERE room.no = x.room",
            &moved,
        )?;
        statements.before(
            "INSERT INTO partial_event (event, joined) SELECT event, joined FROM ROWS($1) AS x \
             WHERE true ON CONFLICT (event) DO UPDATE SET joined = excluded.joined",
            &events,
        )
    }

    /// Rooms that are partial from here on.
    fn begun(&mut self, now: i64) -> Result<()> {
        let mut firsts: BTreeMap<RoomNo, i64> = BTreeMap::new();
        for (offset, room) in self.planned(|planned| match planned {
            Planned::Event { job, room, .. } | Planned::State { job, room, .. } => {
                Some(self.job(*job)?.set.rooms.get(*room)?.room)
            }
            Planned::Restored { .. } | Planned::Fact { .. } => None,
        }) {
            firsts.entry(room).or_insert(offset);
        }
        let (mut asks, mut servers) = (Vec::new(), Vec::new());
        for (_, job) in self.accepted {
            for (write, gathered) in job.set.rooms.iter().zip(&job.gathered.rooms) {
                let Partial::Begins(begun) = &write.partial else {
                    continue;
                };
                asks.push(AskRow {
                    room: write.room,
                    joined_ms: now,
                    ask: serde_json::to_string(&begun.ask)?,
                });
                let since = firsts.get(&write.room).copied().unwrap_or_default();
                servers.extend(gathered.told_servers.iter().map(|server| ServerRow {
                    room: write.room,
                    server: *server,
                    since,
                }));
            }
        }
        let statements = &mut self.plan.statements;
        statements.after(
            "INSERT INTO partial_room (room, joined_ms, ask, tries, retry_at) \
             SELECT room, joined_ms, ask, 0, 0 FROM ROWS($1) AS x",
            &asks,
        )?;
        statements.after(
            "INSERT INTO partial_server (room, server) SELECT room, server FROM ROWS($1) AS x",
            &servers,
        )?;
        statements.after(
            "INSERT INTO room_server (room, server, joined, since) \
             SELECT room, server, 1, since + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (room, server) DO UPDATE SET joined = room_server.joined + 1, \
             since = CASE WHEN room_server.joined <= 0 THEN excluded.since ELSE room_server.since END",
            &servers,
        )
    }

    /// What is so after all of events that were decided upon partial state.
    fn again(&mut self) -> Result<()> {
        let completing: Vec<_> = (self.writes())
            .filter_map(|write| Some((write.room, write.completes()?)))
            .collect();
        let joins: Vec<_> = (completing.iter())
            .map(|(room, completing)| RoomRow {
                room: *room,
                joined: Some(completing.join),
            })
            .collect();
        let again = || {
            completing
                .iter()
                .flat_map(|(_, completing)| &completing.again)
        };
        let rows: Vec<_> = again().map(again_row).collect();
        let gone = again().filter(|again| again.status != Status::Accepted);
        let gone: Vec<_> = gone.map(|again| GoneRow { target: again.no }).collect();
        let statements = &mut self.plan.statements;
        statements.after(relation::rows::OUT_OF_THREADS, &gone)?;
        statements.after(relation::rows::DELETE, &gone)?;
        statements.after(
            "DELETE FROM sticky WHERE allowed = 1 AND event IN (SELECT target FROM ROWS($1) AS x)",
            &gone,
        )?;
        statements.after(
            "UPDATE event SET status = x.status, reason = x.reason, state_before = x.state_before, \
             state_after = x.state_after, visibility = x.visibility, \
             ord = CASE WHEN x.placed = 1 THEN event.ord END \
             FROM ROWS($1) AS x WHERE event.no = x.no",
            &rows,
        )?;
        statements.after(
            "UPDATE relation SET visibility = COALESCE(x.visibility, 1) FROM ROWS($1) AS x \
             WHERE relation.child = x.no",
            &rows,
        )?;
        statements.after(
            "DELETE FROM partial_event WHERE joined IN (SELECT joined FROM ROWS($1) AS x)",
            &joins,
        )
    }
}

fn again_row(again: &DecidedAgain) -> AgainRow<'_> {
    AgainRow {
        no: again.no,
        status: again.status,
        reason: again.reason.as_deref(),
        state_before: again.state_before,
        state_after: again.state_after,
        visibility: again.visibility,
        placed: again.status == Status::Accepted,
    }
}
