//! What was to be sent goes when all servers that it was for have it. For one that is away it waits for a while; then
//! the newest event of each room is enough, upon which it can ask for the others; and at last nothing is kept for it.
//! (A cursor that finds nothing goes on to the end of the log.)

use std::collections::HashMap;
use std::time::Duration;

use super::{Pass, Purged};
use crate::engine::sql::Columns as _;
use crate::{Pos, Result, RoomNo, SetNo};

/// For how long all of it waits.
const WAITS: Duration = Duration::from_hours(30 * 24);
/// For how long the newest of a room does.
const NEWEST_WAITS: Duration = Duration::from_hours(180 * 24);

const PIECE: usize = 1_000;
/// Of how many sets it is asked at once how far they are. There may be thousands of servers in each.
const SETS: usize = 10;

/// How far all servers of each set are. One that was never sent anything is at the beginning.
const REACHED: &str = "SELECT m.set_no, MIN(COALESCE(s.sent_pos, 0)) AS reached FROM set_member m \
    JOIN server_name n ON n.no = m.server LEFT JOIN destination_state s ON s.server = n.name \
    WHERE m.set_no IN NUMBERS($1) GROUP BY m.set_no";
const NEEDLESS: &str = "DELETE FROM outbound WHERE pos IN NUMBERS($1)";

/// Something to be sent: where it stands, to which servers, of which room.
type Row = (Pos, SetNo, RoomNo);

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn outbound(&self, purged: &mut Purged) -> Result<bool> {
        let old = self.older_than(WAITS).await?;
        let oldest = self.older_than(NEWEST_WAITS).await?;
        // Cursors go only forwards, so what was true in this pass still is.
        let mut reached: HashMap<SetNo, Pos> = HashMap::new();
        // The newest so far of each room that has waited for too long.
        let mut newest: HashMap<(SetNo, RoomNo), Pos> = HashMap::new();
        let mut after = Pos(i64::MIN);
        loop {
            let query = self
                .store
                .sql("SELECT pos, set_no, room FROM outbound WHERE pos > $1 ORDER BY pos LIMIT $2")
                .bind(after)
                .bind(PIECE);
            let rows = self.store.rows(query).await?;
            let rows: Vec<Row> = rows
                .iter()
                .map(|row| Ok((row.get("pos")?, row.get("set_no")?, row.get("room")?)))
                .collect::<Result<_>>()?;
            if !self.look_up(&rows, &mut reached, purged).await? {
                return Ok(false);
            }
            let mut needless = Vec::new();
            for (pos, set, room) in &rows {
                after = *pos;
                if reached.get(set).is_some_and(|reached| pos <= reached) || *pos <= oldest {
                    needless.push(*pos);
                    continue;
                }
                // What comes later is enough.
                needless.extend(newest.remove(&(*set, *room)));
                if *pos <= old {
                    newest.insert((*set, *room), *pos);
                }
            }
            let mut deleted = 0;
            if !needless.is_empty() {
                let query = self.store.sql(NEEDLESS).numbers(needless);
                deleted = self.store.execute(query).await?;
            }
            if !self.goes_on(purged, deleted).await? {
                return Ok(false);
            }
            if rows.len() < PIECE {
                return Ok(true);
            }
        }
    }

    /// How far the sets of these rows are, those that aren't known yet. `false` if another process has the lease.
    async fn look_up(
        &self,
        rows: &[Row],
        reached: &mut HashMap<SetNo, Pos>,
        purged: &mut Purged,
    ) -> Result<bool> {
        let unknown = rows.iter().map(|(_, set, _)| *set);
        let mut unknown: Vec<SetNo> = unknown.filter(|set| !reached.contains_key(set)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for sets in unknown.chunks(SETS) {
            // Of one without servers nothing is known.
            reached.extend(sets.iter().map(|set| (*set, Pos(0))));
            let query = self.store.sql(REACHED).numbers(sets.iter().copied());
            for row in self.store.rows(query).await? {
                reached.insert(row.get("set_no")?, row.get("reached")?);
            }
            if !self.goes_on(purged, 0).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
