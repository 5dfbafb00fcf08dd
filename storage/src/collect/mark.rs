//! Which of a room's snapshots are needed.

use std::collections::HashMap;

use super::Pass;
use crate::engine::db::{Columns as _, json_numbers};
use crate::rooms::snapshot::Nodes;
use crate::{Result, RoomNo, SnapshotNo, Store};

/// A room with more snapshots than this is left alone: each takes nine bytes of memory, and as much again
/// while it waits to be looked into.
const MAX_SNAPSHOTS: usize = 8_000_000;
/// Rows read in one step.
const ROWS: i64 = 5_000;
/// Bodies read in one step. That of a large room's first state has some megabytes.
pub(super) const BODIES: usize = 32;

/// What stands of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing refers to it, and nothing that stays shares its nodes.
    Garbage,
    /// Nothing refers to it, but it isn't on the list for long enough, or shares nodes with such a one.
    Spared,
    /// An event, the room or a needed snapshot refers to it.
    Needed,
}

/// A room's snapshots, ascending, with what stands of each.
pub(super) struct Marks {
    pub(super) all: Vec<SnapshotNo>,
    stands: Vec<Mark>,
    /// How many are `Garbage`.
    garbage: usize,
    /// The list as the pass found it: since when each is on it.
    pub(super) listed: HashMap<SnapshotNo, i64>,
}

impl Marks {
    pub(super) fn of(&self, mark: Mark) -> impl Iterator<Item = SnapshotNo> {
        let both = self.all.iter().zip(&self.stands);
        both.filter(move |(_, of)| **of == mark).map(|(no, _)| *no)
    }

    pub(super) fn index(&self, no: SnapshotNo) -> Option<usize> {
        self.all.binary_search(&no).ok()
    }

    /// Marks one that is `Garbage` so far; gives its index if it was.
    fn raise(&mut self, no: SnapshotNo, to: Mark) -> Option<usize> {
        let index = self.index(no)?;
        let stands = self.stands.get_mut(index)?;
        if *stands != Mark::Garbage {
            return None;
        }
        *stands = to;
        self.garbage -= 1;
        Some(index)
    }
}

impl Pass<'_> {
    /// Looks through a room; `None` if it is too large.
    pub(super) async fn marks(&self, room: RoomNo, cutoff: i64) -> Result<Option<Marks>> {
        // The list first: what comes after it into being is not on it, and keeps what it shares.
        let listed = self.listed(room).await?;
        let Some(all) = self.snapshots(room).await? else {
            return Ok(None);
        };
        let mut marks = Marks {
            stands: vec![Mark::Garbage; all.len()],
            garbage: all.len(),
            all,
            listed,
        };
        let needed = self.referred(room, &mut marks).await?;
        self.spread(needed, Mark::Needed, &mut marks).await?;
        let garbage: Vec<SnapshotNo> = marks.of(Mark::Garbage).collect();
        let mut spared = Vec::new();
        for no in garbage {
            let since = marks.listed.get(&no);
            if since.is_none_or(|since| *since > cutoff) {
                spared.extend(marks.raise(no, Mark::Spared));
            }
        }
        self.spread(spared, Mark::Spared, &mut marks).await?;
        Ok(Some(marks))
    }

    async fn listed(&self, room: RoomNo) -> Result<HashMap<SnapshotNo, i64>> {
        let query = self
            .store
            .sql("SELECT no, since FROM snapshot_candidate WHERE room = $1")
            .bind(room.0);
        let rows = self.store.rows(query).await?;
        rows.iter()
            .map(|row| Ok((SnapshotNo(row.int(0)?), row.int(1)?)))
            .collect()
    }

    async fn snapshots(&self, room: RoomNo) -> Result<Option<Vec<SnapshotNo>>> {
        let mut all: Vec<SnapshotNo> = Vec::new();
        loop {
            let after = all.last().map_or(i64::MIN, |no| no.0);
            let query = self
                .store
                .sql(
                    "SELECT no FROM state_snapshot WHERE room = $1 AND no > $2 \
                     ORDER BY no LIMIT $3",
                )
                .bind(room.0)
                .bind(after)
                .bind(ROWS);
            let rows = self.store.rows(query).await?;
            if rows.is_empty() {
                return Ok(Some(all));
            }
            for row in rows {
                all.push(SnapshotNo(row.int(0)?));
            }
            if all.len() > MAX_SNAPSHOTS {
                return Ok(None);
            }
            self.pause().await;
        }
    }

    /// Marks what the room and its events refer to; gives the indices.
    async fn referred(&self, room: RoomNo, marks: &mut Marks) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        let query = self
            .store
            .sql("SELECT snapshot FROM room WHERE no = $1")
            .bind(room.0);
        if let Some(row) = self.store.row(query).await?
            && let Some(no) = row.int_opt(0)?
        {
            found.extend(marks.raise(SnapshotNo(no), Mark::Needed));
        }
        // An event that moves from one half to the other meanwhile does so by a commit, which is heard of.
        let mut after = (i64::MIN, i64::MIN);
        for half in [PLACED, OUTSIDE] {
            loop {
                let query = self.store.sql(half).bind(room.0).bind(after.0);
                let query = query.bind(after.1).bind(ROWS);
                let rows = self.store.rows(query).await?;
                let Some(last) = rows.last() else { break };
                after = (last.int(0)?, last.int(1)?);
                for row in &rows {
                    for no in [row.int_opt(2)?, row.int_opt(3)?].into_iter().flatten() {
                        found.extend(marks.raise(SnapshotNo(no), Mark::Needed));
                    }
                }
                self.pause().await;
            }
            after = (i64::MIN, i64::MIN);
        }
        Ok(found)
    }

    /// Marks everything whose nodes these refer to, and so on, as far as it is `Garbage` so far.
    async fn spread(&self, from: Vec<usize>, mark: Mark, marks: &mut Marks) -> Result<()> {
        let mut left = from;
        // Where nothing is left over, nobody needs to read what refers to what.
        while !left.is_empty() && marks.garbage > 0 {
            let batch = left.split_off(left.len().saturating_sub(BODIES));
            let nos: Vec<SnapshotNo> = batch.iter().map(|index| marks.all[*index]).collect();
            for (no, nodes) in bodies(self.store, &nos).await? {
                for at in nodes.refers_to(no) {
                    left.extend(marks.raise(at, mark));
                }
            }
            self.pause().await;
        }
        Ok(())
    }
}

/// A room's events with a place in its history, by position, and those without one, by depth.
/// (The first half has no use for `$3`.)
const PLACED: &str = "SELECT ord, no, state_before, state_after FROM event \
    WHERE room = $1 AND ord IS NOT NULL AND ord > $2 AND CAST($3 AS BIGINT) IS NOT NULL \
    ORDER BY ord LIMIT $4";
const OUTSIDE: &str = "SELECT depth, no, state_before, state_after FROM event \
    WHERE room = $1 AND ord IS NULL AND (depth, no) > ($2, $3) ORDER BY depth, no LIMIT $4";

/// These snapshots, past every cache.
pub(super) async fn bodies(store: &Store, nos: &[SnapshotNo]) -> Result<Vec<(SnapshotNo, Nodes)>> {
    let query = store
        .sql(
            "SELECT no, body FROM state_snapshot WHERE no IN \
             (SELECT CAST(value ->> 0 AS BIGINT) FROM EACH($1))",
        )
        .bind(json_numbers(nos.iter().map(|no| no.0)));
    let rows = store.rows(query).await?;
    rows.iter()
        .map(|row| {
            let no = SnapshotNo(row.int(0)?);
            Ok((no, Nodes::decode(no, &row.bytes(1)?)?))
        })
        .collect()
}
