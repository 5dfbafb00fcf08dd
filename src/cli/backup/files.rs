//! The files of users on their way into a backup: linked to the last backup's where that has them, copied otherwise.
//!
//! A file is written once and never changed, and its name is never given again; so the same name is the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rhizome_media::{STORE_ID, StoredFiles, blob_path};
use rhizome_storage::{Blob, Check, CheckProgress};

use super::disk::{self, CopyError};
use super::list::{Entry, Lost, Reading, Writing};
use super::manifest::{LIST, MEDIA, Media, Store, folder_of};

/// So many are asked for at once.
const PIECE: usize = 500;

/// What of an earlier backup can be linked to.
struct Former {
    folder: PathBuf,
    list: Reading,
}

/// The work of copying.
struct Saving {
    files: StoredFiles,
    /// Of the stores that are saved, their folders in the backup.
    into: BTreeMap<String, PathBuf>,
    former: Option<Former>,
    /// How many bytes were copied, rather than linked to.
    copied: u64,
}

/// What was saved.
pub(super) struct Saved {
    pub(super) media: Media,
    /// How many bytes were copied.
    pub(super) copied: u64,
    /// Some of the files that aren't where they should be.
    pub(super) examples: Vec<String>,
}

/// Saves the files that `copy` names into `backup`. `live` is the database as it goes on.
///
/// # Errors
/// A store isn't this database's, or there is no room.
pub(super) async fn save(
    (copy, live): (&mut Check, &mut Check),
    files: &StoredFiles,
    (backup, former): (&Path, Option<&Path>),
    progress: &Arc<CheckProgress>,
) -> anyhow::Result<Saved> {
    let stores = claimed(copy, files).await?;
    let mut into = BTreeMap::new();
    for store in &stores {
        let folder = backup.join(MEDIA).join(&store.folder);
        disk::make_folder(&folder)?;
        disk::write(&folder.join(STORE_ID), store.id.as_bytes())?;
        into.insert(store.name.clone(), folder);
    }
    let mut saving = Saving {
        files: files.clone(),
        into,
        former: former.and_then(Former::open),
        copied: 0,
    };
    let mut list = Writing::begin(&backup.join(LIST))?;
    let mut saved = Saved {
        media: Media {
            stores,
            elsewhere: files.elsewhere().to_vec(),
            ..Media::default()
        },
        copied: 0,
        examples: Vec::new(),
    };
    let mut sealed_by = BTreeSet::new();
    progress.begin(copy.blob_count().await?);
    let mut after = String::new();
    loop {
        let blobs = copy.blobs(&after, PIECE).await?;
        let Some(last) = blobs.last() else { break };
        after.clone_from(&last.key);
        let count = blobs.len();
        sealed_by.extend(
            blobs
                .iter()
                .filter_map(|blob| Some(blob.seal.as_ref()?.key_id.clone())),
        );
        let work = tokio::task::spawn_blocking(move || {
            let entries = saving.piece(&blobs);
            (saving, entries)
        });
        let (back, entries) = work.await?;
        saving = back;
        let mut entries = entries?;
        ask_again(live, &mut entries).await?;
        for entry in &entries {
            list.push(entry)?;
            saved.count(entry);
        }
        progress.add(count);
    }
    list.end()?;
    saved.copied = saving.copied;
    saved.media.sealed_by = sealed_by.into_iter().collect();
    Ok(saved)
}

/// The stores whose files are saved.
async fn claimed(check: &mut Check, files: &StoredFiles) -> anyhow::Result<Vec<Store>> {
    let mut stores = Vec::new();
    for name in files.folders() {
        match (check.media_store_id(name).await?, files.id(name).await?) {
            // Nothing was ever kept there.
            (None, None) => {}
            (Some(known), Some(there)) if known == there => stores.push(Store {
                name: name.to_owned(),
                id: known,
                folder: folder_of(name),
            }),
            _ => bail!(
                "the store of files {name:?} isn't this database's, or isn't mounted: see media.path and media.stores. \
                 `rhizome media adopt {name}` makes it this database's; with --without-media files aren't saved"
            ),
        }
    }
    Ok(stores)
}

/// What isn't there may have been deleted since the moment of the backup.
async fn ask_again(live: &mut Check, entries: &mut [Entry]) -> anyhow::Result<()> {
    let lost = entries.iter().filter(|entry| entry.lost.is_some());
    let keys: Vec<String> = lost.map(|entry| entry.key.clone()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    live.renew().await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let known = live.known_blobs(&keys).await?;
    // Nothing is held for longer than a question takes.
    live.renew().await?;
    let kept: BTreeSet<&str> = (known.iter().filter(|(_, doomed)| !doomed))
        .map(|(blob, _)| blob.key.as_str())
        .collect();
    for entry in entries.iter_mut().filter(|entry| entry.lost.is_some()) {
        if !kept.contains(&*entry.key) {
            entry.lost = Some(Lost::Gone);
        }
    }
    Ok(())
}

impl Saved {
    fn count(&mut self, entry: &Entry) {
        let media = &mut self.media;
        match entry.lost {
            None => {
                media.files += 1;
                media.bytes += entry.size;
            }
            Some(Lost::Gone) => media.gone += 1,
            Some(Lost::Missing | Lost::Damaged) => {
                media.lost += 1;
                if self.examples.len() < 10 {
                    let example = format!("{} in the store {}", entry.key, entry.store);
                    self.examples.push(example);
                }
            }
        }
    }
}

impl Former {
    /// An earlier backup without a list has nothing to link to.
    fn open(backup: &Path) -> Option<Self> {
        let list = Reading::open(&backup.join(LIST)).ok()?;
        let folder = backup.join(MEDIA);
        Some(Self { folder, list })
    }
}

impl Saving {
    /// Some files, by key.
    fn piece(&mut self, blobs: &[Blob]) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for blob in blobs {
            let is_elsewhere = self.files.elsewhere().contains(&blob.store);
            let entry = match self.into.get(&blob.store).cloned() {
                Some(folder) => self.one(blob, &folder)?,
                None if is_elsewhere => continue,
                // Its store isn't configured, or never held anything.
                None => entry(blob, 0, String::new(), Some(Lost::Missing)),
            };
            entries.push(entry);
        }
        Ok(entries)
    }

    fn one(&mut self, blob: &Blob, folder: &Path) -> anyhow::Result<Entry> {
        let Some((from, size)) = self.files.place(blob)? else {
            return Ok(entry(blob, 0, String::new(), Some(Lost::Missing)));
        };
        let to = blob_path(folder, &blob.key)?;
        if let Some(above) = to.parent() {
            disk::make_folder(above)?;
        }
        if let Some(linked) = self.link(blob, size, &to) {
            return Ok(linked);
        }
        let lost = match disk::copy(&from, &to) {
            Ok(summed) => {
                let is_right =
                    summed.size == size && (blob.seal.is_some() || summed.sha256 == blob.sha256);
                if is_right {
                    self.copied += size;
                    return Ok(entry(blob, size, summed.sha256, None));
                }
                Lost::Damaged
            }
            Err(CopyError::Write(error)) => {
                return Err(error).with_context(|| format!("{} can't be written", to.display()));
            }
            Err(CopyError::Read(error)) if error.kind() == ErrorKind::NotFound => Lost::Missing,
            Err(CopyError::Read(_)) => Lost::Damaged,
        };
        match fs::remove_file(&to) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(entry(blob, size, String::new(), Some(lost))),
        }
    }

    /// The earlier backup's file under another name, if it has it and this disk can do so.
    fn link(&mut self, blob: &Blob, size: u64, to: &Path) -> Option<Entry> {
        let former = self.former.as_mut()?;
        // A list that is damaged only costs room.
        let found = former.list.find(&blob.key).ok().flatten()?;
        let is_same = found.lost.is_none() && found.store == blob.store && found.size == size;
        let is_right = blob.seal.is_some() || found.sha256 == blob.sha256;
        if !is_same || !is_right {
            return None;
        }
        let from = blob_path(&former.folder.join(folder_of(&blob.store)), &blob.key).ok()?;
        link(&from, to, size).ok()?;
        Some(entry(blob, size, found.sha256, None))
    }
}

fn link(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    if fs::metadata(from)?.len() != size {
        return Err(ErrorKind::InvalidData.into());
    }
    fs::hard_link(from, to)
}

fn entry(blob: &Blob, size: u64, sha256: String, lost: Option<Lost>) -> Entry {
    Entry {
        key: blob.key.clone(),
        store: blob.store.clone(),
        size,
        sha256,
        lost,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use rhizome_media::MediaConfig;

    use super::*;

    /// A file in a store, and what its row says.
    fn blob(folder: &Path, content: &str) -> Blob {
        let from = folder.join("x");
        fs::create_dir_all(folder).unwrap();
        fs::write(&from, content).unwrap();
        let summed = disk::sum(&from).unwrap();
        let key = format!("{}-000000000001", summed.sha256);
        let place = blob_path(folder, &key).unwrap();
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::rename(from, place).unwrap();
        Blob {
            key,
            sha256: summed.sha256,
            size: summed.size,
            store: "local".to_owned(),
            seal: None,
        }
    }

    fn saving(store: &Path, into: &Path, former: Option<&Path>) -> Saving {
        let config = MediaConfig::new(ruma::owned_server_name!("here"), store);
        Saving {
            files: StoredFiles::of(&config),
            into: [("local".to_owned(), into.join(MEDIA).join("local"))].into(),
            former: former.and_then(Former::open),
            copied: 0,
        }
    }

    #[test]
    fn what_the_last_backup_has_is_linked_and_what_is_wrong_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let [store, first, second] = ["store", "1", "2"].map(|name| folder.path().join(name));
        let mut blobs = ["one", "two", "three"]
            .map(|text| blob(&store, text))
            .to_vec();
        blobs.sort_by(|a, b| a.key.cmp(&b.key));
        let mut saving_first = saving(&store, &first, None);
        let entries = saving_first.piece(&blobs).unwrap();
        assert!(entries.iter().all(|entry| entry.lost.is_none()));
        assert_eq!(saving_first.copied, 11);
        let mut list = Writing::begin(&first.join(LIST)).unwrap();
        for entry in &entries {
            list.push(entry).unwrap();
        }
        list.end().unwrap();

        // The last of the three is new; of the first two one is lost in the store by now, which matters to nobody.
        let new = blob(&store, "four");
        let mut blobs = [blobs[..2].to_vec(), vec![new.clone()]].concat();
        blobs.sort_by(|a, b| a.key.cmp(&b.key));
        let kept = blobs.iter().find(|blob| blob.key != new.key).unwrap();
        fs::remove_file(blob_path(&store, &kept.key).unwrap()).unwrap();
        let mut saving_second = saving(&store, &second, Some(&first));
        let entries = saving_second.piece(&blobs).unwrap();
        assert!(
            entries.iter().all(|entry| entry.lost.is_none()),
            "{entries:?}"
        );
        assert_eq!(saving_second.copied, 4);
        let inode = |backup: &Path, key: &str| {
            let path = blob_path(&backup.join(MEDIA).join("local"), key).unwrap();
            fs::metadata(path).unwrap().ino()
        };
        assert_eq!(inode(&first, &kept.key), inode(&second, &kept.key));

        // Without an earlier one: what is missing, cut or of a store that isn't there.
        let third = folder.path().join("3");
        fs::write(blob_path(&store, &new.key).unwrap(), "fou!").unwrap();
        let elsewhere = Blob {
            store: "none".to_owned(),
            ..new.clone()
        };
        let blobs = [kept.clone(), new.clone(), elsewhere];
        let entries = saving(&store, &third, None).piece(&blobs).unwrap();
        let lost: Vec<_> = entries.iter().map(|entry| entry.lost).collect();
        assert_eq!(
            lost,
            [Lost::Missing, Lost::Damaged, Lost::Missing].map(Some)
        );
        let place = blob_path(&third.join(MEDIA).join("local"), &new.key).unwrap();
        assert!(!place.exists());
    }
}
