//! The files of users in a backup: a line each, by key, so that two lists are compared without either in memory.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Lines, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk;

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its name in the store.
    pub(super) key: String,
    pub(super) store: String,
    /// How many bytes it takes there.
    pub(super) size: u64,
    /// The SHA-256 of them, hexadecimal; empty if it isn't in the backup.
    pub(super) sha256: String,
    /// Why it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<Lost>,
}

/// Why a file that the database names isn't in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Lost {
    /// It was deleted while the backup was made.
    Gone,
    /// It wasn't where it should be.
    Missing,
    /// It wasn't what it should be, or couldn't be read.
    Damaged,
}

/// A list that is written.
#[derive(Debug)]
pub(super) struct Writing(BufWriter<File>);

impl Writing {
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(disk::create(path)?)))
    }

    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, entry)?;
        self.0.write_all(b"\n")
    }

    pub(super) fn end(self) -> io::Result<()> {
        let file = self
            .0
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }
}

/// A list that is read.
#[derive(Debug)]
pub(super) struct Reading {
    lines: Lines<BufReader<File>>,
    /// One that was read and not asked for yet.
    ahead: Option<Entry>,
}

impl Reading {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let lines = BufReader::new(File::open(path)?).lines();
        Ok(Self { lines, ahead: None })
    }

    /// The next one.
    pub(super) fn take(&mut self) -> io::Result<Option<Entry>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let line = self.lines.next().transpose()?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }

    /// The next ones.
    pub(super) fn some(&mut self, most: usize) -> io::Result<Vec<Entry>> {
        let mut some = Vec::new();
        while some.len() < most
            && let Some(entry) = self.take()?
        {
            some.push(entry);
        }
        Ok(some)
    }

    /// The one of this key. Only those after it are found from now on.
    pub(super) fn find(&mut self, key: &str) -> io::Result<Option<Entry>> {
        while let Some(entry) = self.take()? {
            match entry.key.as_str().cmp(key) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(entry)),
                Ordering::Greater => {
                    self.ahead = Some(entry);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, lost: Option<Lost>) -> Entry {
        Entry {
            key: key.to_owned(),
            store: "local".to_owned(),
            size: 5,
            sha256: "00".to_owned(),
            lost,
        }
    }

    #[test]
    fn what_is_written_is_found_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let mut writing = Writing::begin(&path).unwrap();
        let entries = ["a", "c", "d"].map(|key| entry(key, None));
        for entry in &entries {
            writing.push(entry).unwrap();
        }
        let missing = entry("e", Some(Lost::Missing));
        writing.push(&missing).unwrap();
        writing.end().unwrap();
        let mut reading = Reading::open(&path).unwrap();
        let found = ["0", "a", "b", "d", "d", "e", "f"].map(|key| reading.find(key).unwrap());
        let [a, _, d] = entries.clone().map(Some);
        assert_eq!(found, [None, a, None, d, None, Some(missing), None]);
        let mut reading = Reading::open(&path).unwrap();
        assert_eq!(reading.some(3).unwrap(), entries);
        assert_eq!(reading.some(3).unwrap().len(), 1);
        assert!(Writing::begin(&path).is_err(), "nothing is replaced");
    }
}
