//! Row numbers, from blocks that this process has leased. Gaps are fine; numbers never mean order.

use std::ops::Range;

use tokio::sync::Mutex;

use crate::engine::sql::Columns as _;
use crate::{Error, EventNo, KeyNo, Result, RoomNo, ServerNo, SetNo, SnapshotNo, Store, UserNo};

#[derive(Debug, Default)]
pub(crate) struct Blocks {
    event: Block,
    snapshot: Block,
    room: Block,
    user: Block,
    server: Block,
    key: Block,
    set: Block,
    shelf: Block,
    report: Block,
    task: Block,
}

/// What is left of one block, and how large the next one will be.
#[derive(Debug, Default)]
struct Block(Mutex<(Range<i64>, i64)>);

/// A block starts small, so that a small server doesn't waste numbers, and grows with use, so that
/// a busy one seldom asks.
const FIRST_BLOCK: i64 = 64;
const LARGEST_BLOCK: i64 = 16_384;

impl Store {
    /// A number for a new event.
    pub async fn next_event_no(&self) -> Result<EventNo> {
        self.next("event", &self.core.blocks.event).await
    }

    /// Numbers for `count` new events.
    pub async fn next_event_nos(&self, count: usize) -> Result<Vec<EventNo>> {
        self.next_of("event", &self.core.blocks.event, count).await
    }

    /// A number for a new room. Not interned before the room is created.
    pub async fn next_room_no(&self) -> Result<RoomNo> {
        self.next("room", &self.core.blocks.room).await
    }

    pub(crate) async fn next_snapshot_no(&self) -> Result<SnapshotNo> {
        self.next("snapshot", &self.core.blocks.snapshot).await
    }

    pub(crate) async fn next_set_no(&self) -> Result<SetNo> {
        self.next("set", &self.core.blocks.set).await
    }

    /// A shelf for the sessions of a backup (`accounts/backup/`).
    pub(crate) async fn next_shelf(&self) -> Result<i64> {
        self.next("shelf", &self.core.blocks.shelf).await
    }

    /// A number for a report of what is improper.
    pub(crate) async fn next_report_no(&self) -> Result<i64> {
        self.next("report", &self.core.blocks.report).await
    }

    /// A number for a task.
    pub(crate) async fn next_task_no(&self) -> Result<i64> {
        self.next("task", &self.core.blocks.task).await
    }

    pub(crate) async fn next_user_nos(&self, count: usize) -> Result<Vec<UserNo>> {
        self.next_of("user", &self.core.blocks.user, count).await
    }

    pub(crate) async fn next_server_nos(&self, count: usize) -> Result<Vec<ServerNo>> {
        self.next_of("server", &self.core.blocks.server, count)
            .await
    }

    pub(crate) async fn next_key_nos(&self, count: usize) -> Result<Vec<KeyNo>> {
        self.next_of("key", &self.core.blocks.key, count).await
    }

    async fn next<No: From<i64>>(&self, name: &'static str, block: &Block) -> Result<No> {
        Ok(self.take(name, block, 1).await?.start.into())
    }

    async fn next_of<No: From<i64>>(
        &self,
        name: &'static str,
        block: &Block,
        count: usize,
    ) -> Result<Vec<No>> {
        Ok(self.take(name, block, count).await?.map(No::from).collect())
    }

    /// `count` numbers in a row.
    async fn take(&self, name: &'static str, block: &Block, count: usize) -> Result<Range<i64>> {
        let count = i64::try_from(count).map_err(|_| Error::broken("too many numbers at once"))?;
        let mut guard = block.0.lock().await;
        let (left, size) = &mut *guard;
        if left.end - left.start < count {
            *size = (*size * 2).clamp(FIRST_BLOCK, LARGEST_BLOCK);
            *left = self.take_block(name, count.max(*size)).await?;
        }
        let start = left.start;
        left.start += count;
        Ok(start..start + count)
    }

    async fn take_block(&self, name: &'static str, size: i64) -> Result<Range<i64>> {
        let query = self
            .sql(
                "INSERT INTO lease_block (name, next) VALUES ($1, 1 + $2) \
                 ON CONFLICT (name) DO UPDATE SET next = lease_block.next + $2 RETURNING next",
            )
            .bind(name)
            .bind(size);
        let rows = self.execute_returning(query).await?;
        let row = rows
            .first()
            .ok_or_else(|| Error::broken("a lease returned nothing"))?;
        let end: i64 = row.get("next")?;
        Ok(end - size..end)
    }
}
