//! What somebody had read in a room that they have left concerns nobody: who comes back has read what is there from
//! then on, as far as they say.

use super::{Pass, Purged};
use crate::engine::sql::Columns as _;
use crate::{Pos, Result, RoomNo, UserNo};

const PIECE: usize = 1_000;

/// The next ones by their key, with whether their user is in the room.
const NEXT: &str = "SELECT r.room, r.user_no, r.kind, r.thread, r.pos, \
    CASE WHEN EXISTS (SELECT 1 FROM membership m \
    WHERE m.user_no = r.user_no AND m.room = r.room AND m.membership = 1) THEN 1 ELSE 0 END AS is_there \
    FROM receipt r WHERE (r.room, r.user_no, r.kind, r.thread) > ($1, $2, $3, $4) \
    ORDER BY r.room, r.user_no, r.kind, r.thread LIMIT $5";
/// By their positions: one that has moved since stands elsewhere.
const DELETE: &str = "DELETE FROM receipt WHERE pos IN NUMBERS($1) AND NOT EXISTS (\
    SELECT 1 FROM membership m \
    WHERE m.user_no = receipt.user_no AND m.room = receipt.room AND m.membership = 1)";

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn receipts(&self, purged: &mut Purged) -> Result<bool> {
        let mut after = (
            RoomNo(i64::MIN),
            UserNo(i64::MIN),
            String::new(),
            String::new(),
        );
        loop {
            let (room, user, kind, thread) = &after;
            let query = self
                .store
                .sql(NEXT)
                .bind(*room)
                .bind(*user)
                .bind(kind)
                .bind(thread)
                .bind(PIECE);
            let rows = self.store.rows(query).await?;
            let mut needless: Vec<Pos> = Vec::new();
            for row in &rows {
                if !row.get::<bool>("is_there")? {
                    needless.push(row.get("pos")?);
                }
            }
            if let Some(last) = rows.last() {
                after = (
                    last.get("room")?,
                    last.get("user_no")?,
                    last.get("kind")?,
                    last.get("thread")?,
                );
            }
            let mut deleted = 0;
            if !needless.is_empty() {
                let query = self.store.sql(DELETE).numbers(needless);
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
}
