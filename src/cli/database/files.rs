//! Whether files lie where the database says, as far as their stores are folders.
//!
//! Files come and go meanwhile. What seems to be wrong is looked at again with what the database says by then: bytes
//! are there before their row, and a row says that it is going before its bytes go.

use std::collections::HashSet;
use std::time::Duration;

use rhizome_media::{Lies, StoredFiles};
use rhizome_storage::{Blob, Check, CheckProgress, Clock, Finding, Findings, millis};

/// So many are asked for at once.
const PIECE: usize = 500;
/// The server sweeps up what has no row after so long at most, if it gets to it.
const SWEPT: Duration = Duration::from_hours(12);
/// So many examples are told of a finding.
const EXAMPLES: usize = 10;
/// The first two digits of keys.
const PARTS: u64 = 256;

const ANOTHERS: Kind = Kind {
    what: "stores hold another database's files, or nothing where there should be files",
    means: "The server doesn't start: it would take them for its own. Their files weren't looked at.",
    next: "See whether the store is mounted, and whether media.path and media.stores name the right places. If they do, after a \
           restore or a move, `rhizome media adopt STORE` makes it this database's.",
};

const LOST: Kind = Kind {
    what: "files have lost their bytes",
    means: "Nobody can get them; of other servers' files the server gets new copies.",
    next: "Restore the files from the backup that goes with the database: those in the stores' folders may be newer than the \
           database, but not older. `rhizome media list` tells whose they are.",
};

const CUT: Kind = Kind {
    what: "files have another size than they should",
    means: "Whoever gets them gets something else than was uploaded, or nothing.",
    next: "Restore the files from a backup. Look whether the disk is sound.",
};

const NO_STORE: Kind = Kind {
    what: "files lie in stores that aren't configured",
    means: "Nobody can get them.",
    next: "Name the store in media.stores again. `rhizome media move` takes files out of a store before it goes.",
};

const UNKNOWN: Kind = Kind {
    what: "files lie in stores that no row knows",
    means: "They only take room. After a restore they may be what was uploaded after the backup was made.",
    next: "The server deletes them within hours; `rhizome media sweep` does so now.",
};

/// A kind of finding.
struct Kind {
    what: &'static str,
    means: &'static str,
    next: &'static str,
}

struct Tally {
    kind: Kind,
    count: u64,
    examples: Vec<String>,
}

impl Tally {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            count: 0,
            examples: Vec::new(),
        }
    }

    fn add(&mut self, example: String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    fn finding(self) -> Option<Finding> {
        let Kind { what, means, next } = self.kind;
        (self.count > 0).then_some(Finding {
            what,
            count: self.count,
            examples: self.examples,
            means,
            next,
        })
    }
}

/// Looks at all that the database knows of, then at all that lies in its stores.
pub(super) async fn look(
    check: &mut Check,
    files: &StoredFiles,
    grace: Duration,
    progress: &CheckProgress,
) -> anyhow::Result<Findings> {
    let Claimed {
        ours,
        others,
        anothers,
    } = claimed(check, files).await?;
    progress.begin(check.blob_count().await? + PARTS * ours.len() as u64);
    let [mut lost, mut cut, mut no_store] = [LOST, CUT, NO_STORE].map(Tally::of);
    let mut after = String::new();
    loop {
        let blobs = check.blobs(&after, PIECE).await?;
        let Some(last) = blobs.last() else { break };
        after.clone_from(&last.key);
        progress.add(blobs.len());
        let looked: Vec<Blob> = blobs
            .into_iter()
            .filter(|blob| !others.contains(&blob.store))
            .collect();
        for (blob, lies) in wrong(check, files, &looked).await? {
            let example = format!("{} in {}", blob.key, blob.store);
            match lies {
                Lies::Nowhere => lost.add(example),
                Lies::Otherwise(size) => {
                    cut.add(format!("{example}: {size} bytes of {}", blob.size));
                }
                Lies::Unknown => no_store.add(example),
                Lies::Right | Lies::Elsewhere => {}
            }
        }
    }
    let mut unknown = Tally::of(UNKNOWN);
    for store in &ours {
        look_for_unknown(check, files, (store, grace), progress, &mut unknown).await?;
    }
    let found = [anothers, lost, cut, no_store, unknown];
    let elsewhere = files.elsewhere().iter();
    Ok(Findings {
        wrong: found.into_iter().filter_map(Tally::finding).collect(),
        notes: elsewhere
            .map(|name| format!("what lies in {name} wasn't looked at: it is no folder"))
            .collect(),
        is_end: false,
    })
}

/// Whose the stores are that are folders.
struct Claimed {
    /// This database's.
    ours: Vec<String>,
    /// Those that aren't looked into.
    others: Vec<String>,
    /// What is found of these.
    anothers: Tally,
}

async fn claimed(check: &mut Check, files: &StoredFiles) -> anyhow::Result<Claimed> {
    let mut claimed = Claimed {
        ours: Vec::new(),
        others: Vec::new(),
        anothers: Tally::of(ANOTHERS),
    };
    for name in files.folders() {
        match (check.media_store_id(name).await?, files.id(name).await?) {
            // Nothing was ever kept there.
            (None, None) => {}
            (Some(known), Some(there)) if known == there => claimed.ours.push(name.to_owned()),
            _ => {
                claimed.others.push(name.to_owned());
                claimed.anothers.add(name.to_owned());
            }
        }
    }
    Ok(claimed)
}

/// Those of these blobs that don't lie as their rows say, also when asked again.
async fn wrong(
    check: &mut Check,
    files: &StoredFiles,
    blobs: &[Blob],
) -> anyhow::Result<Vec<(Blob, Lies)>> {
    let lies = files.look(blobs).await?;
    let suspects = blobs.iter().zip(lies).filter(|(_, lies)| is_wrong(*lies));
    let suspects: Vec<&str> = suspects.map(|(blob, _)| blob.key.as_str()).collect();
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    check.renew().await?;
    let known = check.known_blobs(&suspects).await?.into_iter();
    let known: Vec<Blob> = known
        .filter(|(_, doomed)| !doomed)
        .map(|(blob, _)| blob)
        .collect();
    let lies = files.look(&known).await?;
    let wrong = known.into_iter().zip(lies);
    Ok(wrong.filter(|(_, lies)| is_wrong(*lies)).collect())
}

fn is_wrong(lies: Lies) -> bool {
    !matches!(lies, Lies::Right | Lies::Elsewhere)
}

/// What lies in a store for longer than it takes to write its row, and the server to sweep it up.
async fn look_for_unknown(
    check: &mut Check,
    files: &StoredFiles,
    (store, grace): (&str, Duration),
    progress: &CheckProgress,
    unknown: &mut Tally,
) -> anyhow::Result<()> {
    let before = Clock::system()
        .now_ms()
        .saturating_sub(millis(grace + SWEPT));
    for part in 0..=u8::MAX {
        let keys = files.keys(store, part, before).await?;
        for keys in keys.chunks(PIECE) {
            check.renew().await?;
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let known = check.known_blobs(&keys).await?;
            let known: HashSet<&str> = known.iter().map(|(blob, _)| &*blob.key).collect();
            for key in keys {
                if !known.contains(key) && files.has(store, key).await? {
                    unknown.add(format!("{key} in {store}"));
                }
            }
        }
        progress.add(1);
    }
    Ok(())
}
