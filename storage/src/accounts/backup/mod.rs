//! Backups of room keys that a user's clients make
//! (<https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>): rows of an account alone, which
//! nobody waits for, so they have transactions of their own.
//!
//! The sessions of a backup stand on a *shelf*. Who empties or deletes a backup takes its shelf away from it, which
//! costs one row however much stands there; what stands on a shelf without a backup goes bit by bit (`purge.rs`).

mod held;
mod purge;
mod rules;
mod sessions;
#[cfg(test)]
mod tests;
mod turn;

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Error, Result, Store, UserNo};
use held::{Held, tidy, to_purge};
pub use rules::BackupSession;
pub use sessions::{BackupPage, StoredSession};
pub(crate) use turn::Turn;

/// How many backups an account may have. Clients delete the one before when they begin another.
pub const MOST_BACKUPS: usize = 100;
/// How many bytes the backups of an account may hold: data and ids of sessions, and [`ROW_BYTES`] for each. A session
/// has about a thousand.
pub const MOST_BACKUP_BYTES: usize = 1 << 30;
/// About what a session takes beside its data and ids.
pub const ROW_BYTES: usize = 100;

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Whose.
    user: UserNo,
    /// Which of theirs.
    pub version: i64,
    /// How its sessions are encrypted.
    pub algorithm: String,
    /// What the algorithm needs to know, as JSON.
    pub auth_data: String,
    /// What it holds.
    pub holds: BackupState,
    shelf: i64,
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupState {
    /// Another one whenever that changes.
    pub etag: i64,
    /// How many sessions.
    pub count: usize,
}

/// Why nothing was done with a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is none, or not with this version.
    #[error("There is no such backup")]
    Absent,
    /// There is a newer one: sessions go there.
    #[error("This isn't the current backup any more")]
    Old {
        /// The version of the newer one.
        current: i64,
    },
    /// A backup keeps its algorithm.
    #[error("A backup's algorithm doesn't change")]
    OtherAlgorithm,
    /// There are [`MOST_BACKUPS`].
    #[error("An account has at most {MOST_BACKUPS} backups: delete older ones first")]
    TooMany,
    /// It would hold more than [`MOST_BACKUP_BYTES`].
    #[error(
        "The backups of an account hold at most {MOST_BACKUP_BYTES} bytes: delete older ones first"
    )]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Begins a backup, which is the current one from now on; gives its version.
    pub async fn create_backup(
        &self,
        user: UserNo,
        algorithm: &str,
        auth_data: &str,
    ) -> Result<i64, BackupError> {
        let shelf = self.next_shelf().await?;
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        // One at a time, and none that an account leaves behind.
        let account = tx
            .sql("SELECT user_no FROM account WHERE user_no = $1 AND deactivated = 0 FOR_UPDATE")
            .bind(user);
        if tx.row(account).await?.is_none() {
            return Err(BackupError::Absent);
        }
        let held = Held::lock(&mut tx, user).await?;
        if held.backups().count() >= MOST_BACKUPS {
            return Err(BackupError::TooMany);
        }
        let version = held.newest() + 1;
        let insert = tx
            .sql(
                "INSERT INTO backup \
                 (user_no, version, shelf, algorithm, auth_data, etag, sessions, bytes) \
                 VALUES ($1, $2, $3, $4, $5, 0, 0, 0)",
            )
            .bind(user)
            .bind(version)
            .bind(shelf)
            .bind(algorithm)
            .bind(auth_data);
        tx.execute(insert).await?;
        tidy(&mut tx, user).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// A user's backup with this version, or the current one.
    pub async fn backup(&self, user: UserNo, version: Option<i64>) -> Result<Option<Backup>> {
        let query = self
            .sql(
                "SELECT version, algorithm, auth_data, etag, sessions, shelf FROM backup \
                 WHERE user_no = $1 AND shelf IS NOT NULL AND version = COALESCE($2, \
                 (SELECT MAX(version) FROM backup WHERE user_no = $1 AND shelf IS NOT NULL))",
            )
            .bind(user)
            .bind(version);
        let row = self.row(query).await?;
        row.map(|row| Backup::read(user, &row)).transpose()
    }

    /// Replaces what its algorithm needs to know.
    pub async fn update_backup(
        &self,
        user: UserNo,
        version: i64,
        algorithm: &str,
        auth_data: &str,
    ) -> Result<(), BackupError> {
        let query = self
            .sql(
                "UPDATE backup SET auth_data = $4 \
                 WHERE user_no = $1 AND version = $2 AND algorithm = $3 AND shelf IS NOT NULL",
            )
            .bind(user)
            .bind(version)
            .bind(algorithm)
            .bind(auth_data);
        let turn = self.backup_turn().await;
        let updated = self.execute(query).await?;
        drop(turn);
        if updated == 1 {
            return Ok(());
        }
        match self.backup(user, Some(version)).await? {
            Some(_) => Err(BackupError::OtherAlgorithm),
            None => Err(BackupError::Absent),
        }
    }

    /// Deletes a backup. One that was deleted before is deleted again.
    pub async fn delete_backup(&self, user: UserNo, version: i64) -> Result<(), BackupError> {
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        let held = Held::lock(&mut tx, user).await?;
        let backup = match held.find(version) {
            Ok(backup) => backup,
            // All versions up to the newest were given out.
            Err(_) if (1..=held.newest()).contains(&version) => return Ok(()),
            Err(error) => return Err(error),
        };
        to_purge(&mut tx, backup.shelf).await?;
        let delete = tx
            .sql(
                "UPDATE backup SET shelf = NULL, auth_data = '', sessions = 0, bytes = 0 \
                 WHERE user_no = $1 AND version = $2",
            )
            .bind(user)
            .bind(version);
        tx.execute(delete).await?;
        tidy(&mut tx, user).await?;
        tx.commit().await?;
        self.purge_soon();
        Ok(())
    }

    /// Whether the backup is there, and the sessions that it had are still its own.
    pub async fn has_backup(&self, backup: &Backup) -> Result<bool> {
        let now = self.backup(backup.user, Some(backup.version)).await?;
        Ok(now.is_some_and(|now| now.shelf == backup.shelf))
    }
}

impl Backup {
    fn read(user: UserNo, row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user,
            version: row.get("version")?,
            algorithm: row.get("algorithm")?,
            auth_data: row.get("auth_data")?,
            holds: BackupState {
                etag: row.get("etag")?,
                count: row.get("sessions")?,
            },
            shelf: row.get("shelf")?,
        })
    }
}
