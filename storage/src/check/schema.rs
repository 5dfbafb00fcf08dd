//! Which migrations were applied.

use std::collections::BTreeMap;

use super::finding::{Fault, Findings, RESTORE};
use super::moment::Moment;
use crate::engine::migrate;
use crate::engine::sql::Columns as _;
use crate::{Error, Result};

const EMPTY: Fault = Fault {
    what: "there is no database of this server",
    means: "Nothing was ever written here.",
    next: "See database.url and server.data_dir in the configuration: is it the database that is meant?",
};

const MISSING: Fault = Fault {
    what: "the schema is older than this version",
    means: "Migrations haven't been applied, so the rest can't be looked at.",
    next: "Start the server once with this version (any other command does it, too), or check with the version that the \
           database is from.",
};

const TOO_NEW: Fault = Fault {
    what: "the schema is too new for this version",
    means: "A newer version has been here and took away what this one needs.",
    next: "Use the newer version, or restore the backup from before it.",
};

const BROKEN_OFF: Fault = Fault {
    what: "migrations were begun and not finished",
    means: "Tables may be half of what they were and half of what they are to be.",
    next: RESTORE,
};

const CHANGED: Fault = Fault {
    what: "migrations were applied in another form than this version knows",
    means: "The tables may be others than this version takes them for.",
    next: "Use a released version. If this is one, please report it as a bug.",
};

const APPLIED: &str = "SELECT version, CAST(CASE WHEN success THEN 1 ELSE 0 END AS BIGINT) AS success, \
    checksum FROM _sqlx_migrations ORDER BY version";

/// A migration as the database remembers it.
#[derive(Debug)]
struct Applied {
    success: bool,
    checksum: Vec<u8>,
}

pub(super) async fn check(moment: &mut Moment) -> Result<Findings> {
    let count = moment.sql(moment.dialect().count_migration_tables());
    if moment.one::<i64>(count, "count").await? == 0 {
        let mut empty = EMPTY.tally();
        empty.add(|| "no migration was applied".to_owned());
        return Ok(end(Findings::of([empty])));
    }
    let mut applied = BTreeMap::new();
    for row in moment.rows(moment.sql(APPLIED)).await? {
        let one = Applied {
            success: row.get("success")?,
            checksum: row.get("checksum")?,
        };
        applied.insert(row.get("version")?, one);
    }
    let known = migrate::known(moment.dialect());
    let known = known.map_err(|error| Error::broken(error.to_string()))?;
    // Without the first migration nothing says what it takes to understand the rest.
    let oldest = if applied.is_empty() {
        None
    } else {
        let oldest = moment.sql("SELECT value FROM meta WHERE name = 'oldest_binary'");
        let row = moment.row(oldest).await?;
        row.map(|row| row.get::<String>("value")).transpose()?
    };
    let oldest = oldest.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(judge(&known, &applied, oldest))
}

fn end(found: Findings) -> Findings {
    Findings {
        is_end: true,
        ..found
    }
}

/// `oldest`: the lowest schema number that a version must know to work with this database.
fn judge(known: &[(i64, Vec<u8>)], applied: &BTreeMap<i64, Applied>, oldest: i64) -> Findings {
    let (mut missing, mut broken_off) = (MISSING.tally(), BROKEN_OFF.tally());
    let (mut changed, mut too_new) = (CHANGED.tally(), TOO_NEW.tally());
    for (version, checksum) in known {
        match applied.get(version) {
            None => missing.add(|| format!("migration {version}")),
            Some(one) if !one.success => broken_off.add(|| format!("migration {version}")),
            Some(one) if one.checksum != *checksum => {
                changed.add(|| format!("migration {version}"));
            }
            Some(_) => {}
        }
    }
    let newest = known.last().map_or(0, |(version, _)| *version);
    if oldest > newest {
        too_new.add(|| {
            format!("it needs a version that knows schema {oldest}, this one knows {newest}")
        });
    }
    let newer = applied.keys().filter(|version| **version > newest).count();
    let mut found = Findings::of([missing, broken_off, changed, too_new]);
    found.is_end = !found.wrong.is_empty();
    if newer > 0 && oldest <= newest {
        found.notes.push(format!(
            "{newer} migrations of a newer version were applied, with which this one can work"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(versions: &[i64]) -> BTreeMap<i64, Applied> {
        let one = |version: &i64| {
            let checksum = vec![u8::try_from(*version).unwrap()];
            let success = true;
            (*version, Applied { success, checksum })
        };
        versions.iter().map(one).collect()
    }

    fn whats(found: &Findings) -> Vec<&str> {
        found.wrong.iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn migrations_are_compared() {
        let known: Vec<_> = (1..=3_u8)
            .map(|version| (i64::from(version), vec![version]))
            .collect();
        let whole = judge(&known, &applied(&[1, 2, 3]), 3);
        assert_eq!(whole, Findings::default());
        let older = judge(&known, &applied(&[1, 2]), 2);
        assert_eq!((whats(&older), older.is_end), (vec![MISSING.what], true));
        assert_eq!(older.wrong[0].examples, ["migration 3"]);
        let newer = judge(&known, &applied(&[1, 2, 3, 4]), 3);
        assert_eq!(
            (whats(&newer).len(), newer.notes.len(), newer.is_end),
            (0, 1, false)
        );
        let too_new = judge(&known, &applied(&[1, 2, 3, 4]), 4);
        assert_eq!(whats(&too_new), [TOO_NEW.what]);
        let mut other = applied(&[1, 2, 3]);
        other.get_mut(&1).unwrap().success = false;
        other.get_mut(&2).unwrap().checksum = vec![9];
        assert_eq!(
            whats(&judge(&known, &other, 3)),
            [BROKEN_OFF.what, CHANGED.what]
        );
    }
}
