//! What a disk may hold when power is lost.
//!
//! What a file was given before a sync of it that has returned is there; of what came later each write may be there,
//! be missing, or be there in some of its sectors. A name that came, went or moved is as it was before, or as it is
//! now, until its folder has been synced (of two folders, that to which it moved); syncing a file does nothing for its
//! name. That is all that POSIX promises; file systems keep more.
//!
//! Of a file that is renamed or linked anew while it is written to, writes are looked up by the name that strace saw.
//! What was there before the first call isn't followed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::{
    chance::Chance,
    trace::{Call, What},
};

const SECTOR: usize = 512;

/// When power is lost.
pub(crate) struct Cut {
    /// The first line of the trace that isn't written any more.
    pub(crate) at: usize,
    /// From this line on the disk only says that it has synced.
    pub(crate) lies_from: usize,
}

/// What is found afterwards, by paths from the root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) folders: BTreeSet<PathBuf>,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    pub(crate) fn write(&self, into: &Path) {
        for folder in &self.folders {
            std::fs::create_dir(into.join(folder)).expect("a folder can be made");
        }
        for (file, bytes) in &self.files {
            std::fs::write(into.join(file), bytes).expect("a file can be written");
        }
    }
}

/// What may be in the folder `root`, in which nothing was before these calls.
pub(crate) fn after_power_loss(
    calls: &[Call],
    root: &Path,
    cut: &Cut,
    chance: &mut Chance,
) -> Image {
    let mut disk = Disk::default();
    for call in calls.iter().take_while(|call| call.begin < cut.at) {
        // That it has returned is known only after the cut.
        let end = call.end.filter(|end| *end < cut.at);
        match &call.what {
            What::Sync(path) => {
                if end.is_some_and(|end| end < cut.lies_from) {
                    disk.sync(path, call.begin);
                }
            }
            other => disk.change(other, end),
        }
    }
    disk.found(root, chance)
}

#[derive(Default)]
struct Disk<'a> {
    /// Files and folders, those too that have no name any more.
    nodes: Vec<Node<'a>>,
    /// As programs see them.
    names: HashMap<PathBuf, usize>,
    /// All that became of names.
    changes: Vec<Change>,
}

#[derive(Default)]
struct Node<'a> {
    is_folder: bool,
    length: usize,
    writes: Vec<Write<'a>>,
}

struct Write<'a> {
    end: Option<usize>,
    is_synced: bool,
    how: How<'a>,
}

enum How<'a> {
    Bytes(usize, &'a [u8]),
    Length(usize),
}

struct Change {
    /// The folder whose sync makes it last.
    folder: PathBuf,
    end: Option<usize>,
    is_synced: bool,
    gone: Option<PathBuf>,
    come: Option<(PathBuf, usize)>,
}

impl<'a> Disk<'a> {
    fn change(&mut self, what: &'a What, end: Option<usize>) {
        match what {
            What::Open { path, .. } if is_shared_memory(path) => {}
            What::Open {
                path,
                create,
                empty,
            } => {
                let known = self.names.get(path).copied();
                let node = match known {
                    None if *create => self.make(path, false, end),
                    None => return,
                    Some(node) => node,
                };
                if *empty && known.is_some() {
                    self.set_length(node, 0, end);
                }
            }
            What::Write { path, at, bytes } => {
                let Some(&node) = self.names.get(path) else {
                    return;
                };
                let node = &mut self.nodes[node];
                let at = at.unwrap_or(node.length);
                node.length = node.length.max(at + bytes.len());
                node.writes.push(Write {
                    end,
                    is_synced: false,
                    how: How::Bytes(at, bytes),
                });
            }
            What::Length { path, length } => {
                if let Some(&node) = self.names.get(path) {
                    self.set_length(node, *length, end);
                }
            }
            What::MakeFolder(path) => {
                self.make(path, true, end);
            }
            What::Rename(from, to) => {
                if let Some(node) = self.names.remove(from) {
                    assert!(!self.nodes[node].is_folder, "a folder was renamed");
                    self.rename(Some(from.as_path()), Some((to.as_path(), node)), end);
                }
            }
            What::Link(from, to) => {
                if let Some(&node) = self.names.get(from) {
                    self.rename(None, Some((to.as_path(), node)), end);
                }
            }
            What::Remove(path) => {
                if self.names.remove(path).is_some() {
                    self.rename(Some(path.as_path()), None, end);
                }
            }
            What::Unknown(name) => panic!("the model of a disk doesn't know the call {name}"),
            What::Sync(_) | What::Answer(_) => {}
        }
    }

    fn make(&mut self, path: &Path, is_folder: bool, end: Option<usize>) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node {
            is_folder,
            ..Node::default()
        });
        self.rename(None, Some((path, node)), end);
        node
    }

    fn set_length(&mut self, node: usize, length: usize, end: Option<usize>) {
        let node = &mut self.nodes[node];
        node.length = length;
        node.writes.push(Write {
            end,
            is_synced: false,
            how: How::Length(length),
        });
    }

    fn rename(&mut self, gone: Option<&Path>, come: Option<(&Path, usize)>, end: Option<usize>) {
        let folder = come.map(|(path, _)| path).or(gone).and_then(Path::parent);
        if let Some((path, node)) = come {
            self.names.insert(path.to_owned(), node);
        }
        self.changes.push(Change {
            folder: folder.expect("what has a name lies in a folder").to_owned(),
            end,
            is_synced: false,
            gone: gone.map(Path::to_owned),
            come: come.map(|(path, node)| (path.to_owned(), node)),
        });
    }

    /// All that had returned when the sync began.
    fn sync(&mut self, path: &Path, begin: usize) {
        let covers = |end: Option<usize>| end.is_some_and(|end| end < begin);
        for change in &mut self.changes {
            change.is_synced |= change.folder == path && covers(change.end);
        }
        if let Some(&node) = self.names.get(path) {
            for write in &mut self.nodes[node].writes {
                write.is_synced |= covers(write.end);
            }
        }
    }

    fn found(&self, root: &Path, chance: &mut Chance) -> Image {
        let mut names: BTreeMap<&Path, usize> = BTreeMap::new();
        for change in &self.changes {
            if change.is_synced || chance.keeps() {
                if let Some(gone) = &change.gone {
                    names.remove(gone.as_path());
                }
                if let Some((come, node)) = &change.come {
                    names.insert(come, *node);
                }
            }
        }
        let mut image = Image::default();
        // A folder comes before what is in it, which is lost with it.
        for (path, node) in names {
            let path = path.strip_prefix(root).expect("only those were followed");
            let node = &self.nodes[node];
            let folder = path.parent().unwrap_or(Path::new(""));
            if !folder.as_os_str().is_empty() && !image.folders.contains(folder) {
                continue;
            }
            if node.is_folder {
                image.folders.insert(path.to_owned());
            } else {
                image.files.insert(path.to_owned(), node.found(chance));
            }
        }
        image
    }
}

impl Node<'_> {
    fn found(&self, chance: &mut Chance) -> Vec<u8> {
        let mut found = Vec::new();
        for write in &self.writes {
            let is_torn = !write.is_synced && chance.below(3) == 0;
            let is_whole = write.is_synced || (!is_torn && chance.keeps());
            match write.how {
                How::Length(length) => {
                    if is_whole || (is_torn && chance.keeps()) {
                        found.resize(length, 0);
                    }
                }
                How::Bytes(at, bytes) if is_whole => put(&mut found, at, bytes),
                How::Bytes(at, bytes) if is_torn => tear(&mut found, at, bytes, chance),
                How::Bytes(..) => {}
            }
        }
        found
    }
}

/// Some sectors of it. A file may have grown without what it grew by.
fn tear(found: &mut Vec<u8>, mut at: usize, mut bytes: &[u8], chance: &mut Chance) {
    let end = at + bytes.len();
    if end > found.len() && chance.keeps() {
        found.resize(end, 0);
    }
    while !bytes.is_empty() {
        let (sector, rest) = bytes.split_at(bytes.len().min(SECTOR - at % SECTOR));
        if chance.keeps() {
            put(found, at, sector);
        }
        at += sector.len();
        bytes = rest;
    }
}

fn put(found: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if end > found.len() {
        found.resize(end, 0);
    }
    found[at..end].copy_from_slice(bytes);
}

/// SQLite's index of its write-ahead log: whoever opens the database first makes it anew.
fn is_shared_memory(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"-shm")
}
