//! Deleting, and keeping the list. Every transaction is short, takes the lease's row and the room's row
//! first, and writes nothing where one of the two isn't as expected.

use std::collections::HashMap;

use super::mark::{BODIES, Mark, Marks, bodies};
use super::{Collected, Pass, Swept};
use crate::engine::db::Tx;
use crate::engine::sql::rows;
use crate::{Result, RoomNo, SnapshotNo};

/// Rows that one transaction puts on the list or takes off it.
const ROWS: usize = 1_000;
/// About how many snapshots one transaction deletes.
const DELETED: usize = 100;

rows! {
    /// What is on the list, or shall be.
    struct Candidate {
        no: SnapshotNo,
        since: i64,
    }
}

impl Pass<'_> {
    /// Deletes a room's garbage, those that share nodes before those whose nodes they are.
    pub(super) async fn sweep(
        &self,
        room: RoomNo,
        marks: &Marks,
        done: &mut Collected,
    ) -> Result<Swept> {
        let garbage: Vec<SnapshotNo> = marks.of(Mark::Garbage).collect();
        // How many of the garbage share nodes with each.
        let mut sharers: HashMap<SnapshotNo, usize> = garbage.iter().map(|no| (*no, 0)).collect();
        for batch in garbage.chunks(BODIES) {
            for (no, nodes) in bodies(self.store, batch).await? {
                for at in nodes.refers_to(no) {
                    if let Some(count) = sharers.get_mut(&at) {
                        *count += 1;
                    }
                }
            }
            self.pause().await;
        }
        let mut ready: Vec<SnapshotNo> = sharers
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(no, _)| *no)
            .collect();
        while !ready.is_empty() {
            // Sharers before those whose nodes they are; within a transaction the order is the same to all.
            let mut batch: Vec<SnapshotNo> = Vec::new();
            while !ready.is_empty() && batch.len() < DELETED {
                let next = ready.split_off(ready.len().saturating_sub(BODIES));
                for (no, nodes) in bodies(self.store, &next).await? {
                    for at in nodes.refers_to(no) {
                        if let Some(count) = sharers.get_mut(&at) {
                            *count -= 1;
                            if *count == 0 {
                                ready.push(at);
                            }
                        }
                    }
                }
                batch.extend(next);
            }
            let swept = self.delete(room, &batch, marks).await?;
            if swept != Swept::All {
                return Ok(swept);
            }
            done.deleted += batch.len() as u64;
            self.pause().await;
        }
        Ok(Swept::All)
    }

    /// A transaction with the fence and the room's row, or `None` if the lease is lost.
    async fn fenced(&self, room: RoomNo) -> Result<Option<Tx>> {
        let mut tx = self.store.begin().await?;
        if !self.lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(None);
        }
        let query = tx
            .sql("SELECT no FROM room WHERE no = $1 FOR_UPDATE")
            .bind(room);
        tx.row(query).await?;
        Ok(Some(tx))
    }

    async fn delete(&self, room: RoomNo, batch: &[SnapshotNo], marks: &Marks) -> Result<Swept> {
        let Some(mut tx) = self.fenced(room).await? else {
            return Ok(Swept::LeaseLost);
        };
        let listed = batch.iter().filter_map(|no| {
            let since = *marks.listed.get(no)?;
            Some(Candidate { no: *no, since })
        });
        let listed: Vec<_> = listed.collect();
        // Each is on the list as it was when the pass began, or nothing is deleted. (A `CROSS` join: SQLite
        // would go through the room's whole list, with all of the rows for each.)
        let query = tx
            .sql(
                "DELETE FROM snapshot_candidate WHERE no IN (\
                 SELECT c.no FROM ROWS($1) AS x CROSS JOIN snapshot_candidate c \
                 WHERE c.no = x.no AND c.since = x.since AND c.room = $2)",
            )
            .rows(&listed)
            .bind(room);
        if tx.execute(query).await? != batch.len() as u64 {
            tx.rollback().await;
            return Ok(Swept::Moved);
        }
        let query = tx
            .sql("DELETE FROM state_snapshot WHERE room = $2 AND no IN NUMBERS($1)")
            .numbers(batch.iter().copied())
            .bind(room);
        tx.execute(query).await?;
        tx.commit().await?;
        for no in batch {
            self.store.core.caches.snapshots.remove(no);
        }
        self.store.core.counters.collected(batch.len());
        Ok(Swept::All)
    }

    /// Brings the list up to date.
    pub(super) async fn list(
        &self,
        room: RoomNo,
        marks: &Marks,
        done: &mut Collected,
    ) -> Result<Swept> {
        let new: Vec<SnapshotNo> = marks
            .of(Mark::Spared)
            .filter(|no| !marks.listed.contains_key(no))
            .collect();
        // Needed after all, or not there any more.
        let needed = marks.of(Mark::Needed);
        let needed = needed.filter(|no| marks.listed.contains_key(no));
        let absent = marks.listed.keys().copied();
        let absent = absent.filter(|no| marks.index(*no).is_none());
        let off: Vec<SnapshotNo> = needed.chain(absent).collect();
        for batch in off.chunks(ROWS) {
            let Some(mut tx) = self.fenced(room).await? else {
                return Ok(Swept::LeaseLost);
            };
            let query = tx
                .sql("DELETE FROM snapshot_candidate WHERE no IN NUMBERS($1)")
                .numbers(batch.iter().copied());
            tx.execute(query).await?;
            tx.commit().await?;
        }
        for batch in new.chunks(ROWS) {
            let Some(mut tx) = self.fenced(room).await? else {
                return Ok(Swept::LeaseLost);
            };
            let since = self.store.clock().now_ms();
            let batch: Vec<_> = batch
                .iter()
                .map(|no| Candidate { no: *no, since })
                .collect();
            let query = tx
                .sql(
                    "INSERT INTO snapshot_candidate (no, room, since) \
                     SELECT no, $2, since FROM ROWS($1) AS x WHERE true \
                     ON CONFLICT (no) DO NOTHING",
                )
                .rows(&batch)
                .bind(room);
            done.listed += tx.execute(query).await?;
            tx.commit().await?;
            self.pause().await;
        }
        Ok(Swept::All)
    }
}
