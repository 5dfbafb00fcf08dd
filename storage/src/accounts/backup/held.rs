//! A user's backups under their lock: of all that change one, in any process, one does so at a time.

use super::{BackupError, BackupState, MOST_BACKUP_BYTES, ROW_BYTES};
use crate::engine::db::Tx;
use crate::engine::sql::Columns as _;
use crate::{Result, UserNo};

/// What stands in the rows of a user's backups.
pub(super) struct Held {
    user: UserNo,
    rows: Vec<HeldBackup>,
    /// The highest version that was ever given out.
    newest: i64,
}

/// A backup, and how it changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldBackup {
    version: i64,
    pub(super) shelf: i64,
    etag: i64,
    pub(super) sessions: usize,
    pub(super) bytes: usize,
}

impl Held {
    /// Locks them and reads them.
    pub(super) async fn lock(tx: &mut Tx, user: UserNo) -> Result<Self> {
        let query = tx
            .sql(
                "SELECT version, shelf, etag, sessions, bytes FROM backup WHERE user_no = $1 \
                 ORDER BY version FOR_UPDATE",
            )
            .bind(user);
        let mut held = Self {
            user,
            rows: Vec::new(),
            newest: 0,
        };
        for row in tx.rows(query).await? {
            let version = row.get("version")?;
            held.newest = held.newest.max(version);
            if let Some(shelf) = row.get("shelf")? {
                held.rows.push(HeldBackup {
                    version,
                    shelf,
                    etag: row.get("etag")?,
                    sessions: row.get("sessions")?,
                    bytes: row.get("bytes")?,
                });
            }
        }
        Ok(held)
    }

    /// Those that aren't deleted, the current one last.
    pub(super) fn backups(&self) -> impl DoubleEndedIterator<Item = &HeldBackup> {
        self.rows.iter()
    }

    /// The highest version that was ever given out.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// The one with this version.
    pub(super) fn find(&self, version: i64) -> Result<HeldBackup, BackupError> {
        let found = self.backups().find(|backup| backup.version == version);
        found.copied().ok_or(BackupError::Absent)
    }

    /// The one with this version, if it is the current one.
    pub(super) fn current(&self, version: i64) -> Result<HeldBackup, BackupError> {
        let found = self.find(version)?;
        match self.backups().next_back() {
            Some(current) if current.version != version => Err(BackupError::Old {
                current: current.version,
            }),
            _ => Ok(found),
        }
    }

    /// Whether all of them would fit if one were like this.
    pub(super) fn fits(&self, changed: &HeldBackup) -> bool {
        let others = self.backups().filter(|one| one.version != changed.version);
        let others: usize = others.map(|one| one.bytes).sum();
        others.saturating_add(changed.bytes) <= MOST_BACKUP_BYTES
    }

    /// Writes one that holds something else now.
    pub(super) async fn write(
        &self,
        tx: &mut Tx,
        mut changed: HeldBackup,
    ) -> Result<BackupState, BackupError> {
        changed.etag += 1;
        let query = tx
            .sql(
                "UPDATE backup SET shelf = $3, etag = $4, sessions = $5, bytes = $6 \
                 WHERE user_no = $1 AND version = $2",
            )
            .bind(self.user)
            .bind(changed.version)
            .bind(changed.shelf)
            .bind(changed.etag)
            .bind(changed.sessions)
            .bind(changed.bytes);
        tx.execute(query).await?;
        Ok(changed.state())
    }
}

impl HeldBackup {
    pub(super) fn state(&self) -> BackupState {
        BackupState {
            etag: self.etag,
            count: self.sessions,
        }
    }

    /// Sessions are gone, each of so many bytes beside [`ROW_BYTES`].
    pub(super) fn lose(&mut self, bytes: &[usize]) {
        self.sessions = self.sessions.saturating_sub(bytes.len());
        let gone = bytes.iter().sum::<usize>() + bytes.len() * ROW_BYTES;
        self.bytes = self.bytes.saturating_sub(gone);
    }
}

/// Nothing refers to this shelf any more.
pub(super) async fn to_purge(tx: &mut Tx, shelf: i64) -> Result<()> {
    let query = tx
        .sql("INSERT INTO backup_gone (shelf) VALUES ($1)")
        .bind(shelf);
    tx.execute(query).await?;
    Ok(())
}

/// Of the deleted ones the newest is enough to go on counting from.
pub(super) async fn tidy(tx: &mut Tx, user: UserNo) -> Result<()> {
    let query = tx
        .sql(
            "DELETE FROM backup WHERE user_no = $1 AND shelf IS NULL AND version < \
             (SELECT MAX(version) FROM backup WHERE user_no = $1)",
        )
        .bind(user);
    tx.execute(query).await?;
    Ok(())
}
