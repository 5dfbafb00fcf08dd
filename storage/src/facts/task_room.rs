//! The room that a task has made: written in the commit that makes it, so that a task which goes on after a crash makes no other.

use super::Kind;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::{Result, RoomNo};

/// A task has made a room.
#[derive(Debug, Clone, Copy)]
pub struct TaskRoom {
    /// Which task.
    pub task: i64,
    /// The room.
    pub room: RoomNo,
}

rows! {
    struct Row {
        no: i64,
        room: RoomNo,
    }
}

impl Kind for TaskRoom {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows: Vec<_> = (facts.iter())
            .map(|(_, made)| Row {
                no: made.task,
                room: made.room,
            })
            .collect();
        statements.before(
            "UPDATE task SET new_room = x.room FROM ROWS($1) AS x WHERE task.no = x.no",
            &rows,
        )
    }
}
