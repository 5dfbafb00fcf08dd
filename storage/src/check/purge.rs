//! What is there only until it is next purged. None of it is wrong: who wonders why a database is large finds it here.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use super::finding::Findings;
use super::moment::Moment;
use super::{CheckOptions, CheckProgress};
use crate::accounts::services::REMEMBERED;
use crate::collect::Collecting;
use crate::collect::purge::{FILTERS, TRANSACTIONS};
use crate::engine::clock::millis;
use crate::facts::delayed::read::KEPT_FOR;
use crate::facts::purge::{tables, told_upto};
use crate::facts::sliding::purge::AGE as SLIDING;
use crate::facts::to_device::purge::{DONE, SEEN, WAITS};
use crate::{Options, Pos, Result};

/// Rows that go when they have got so old.
struct Old {
    what: &'static str,
    /// How many there are from before `$1` (ms).
    sql: &'static str,
    age: Duration,
}

const OLD: &[Old] = &[
    Old {
        what: "events that are sticky no more",
        sql: "SELECT COUNT(*) AS count FROM sticky WHERE expires_ms <= $1",
        age: Duration::ZERO,
    },
    Old {
        what: "delayed events that are over",
        sql: "SELECT COUNT(*) AS count FROM delayed_event WHERE finalised_ms <= $1",
        age: KEPT_FOR,
    },
    Old {
        what: "connections of sliding sync that nobody uses",
        sql: "SELECT COUNT(*) AS count FROM sliding_connection WHERE seen_ms < $1",
        age: SLIDING,
    },
    Old {
        what: "messages that devices didn't come for",
        sql: "SELECT COUNT(*) AS count FROM to_device WHERE received_ms < $1",
        age: WAITS,
    },
    Old {
        what: "messages that servers couldn't be given",
        sql: "SELECT COUNT(*) AS count FROM to_device_out WHERE queued_ms < $1",
        age: WAITS,
    },
    Old {
        what: "transactions of messages to devices",
        sql: "SELECT COUNT(*) AS count FROM to_device_txn WHERE done_ms < $1",
        age: DONE,
    },
    Old {
        what: "ids of messages to devices that were taken",
        sql: "SELECT COUNT(*) AS count FROM to_device_seen WHERE seen_ms < $1",
        age: SEEN,
    },
    Old {
        what: "ids of clients' transactions",
        sql: "SELECT COUNT(*) AS count FROM client_transaction WHERE ts < $1",
        age: TRANSACTIONS,
    },
    Old {
        what: "filters that nobody uses",
        sql: "SELECT COUNT(*) AS count FROM client_filter f WHERE f.used_ms < $1 AND EXISTS (\
              SELECT 1 FROM client_filter n WHERE n.user_no = f.user_no AND n.id > f.id)",
        age: FILTERS,
    },
    Old {
        what: "tokens for logging in that have expired",
        sql: "SELECT COUNT(*) AS count FROM login_token WHERE expires_ms <= $1",
        age: Duration::ZERO,
    },
    Old {
        what: "steps of authentication that were never finished",
        sql: "SELECT COUNT(*) AS count FROM uia_session WHERE expires_ms <= $1",
        age: Duration::ZERO,
    },
    Old {
        what: "OpenID tokens that have expired",
        sql: "SELECT COUNT(*) AS count FROM openid_token WHERE expires_ms <= $1",
        age: Duration::ZERO,
    },
    Old {
        what: "codes for addresses that have expired",
        sql: "SELECT COUNT(*) AS count FROM validation WHERE expires_ms <= $1",
        age: Duration::ZERO,
    },
    Old {
        what: "previews of links that have expired",
        sql: "SELECT COUNT(*) AS count FROM url_preview WHERE expires <= $1",
        age: Duration::ZERO,
    },
    Old {
        what: "application services that aren't registered any more",
        sql: "SELECT COUNT(*) AS count FROM appservice WHERE seen_ms < $1",
        age: REMEMBERED,
    },
    Old {
        what: "ids of files for which nothing came",
        sql: "SELECT COUNT(*) AS count FROM media WHERE pending <= $1",
        age: Duration::ZERO,
    },
];

/// Rows that go whatever their age.
const GONE: &[(&str, &str)] = &[
    (
        "sessions of backups of keys that were deleted",
        "SELECT COUNT(*) AS count FROM backup_session s JOIN backup_gone g ON g.shelf = s.shelf",
    ),
    (
        "messages for devices that have gone",
        "SELECT COUNT(*) AS count FROM to_device t LEFT JOIN device d \
         ON d.user_no = t.user_no AND d.device_id = t.device_id WHERE d.user_no IS NULL",
    ),
    (
        "transactions of application services that nobody remembers",
        "SELECT COUNT(*) AS count FROM appservice_txn t LEFT JOIN appservice s ON s.id = t.id \
         WHERE s.id IS NULL",
    ),
    (
        "files whose bytes are about to be deleted",
        "SELECT COUNT(*) AS count FROM media_blob WHERE doomed = 1",
    ),
];

const SNAPSHOTS: &str = "SELECT COUNT(*) AS count FROM snapshot_candidate WHERE since <= $1";
const DEVICES: &str = "SELECT COUNT(*) AS count FROM device d WHERE d.last_seen_ms < $1 \
    AND NOT EXISTS (SELECT 1 FROM dehydrated_device h \
    WHERE h.user_no = d.user_no AND h.device_id = d.device_id)";
const BLOBS: &str = "SELECT COUNT(*) AS count FROM media_blob b WHERE b.touched < $1 AND b.doomed = 0 \
    AND NOT EXISTS (SELECT 1 FROM media m WHERE m.blob = b.key) \
    AND NOT EXISTS (SELECT 1 FROM media_thumbnail t WHERE t.blob = b.key) \
    AND NOT EXISTS (SELECT 1 FROM media_upload_part p WHERE p.blob = b.key)";

/// How many rows only tell what happened at `$1` or before.
static TOLD: LazyLock<String> = LazyLock::new(|| {
    let mut sql =
        String::from("SELECT COUNT(*) AS count FROM (SELECT pos FROM revocation WHERE false");
    for table in tables() {
        // Writing to a string can't fail.
        let _ = write!(sql, " UNION ALL SELECT pos FROM {table} WHERE pos <= $1");
    }
    sql.push_str(") AS told");
    sql
});

pub(super) async fn check(
    moment: &mut Moment,
    options: &CheckOptions,
    progress: &CheckProgress,
) -> Result<Findings> {
    let now = options.clock.now_ms();
    let before = |age: Duration| now.saturating_sub(millis(age));
    progress.begin((OLD.len() + GONE.len() + 4) as u64);
    let mut found = Findings::default();
    for old in OLD {
        let query = moment.sql(old.sql).bind(before(old.age));
        note(&mut found, moment.one(query, "count").await?, old.what);
        progress.add(1);
    }
    for (what, sql) in GONE {
        note(
            &mut found,
            moment.one(moment.sql(sql), "count").await?,
            what,
        );
        progress.add(1);
    }
    let query = moment.sql(BLOBS).bind(before(options.media_grace));
    let blobs = moment.one(query, "count").await?;
    note(&mut found, blobs, "files whose bytes nothing refers to");
    progress.add(1);
    let query = moment
        .sql(SNAPSHOTS)
        .bind(before(Collecting::default().grace));
    let snapshots = moment.one(query, "count").await?;
    note(
        &mut found,
        snapshots,
        "states of rooms that nothing refers to",
    );
    progress.add(1);
    if let Some(age) = options.expire_devices_after {
        let query = moment.sql(DEVICES).bind(before(age));
        note(
            &mut found,
            moment.one(query, "count").await?,
            "devices that nobody uses",
        );
    }
    progress.add(1);
    let head = moment.sql("SELECT pos FROM counter WHERE id = 1");
    let head: Pos = moment.one(head, "pos").await?;
    // As many as the server keeps, which can't be set.
    let upto = told_upto(head, Options::new("").tail_entries);
    let told = moment.one(moment.sql(&TOLD).bind(upto), "count").await?;
    note(&mut found, told, "rows that only told what has happened");
    progress.add(1);
    Ok(found)
}

fn note(found: &mut Findings, count: u64, what: &str) {
    if count > 0 {
        found.notes.push(format!("{count} {what}"));
    }
}
