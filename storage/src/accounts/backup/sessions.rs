//! What stands in backups: sessions come, are read page by page, and go.

use super::held::{Held, to_purge};
use super::rules::best_of_each;
use super::{Backup, BackupError, BackupSession, BackupState, ROW_BYTES};
use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

/// How many sessions one statement writes or deletes.
const PIECE: usize = 500;
/// How many sessions are read at once: somebody may be slow to take them, and each may be large.
const PAGE: usize = 100;
/// About how many bytes one statement writes, beyond one session.
const PIECE_BYTES: usize = 1 << 20;
/// How many such pieces are one transaction.
const AT_ONCE: usize = 4;

/// Writes sessions; of those that are there already, the ones that the rules prefer (`rules.rs` has the same ones).
/// Gives those that are new or replaced, and how large they are and were, but for [`ROW_BYTES`].
const PUT: &str = "\
    INSERT INTO backup_session \
    (shelf, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data) \
    SELECT $2, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data \
    FROM ROWS($1) AS x WHERE true \
    ON CONFLICT (shelf, room_id, session_id) DO UPDATE SET \
    first_message_index = excluded.first_message_index, \
    forwarded_count = excluded.forwarded_count, is_verified = excluded.is_verified, \
    session_data = excluded.session_data, former = octet_length(backup_session.session_data) \
    + octet_length(backup_session.room_id) + octet_length(backup_session.session_id) \
    WHERE excluded.is_verified > backup_session.is_verified \
    OR (excluded.is_verified = backup_session.is_verified \
    AND (excluded.first_message_index, excluded.forwarded_count) \
    < (backup_session.first_message_index, backup_session.forwarded_count)) \
    RETURNING CAST(octet_length(session_data) + octet_length(room_id) \
    + octet_length(session_id) AS BIGINT) AS bytes, former";

/// Deletes a session.
const DELETE_ONE: &str = "\
    DELETE FROM backup_session WHERE shelf = $1 AND room_id = $2 AND session_id = $3 \
    RETURNING CAST(octet_length(session_data) + octet_length(room_id) \
    + octet_length(session_id) AS BIGINT) AS bytes";

/// Deletes some sessions of a room.
const DELETE_SOME: &str = "\
    DELETE FROM backup_session WHERE shelf = $1 AND room_id = $2 AND session_id IN \
    (SELECT session_id FROM backup_session WHERE shelf = $1 AND room_id = $2 LIMIT $3) \
    RETURNING CAST(octet_length(session_data) + octet_length(room_id) \
    + octet_length(session_id) AS BIGINT) AS bytes";

/// A session's key as it stands in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// The room that it is for.
    pub room_id: String,
    /// The Megolm session.
    pub session_id: String,
    /// From which message on it decrypts.
    pub first_message_index: i64,
    /// How often it was forwarded from device to device.
    pub forwarded_count: i64,
    /// Whether the device that it is from was verified.
    pub is_verified: bool,
    /// The key, encrypted: JSON as it came.
    pub session_data: String,
}

/// Sessions of a backup, and whether there may be more after them.
#[derive(Debug)]
pub struct BackupPage {
    /// By room, then by session.
    pub sessions: Vec<StoredSession>,
    /// Whether the last one isn't the last of all.
    pub more: bool,
}

impl Store {
    /// Puts sessions into the current backup. Of keys for one session the one stays that the specification prefers.
    ///
    /// What clients send at a time is one transaction. Of more than [`AT_ONCE`] pieces it is several, as in SQLite
    /// nobody else writes meanwhile: each leaves count and etag right, and whoever isn't answered may send all of it
    /// again. Before it begins, everything is there: it waits for no client.
    pub async fn put_backup_sessions(
        &self,
        user: UserNo,
        version: i64,
        sessions: Vec<BackupSession<'_>>,
    ) -> Result<BackupState, BackupError> {
        let sessions = best_of_each(sessions);
        let mut pieces = pieces(&sessions).peekable();
        loop {
            let some: Vec<_> = pieces.by_ref().take(AT_ONCE).collect();
            let state = self.put_pieces(user, version, &some).await?;
            if pieces.peek().is_none() {
                return Ok(state);
            }
        }
    }

    async fn put_pieces(
        &self,
        user: UserNo,
        version: i64,
        pieces: &[&[BackupSession<'_>]],
    ) -> Result<BackupState, BackupError> {
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        let held = Held::lock(&mut tx, user).await?;
        let mut backup = held.current(version)?;
        let mut changed = false;
        for piece in pieces {
            let put = tx.sql(PUT).rows(piece).bind(backup.shelf);
            for row in tx.rows(put).await? {
                changed = true;
                backup.bytes += row.get::<usize>("bytes")?;
                if let Some(former) = row.get::<Option<usize>>("former")? {
                    backup.bytes = backup.bytes.saturating_sub(former);
                } else {
                    backup.sessions += 1;
                    backup.bytes += ROW_BYTES;
                }
            }
        }
        if !changed {
            return Ok(backup.state());
        }
        if !held.fits(&backup) {
            return Err(BackupError::Full);
        }
        let state = held.write(&mut tx, backup).await?;
        tx.commit().await?;
        Ok(state)
    }

    /// A session of a backup.
    pub async fn backup_session(
        &self,
        backup: &Backup,
        room_id: &str,
        session_id: &str,
    ) -> Result<Option<StoredSession>> {
        let query = self
            .sql(
                "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, \
                 session_data FROM backup_session \
                 WHERE shelf = $1 AND room_id = $2 AND session_id = $3",
            )
            .bind(backup.shelf)
            .bind(room_id)
            .bind(session_id);
        let row = self.row(query).await?;
        row.map(|row| StoredSession::read(&row)).transpose()
    }

    /// The sessions of a backup, or of a room in it, that come after `last`.
    pub async fn backup_page(
        &self,
        backup: &Backup,
        room_id: Option<&str>,
        last: Option<&StoredSession>,
    ) -> Result<BackupPage> {
        // Rooms and sessions have names that aren't empty.
        let (room, session) = last.map_or(("", ""), |last| (&*last.room_id, &*last.session_id));
        let query = match room_id {
            Some(room_id) => self
                .sql(
                    "SELECT room_id, session_id, first_message_index, forwarded_count, \
                     is_verified, session_data FROM backup_session \
                     WHERE shelf = $1 AND room_id = $3 AND session_id > $4 \
                     ORDER BY room_id, session_id LIMIT $2",
                )
                .bind(backup.shelf)
                .bind(PAGE)
                .bind(room_id)
                .bind(session),
            None => self
                .sql(
                    "SELECT room_id, session_id, first_message_index, forwarded_count, \
                     is_verified, session_data FROM backup_session \
                     WHERE shelf = $1 AND (room_id, session_id) > ($3, $4) \
                     ORDER BY room_id, session_id LIMIT $2",
                )
                .bind(backup.shelf)
                .bind(PAGE)
                .bind(room)
                .bind(session),
        };
        let rows = self.rows(query).await?;
        let sessions: Result<Vec<_>> = rows.iter().map(StoredSession::read).collect();
        Ok(BackupPage {
            sessions: sessions?,
            more: rows.len() == PAGE,
        })
    }

    /// Deletes a session from a backup; that there is none is fine.
    pub async fn delete_backup_session(
        &self,
        user: UserNo,
        version: i64,
        room_id: &str,
        session_id: &str,
    ) -> Result<BackupState, BackupError> {
        self.delete_piece(user, version, room_id, Some(session_id))
            .await
            .map(|(state, _)| state)
    }

    /// Deletes the sessions of a room from a backup, bit by bit.
    pub async fn delete_backup_room(
        &self,
        user: UserNo,
        version: i64,
        room_id: &str,
    ) -> Result<BackupState, BackupError> {
        loop {
            let (state, more) = self.delete_piece(user, version, room_id, None).await?;
            if !more {
                return Ok(state);
            }
        }
    }

    /// Deletes all that a backup holds.
    pub async fn empty_backup(
        &self,
        user: UserNo,
        version: i64,
    ) -> Result<BackupState, BackupError> {
        let shelf = self.next_shelf().await?;
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        let held = Held::lock(&mut tx, user).await?;
        let mut backup = held.find(version)?;
        if backup.sessions == 0 {
            return Ok(backup.state());
        }
        to_purge(&mut tx, backup.shelf).await?;
        (backup.shelf, backup.sessions, backup.bytes) = (shelf, 0, 0);
        let state = held.write(&mut tx, backup).await?;
        tx.commit().await?;
        self.purge_soon();
        Ok(state)
    }

    /// Deletes a session, or some of a room; and whether there may be more of them.
    async fn delete_piece(
        &self,
        user: UserNo,
        version: i64,
        room_id: &str,
        session_id: Option<&str>,
    ) -> Result<(BackupState, bool), BackupError> {
        let _turn = self.backup_turn().await;
        let mut tx = self.begin().await?;
        let held = Held::lock(&mut tx, user).await?;
        let mut backup = held.find(version)?;
        let delete = match session_id {
            Some(_) => tx.sql(DELETE_ONE),
            None => tx.sql(DELETE_SOME),
        };
        let delete = delete.bind(backup.shelf).bind(room_id);
        let delete = match session_id {
            Some(session_id) => delete.bind(session_id),
            None => delete.bind(PIECE),
        };
        let rows = tx.rows(delete).await?;
        if rows.is_empty() {
            return Ok((backup.state(), false));
        }
        let bytes: Result<Vec<usize>> = rows.iter().map(|row| row.get("bytes")).collect();
        backup.lose(&bytes?);
        let state = held.write(&mut tx, backup).await?;
        tx.commit().await?;
        Ok((state, rows.len() == PIECE))
    }
}

impl StoredSession {
    fn read(row: &crate::engine::sql::ReadRow) -> Result<Self> {
        Ok(Self {
            room_id: row.get("room_id")?,
            session_id: row.get("session_id")?,
            first_message_index: row.get("first_message_index")?,
            forwarded_count: row.get("forwarded_count")?,
            is_verified: row.get("is_verified")?,
            session_data: row.get("session_data")?,
        })
    }
}

/// Cuts sessions into what one statement takes.
fn pieces<'a, 'b>(
    mut sessions: &'a [BackupSession<'b>],
) -> impl Iterator<Item = &'a [BackupSession<'b>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = sessions.iter().take(PIECE).take_while(|session| {
            let before = bytes;
            bytes += session.session_data.len();
            before <= PIECE_BYTES
        });
        let (piece, rest) = sessions.split_at(fit.count());
        sessions = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
