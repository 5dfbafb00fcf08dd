//! `rhizome backup verify`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use rhizome_media::{STORE_ID, blob_path};
use rhizome_storage::{Check, CheckOptions, CheckProgress, Step};

use crate::cli::database::telling;
use crate::cli::media::size;
use crate::cli::{clean, say};

use super::disk::{self, Summed};
use super::list::{Entry, Reading};
use super::manifest::{DATABASE, Kind, LIST, Listed, MEDIA, Manifest, Media, find, folder_of};

/// So many files are looked at at once.
const PIECE: usize = 100;
/// So many examples are told of a finding.
const EXAMPLES: usize = 10;

/// What is wrong with a backup.
#[derive(Debug, Default)]
struct Wrong {
    lines: Vec<String>,
    count: u64,
}

impl Wrong {
    fn add(&mut self, line: String) {
        self.count += 1;
        if self.lines.len() < EXAMPLES {
            self.lines.push(line);
        }
    }
}

pub(super) async fn command(dir: &Path, quick: bool) -> anyhow::Result<()> {
    let folder = find(dir)?;
    let manifest = verify(&folder, quick).await?;
    let made_at = clean(&manifest.made_at);
    say(format_args!(
        "The backup {} of {} is whole, as of {made_at}.",
        folder.display(),
        clean(&manifest.server_name),
    ));
    Ok(())
}

/// Sees whether the backup in this folder is whole. `quick`: without reading users' files.
///
/// # Errors
/// It isn't, which is told first, or it can't be read.
pub(super) async fn verify(folder: &Path, quick: bool) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(folder)?;
    let mut wrong = Wrong::default();
    eprintln!("looking at the files of the backup");
    for file in &manifest.files {
        look_at_file(folder, file, &mut wrong);
    }
    let is_readable = wrong.count == 0;
    if manifest.database.kind == Kind::Sqlite {
        if manifest.file(DATABASE).is_none() {
            wrong.add(format!("{DATABASE} isn't in the list of its files"));
        } else if is_readable {
            look_at_database(folder, &manifest, &mut wrong).await?;
        }
    }
    if let Some(media) = &manifest.media {
        look_at_media(folder, media, quick, &mut wrong).await?;
    }
    tell(folder, &manifest, &wrong)?;
    Ok(manifest)
}

fn tell(folder: &Path, manifest: &Manifest, wrong: &Wrong) -> anyhow::Result<()> {
    let shown = folder.display();
    if wrong.count > 0 {
        wrong.lines.iter().for_each(|line| say(clean(line)));
        let more = wrong.count.saturating_sub(wrong.lines.len() as u64);
        if more > 0 {
            say(format_args!("and {more} more"));
        }
        say("What it means: what is named here is lost if this backup is all that there is.");
        say(
            "What to do: make another backup now, and look whether the disk is sound. Files that are linked from several backups are \
             damaged in all of them: make the next one in an empty folder. To restore, use one that is whole.",
        );
        bail!("{} things are wrong with the backup {shown}", wrong.count);
    }
    if manifest.database.kind == Kind::Postgres {
        say("(the database isn't in it: PostgreSQL's own tools save it)");
    }
    if !manifest.signing_key {
        say("(the signing key isn't in it)");
    }
    match &manifest.media {
        None => say("(files of users aren't in it)"),
        Some(media) => {
            say(format_args!(
                "files of users: {}, {}",
                media.files,
                size(media.bytes)
            ));
            for name in &media.elsewhere {
                say(format_args!("(the store {} isn't in it)", clean(name)));
            }
            if media.lost > 0 {
                say(format_args!(
                    "({} files were lost already when it was made)",
                    media.lost
                ));
            }
        }
    }
    Ok(())
}

fn look_at_file(folder: &Path, file: &Listed, wrong: &mut Wrong) {
    let Listed { name, size, sha256 } = file;
    match disk::sum(&folder.join(name)) {
        Ok(summed) if summed.size == *size && summed.sha256 == *sha256 => {}
        Ok(_) => wrong.add(format!("{name} isn't what it was when the backup was made")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            wrong.add(format!("{name} is missing"));
        }
        Err(error) => wrong.add(format!("{name} can't be read: {error}")),
    }
}

/// Whether SQLite finds its file whole, and all that it names is in the list of files.
async fn look_at_database(
    folder: &Path,
    manifest: &Manifest,
    wrong: &mut Wrong,
) -> anyhow::Result<()> {
    let url = format!("sqlite:{}", folder.join(DATABASE).display());
    let mut check = Check::open(&url, CheckOptions::default()).await?;
    let what = "looking through the database";
    eprintln!("{what}");
    let progress = CheckProgress::default();
    let found = telling(what, &progress, check.step(Step::Integrity, &progress)).await?;
    for finding in found.wrong {
        for example in finding.examples {
            wrong.add(format!("{DATABASE}: {}: {example}", finding.what));
        }
    }
    let database = &manifest.database;
    let is_same = check.facts().await?.is_some_and(|facts| {
        facts.position.0 == database.position
            && facts.epoch.unwrap_or_default() == database.epoch
            && facts
                .server
                .is_none_or(|server| server == manifest.server_name)
    });
    if !is_same {
        wrong.add(format!(
            "{DATABASE} is another database than the backup says"
        ));
    }
    if let Some(media) = &manifest.media {
        compare(&mut check, folder, media, wrong).await?;
    }
    check.close().await;
    Ok(())
}

/// Whether the list has each file that the database names.
async fn compare(
    check: &mut Check,
    folder: &Path,
    media: &Media,
    wrong: &mut Wrong,
) -> anyhow::Result<()> {
    let mut list = Reading::open(&folder.join(LIST))?;
    let mut after = String::new();
    loop {
        let blobs = check.blobs(&after, 500).await?;
        let Some(last) = blobs.last() else {
            return Ok(());
        };
        after.clone_from(&last.key);
        for blob in &blobs {
            let listed = list.find(&blob.key)?;
            let is_there = listed.is_some_and(|entry| entry.store == blob.store);
            if !is_there && !media.elsewhere.contains(&blob.store) {
                wrong.add(format!("the file {} isn't in {LIST}", blob.key));
            }
        }
    }
}

/// Whether each file of the list is there, and what it was.
async fn look_at_media(
    folder: &Path,
    media: &Media,
    quick: bool,
    wrong: &mut Wrong,
) -> anyhow::Result<()> {
    let what = "looking at the files of users";
    eprintln!("{what}, {}", size(media.bytes));
    for store in &media.stores {
        let id = folder.join(MEDIA).join(&store.folder).join(STORE_ID);
        if fs::read(&id).ok().as_deref() != Some(store.id.as_bytes()) {
            wrong.add(format!("{} is missing or damaged", id.display()));
        }
    }
    let mut list = match Reading::open(&folder.join(LIST)) {
        Ok(list) => list,
        Err(error) => {
            wrong.add(format!("{LIST} can't be read: {error}"));
            return Ok(());
        }
    };
    let progress = Arc::<CheckProgress>::default();
    progress.begin(media.files + media.gone + media.lost);
    let look = async {
        let mut seen = 0;
        loop {
            let entries = match list.some(PIECE) {
                Ok(entries) => entries,
                // It is known by its sum that it is damaged.
                Err(error) => {
                    wrong.add(format!("{LIST} can't be understood: {error}"));
                    return anyhow::Ok(());
                }
            };
            if entries.is_empty() {
                break;
            }
            let (count, folder) = (entries.len(), folder.join(MEDIA));
            seen += entries.iter().filter(|entry| entry.lost.is_none()).count() as u64;
            let work = move || look_at_entries(&folder, &entries, quick);
            let bad = tokio::task::spawn_blocking(work).await?;
            for line in bad {
                wrong.add(line);
            }
            progress.add(count);
        }
        if seen != media.files {
            wrong.add(format!(
                "{LIST} has {seen} files, and should have {}",
                media.files
            ));
        }
        Ok(())
    };
    telling(what, &progress, look).await
}

fn look_at_entries(folder: &Path, entries: &[Entry], quick: bool) -> Vec<String> {
    let saved = entries.iter().filter(|entry| entry.lost.is_none());
    saved
        .filter_map(|entry| look_at_entry(folder, entry, quick))
        .collect()
}

/// What is wrong with a file.
fn look_at_entry(folder: &Path, entry: &Entry, quick: bool) -> Option<String> {
    let Entry { key, store, .. } = entry;
    let found =
        blob_path(&folder.join(folder_of(store)), key).and_then(|path| sum(&path, entry, quick));
    match found {
        Ok(summed) if summed.size == entry.size && summed.sha256 == entry.sha256 => None,
        Ok(_) => Some(format!(
            "the file {key} of the store {store} isn't what it was when it was saved"
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some(format!("the file {key} of the store {store} is missing"))
        }
        Err(error) => Some(format!(
            "the file {key} of the store {store} can't be read: {error}"
        )),
    }
}

/// `quick`: its content is believed.
fn sum(path: &Path, entry: &Entry, quick: bool) -> io::Result<Summed> {
    if !quick {
        return disk::sum(path);
    }
    Ok(Summed {
        size: fs::metadata(path)?.len(),
        sha256: entry.sha256.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::backup::list::Lost;

    #[test]
    fn a_file_that_changed_or_went_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let key = format!("{}-000000000001", "ab".repeat(32));
        let path = blob_path(&folder.path().join("local"), &key).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "abc").unwrap();
        let Summed { size, sha256 } = disk::sum(&path).unwrap();
        let entry = Entry {
            key,
            store: "local".to_owned(),
            size,
            sha256,
            lost: None,
        };
        let look = |quick| look_at_entry(folder.path(), &entry, quick);
        assert_eq!([look(false), look(true)], [None, None]);
        fs::write(&path, "abd").unwrap();
        assert!(look(false).unwrap().contains("isn't what it was"));
        assert_eq!(look(true), None);
        fs::write(&path, "abcd").unwrap();
        assert!(look(true).unwrap().contains("isn't what it was"));
        fs::remove_file(&path).unwrap();
        assert!(look(true).unwrap().contains("is missing"));
        let gone = Entry {
            lost: Some(Lost::Gone),
            ..entry
        };
        assert!(look_at_entries(folder.path(), &[gone], false).is_empty());
    }
}
