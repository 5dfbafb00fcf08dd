//! `rhizome database vacuum`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use rhizome_storage::{CheckProgress, DatabaseSize, Dialect, Vacuum};

use crate::cli::media::size;
use crate::cli::say;
use crate::config::Config;

use super::{shown, telling, url};

pub(super) async fn vacuum(config: &Config) -> anyhow::Result<()> {
    let shown = shown(config);
    let mut vacuum = Vacuum::open(&url(config)).await.with_context(|| {
        format!("can't open the database {shown}; see database.url in the configuration")
    })?;
    let done = match vacuum.dialect() {
        Dialect::Sqlite => sqlite(&mut vacuum).await,
        Dialect::Postgres => postgres(&mut vacuum).await,
    };
    vacuum.close().await;
    done
}

async fn sqlite(vacuum: &mut Vacuum) -> anyhow::Result<()> {
    let begun = Instant::now();
    let progress = CheckProgress::default();
    let before = vacuum.size().await?;
    say(of_size("before", &before));
    let what = "1/2 taking the write-ahead log into the file";
    eprintln!("{what}");
    if !telling(what, &progress, vacuum.take_in_log()).await? {
        say("The write-ahead log is being read: it stays as it is for now, which does no harm.");
    }
    if !vacuum.claim().await? {
        bail!(
            "the database is open: a server runs on it, or another command. It would have to wait until its file is written \
             anew, so that isn't done; stop the server first. What is unused in the file ({}) is used again when something \
             is written, so this is worth while only after much was deleted",
            size(before.unused)
        );
    }
    // It may have grown by what was in the log.
    let now = vacuum.size().await?;
    if let Some(folder) = now.file.as_deref().and_then(Path::parent) {
        enough_room(folder, &now)?;
    }
    let what = "2/2 writing the file anew";
    eprintln!("{what}");
    telling(what, &progress, vacuum.compact()).await?;
    say(of_size("after", &vacuum.size().await?));
    say(format_args!("done in {} s", begun.elapsed().as_secs()));
    Ok(())
}

/// A copy is written beside the file, then the copy goes through the log into the file.
fn enough_room(folder: &Path, now: &DatabaseSize) -> anyhow::Result<()> {
    let known = rustix::fs::statvfs(folder)
        .with_context(|| format!("can't tell how much room there is in {}", folder.display()))?;
    let free = known.f_bavail.saturating_mul(known.f_frsize);
    let needed = needed(now);
    if free < needed {
        bail!(
            "there isn't enough room: the disk with {} has {} left, and {} may be needed, twice what the database takes. \
             Make room first; nothing was changed",
            folder.display(),
            size(free),
            size(needed)
        );
    }
    Ok(())
}

/// Twice of what is left of it.
fn needed(now: &DatabaseSize) -> u64 {
    now.bytes.saturating_sub(now.unused).saturating_mul(2)
}

async fn postgres(vacuum: &mut Vacuum) -> anyhow::Result<()> {
    let begun = Instant::now();
    say(of_size("before", &vacuum.size().await?));
    let tables = vacuum.tables().await?;
    let (count, mut failed) = (tables.len(), 0);
    for (index, table) in tables.iter().enumerate() {
        let what = format!("{}/{count} {table}", index + 1);
        eprintln!("{what}");
        let progress = CheckProgress::default();
        match telling(&what, &progress, vacuum.tidy_table(table)).await {
            Ok((before, after)) if before > after => {
                say(format_args!("{table}: {} to {}", size(before), size(after)));
            }
            Ok(_) => {}
            Err(error) => {
                failed += 1;
                say(format_args!("{table}: {error}"));
            }
        }
    }
    say(of_size("after", &vacuum.size().await?));
    say(format_args!("done in {} s", begun.elapsed().as_secs()));
    if failed > 0 {
        bail!("{failed} of {count} tables couldn't be tidied");
    }
    Ok(())
}

fn of_size(when: &str, told: &DatabaseSize) -> String {
    let mut parts = vec![format!("{when}: {}", size(told.bytes))];
    if told.unused > 0 {
        parts.push(format!("of which {} is unused", size(told.unused)));
    }
    if told.log > 0 {
        parts.push(format!("and {} in the write-ahead log", size(told.log)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: u64, unused: u64, log: u64) -> DatabaseSize {
        DatabaseSize {
            bytes,
            unused,
            log,
            file: None,
        }
    }

    #[test]
    fn what_is_needed_is_twice_of_what_stays() {
        assert_eq!(needed(&of(10_000, 4_000, 0)), 12_000);
        let folder = tempfile::tempdir().unwrap();
        assert!(enough_room(folder.path(), &of(10_000, 0, 0)).is_ok());
        let error = enough_room(folder.path(), &of(u64::MAX / 2, 0, 0)).unwrap_err();
        assert!(error.to_string().contains("isn't enough room"), "{error}");
    }

    #[test]
    fn sizes_are_told() {
        assert_eq!(of_size("after", &of(2 << 20, 0, 0)), "after: 2.0 MiB");
        assert_eq!(
            of_size("before", &of(2 << 20, 1 << 20, 1 << 10)),
            "before: 2.0 MiB, of which 1.0 MiB is unused, and 1.0 KiB in the write-ahead log"
        );
    }
}
