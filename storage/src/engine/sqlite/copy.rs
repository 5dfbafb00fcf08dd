//! A copy of a file in which others read and write.
//!
//! SQLite copies page by page what a read transaction shows, whatever is written meanwhile: a copy outside of one would begin
//! anew with every commit of another process. Writers wait for nothing; only the write-ahead log can't be emptied until it is
//! done (ADR 30).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::error::driver_error;

/// Pages that are copied before somebody is told how far it is.
const PAGES: i32 = 1_000;
/// How often it is tried again while somebody locks one of the two for a moment, and after what time.
const TURNS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Copies everything into a new file, as of one moment. `told`: how many pages are copied, and of how many. Whoever wants the
/// copy to outlive a loss of power has to see it onto the disk.
pub(super) fn copy(
    from: &Connection,
    into: &Path,
    told: &mut dyn FnMut(u64, u64),
) -> sqlx::Result<()> {
    // Everybody's messages are in it.
    let mut made = OpenOptions::new();
    made.write(true).create_new(true).mode(0o600).open(into)?;
    let held = from.execute_batch("BEGIN; SELECT COUNT(*) FROM sqlite_schema;");
    let copied = held
        .map_err(driver_error)
        .and_then(|()| pages(from, into, told));
    let ended = from.execute_batch("ROLLBACK").map_err(driver_error);
    copied.and(ended)?;
    plain(into)
}

fn pages(from: &Connection, into: &Path, told: &mut dyn FnMut(u64, u64)) -> sqlx::Result<()> {
    let mut to = open(into)?;
    // If it isn't copied to its end it is thrown away.
    let setup = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;";
    to.execute_batch(setup).map_err(driver_error)?;
    let backup = Backup::new(from, &mut to).map_err(driver_error)?;
    let mut turns = 0;
    loop {
        let step = backup.step(PAGES).map_err(driver_error)?;
        let now = backup.progress();
        let total = u64::try_from(now.pagecount).unwrap_or(0);
        let left = u64::try_from(now.remaining).unwrap_or(0);
        match step {
            StepResult::Done => {
                told(total, total);
                break;
            }
            StepResult::More => told(total.saturating_sub(left), total),
            _ if turns < TURNS => {
                turns += 1;
                thread::sleep(PAUSE);
            }
            _ => return Err(sqlx::Error::PoolTimedOut),
        }
    }
    drop(backup);
    to.close().map_err(|(_, error)| driver_error(error))
}

/// The copy without a write-ahead log, until a server opens it: whoever only reads it makes no files beside it.
fn plain(file: &Path) -> sqlx::Result<()> {
    let copy = open(file)?;
    let asked = copy.query_row("PRAGMA journal_mode = DELETE", [], |row| {
        row.get::<_, String>(0)
    });
    let mode = asked.map_err(driver_error)?;
    if mode != "delete" {
        let why = format!("the copy keeps the journal mode {mode}");
        return Err(sqlx::Error::Protocol(why));
    }
    copy.close().map_err(|(_, error)| driver_error(error))
}

fn open(file: &Path) -> sqlx::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags).map_err(driver_error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_is_of_the_moment_in_which_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let (file, into) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let writer = Connection::open(&file).unwrap();
        let filled = "PRAGMA journal_mode = WAL; CREATE TABLE t (no INTEGER PRIMARY KEY, text TEXT); \
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) \
            INSERT INTO t SELECT i, hex(zeroblob(400)) FROM n;";
        writer.execute_batch(filled).unwrap();
        let reader = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut told = Vec::new();
        copy(&reader, &into, &mut |done, total| {
            // Another connection changes what isn't copied yet, and what is.
            let change = "UPDATE t SET text = 'new' WHERE no IN (1, 8999); INSERT INTO t (text) VALUES ('new');";
            writer.execute_batch(change).unwrap();
            told.push((done, total));
        })
        .unwrap();
        assert!(told.len() > 1, "{told:?}");
        let (done, total) = *told.last().unwrap();
        assert_eq!(done, total);
        let count = |connection: &Connection| -> i64 {
            let count = "SELECT COUNT(*) + 1000000 * SUM(text = 'new') FROM t";
            connection.query_row(count, [], |row| row.get(0)).unwrap()
        };
        let copied = Connection::open_with_flags(&into, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        assert_eq!(count(&copied), 9_000);
        assert!(
            count(&reader) > 1_000_000,
            "the reader sees what is new again"
        );
        drop(copied);
        let beside = std::fs::read_dir(folder.path()).unwrap().flatten();
        let beside = beside.filter(|one| one.file_name().to_string_lossy().starts_with("b.db"));
        assert_eq!(beside.count(), 1);
        let mode = std::fs::metadata(&into).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // What is there is never overwritten.
        assert!(copy(&reader, &into, &mut |_, _| {}).is_err());
    }
}
