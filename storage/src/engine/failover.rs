//! Connections after a fail-over.
//!
//! A connection that died is dropped when somebody comes across it, with an error each time. And one to a server that has
//! become a standby lives on, and would never write again. So once there was a sign of either, connections from before that
//! are looked at before they are given to anybody: what isn't the database's primary any more is dropped, and a new
//! connection goes where the address leads by now. Meanwhile who asks gets an error that says to try again.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgConnection;

/// For so long after the last sign of trouble: meanwhile each use of such a connection costs a statement more.
const WARY: Duration = Duration::from_mins(1);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When there was the last sign of it, in milliseconds after the start; 0: never. A look too many does no harm, so all
/// stores of a process share it.
static TROUBLE: AtomicU64 = AtomicU64::new(0);

/// Notes an error, if it is such a sign.
pub(crate) fn note(error: &sqlx::Error) {
    let is_sign = match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => {
            let code = database.code();
            code.is_some_and(|code| is_sign(&code))
        }
        _ => false,
    };
    if is_sign {
        TROUBLE.store(now(), Ordering::Relaxed);
    }
}

/// A standby, shutting down, connection trouble: codes of PostgreSQL.
fn is_sign(code: &str) -> bool {
    let connection = code.len() == 5 && code.starts_with("08");
    connection || ["25006", "57P01", "57P02", "57P03"].contains(&code)
}

fn now() -> u64 {
    let since = START.elapsed().as_millis();
    u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
}

/// Whether a connection of this age has to be looked at.
fn is_suspect(age: Duration) -> bool {
    let trouble = TROUBLE.load(Ordering::Relaxed);
    let ago = Duration::from_millis(now().saturating_sub(trouble));
    trouble > 0 && ago < WARY && age >= ago
}

/// Whether a connection to a PostgreSQL may be used. An error drops it as well.
pub(crate) async fn may_be_used(
    connection: &mut PgConnection,
    age: Duration,
) -> sqlx::Result<bool> {
    if !is_suspect(age) {
        return Ok(true);
    }
    let is_standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await?;
    Ok(!is_standby)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_fail_over_are_told_apart() {
        for code in ["25006", "57P01", "57P02", "57P03", "08006", "08003"] {
            assert!(is_sign(code), "{code}");
        }
        for code in ["", "8", "40001", "53100", "23505", "08"] {
            assert!(!is_sign(code), "{code}");
        }
    }
}
