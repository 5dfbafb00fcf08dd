//! Which operations are there and which tests touch them.
//!
//! Test binaries append lines to files named after them, each line once; `docs/coverage.md` is made of these.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
};

use crate::{
    deviations::{Case, DEVIATIONS},
    specification::{self, Api},
};

/// Names the folder for what was seen.
const FOLDER: &str = "RHIZOME_CONTRACT_DIR";

static DIR: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(FOLDER).map(Into::into));
static WRITTEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// An exchange of an operation; only a success is a test of it.
pub(crate) fn saw(binary: &str, operation: &str, status: u16) {
    if status < 400 {
        write(binary, &format!("tested {operation}"));
    }
}

/// A deviation was needed.
pub(crate) fn deviated(binary: &str, case: &Case) {
    write(binary, &format!("deviated {}", case.name()));
}

/// The server has an operation.
pub(crate) fn routed(binary: &str, operation: &str) {
    write(binary, &format!("routed {operation}"));
}

fn write(binary: &str, line: &str) {
    let Some(dir) = &*DIR else {
        return;
    };
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if written.insert(line.to_owned()) {
        append(&dir.join(binary), line).unwrap_or_else(|error| panic!("{FOLDER}: {error}"));
    }
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// What all test binaries saw.
#[derive(Debug, Default)]
pub struct Coverage {
    routed: BTreeSet<String>,
    /// By operation.
    binaries: BTreeMap<String, BTreeSet<String>>,
    deviated: BTreeSet<String>,
}

impl Coverage {
    /// Reads what they left in `dir`.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut coverage = Self::default();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let binary = entry.file_name().to_string_lossy().into_owned();
            for line in std::fs::read_to_string(entry.path())?.lines() {
                coverage.add(&binary, line);
            }
        }
        Ok(coverage)
    }

    /// One line of what a test binary left.
    pub fn add(&mut self, binary: &str, line: &str) {
        let (what, name) = line.split_once(' ').unwrap_or((line, ""));
        let name = name.to_owned();
        match what {
            "routed" => drop(self.routed.insert(name)),
            "deviated" => drop(self.deviated.insert(name)),
            _ => {
                let binaries = self.binaries.entry(name).or_default();
                binaries.insert(binary.to_owned());
            }
        }
    }

    /// What must not be: operations that no test uses with success, deviations that nothing needs.
    pub fn complaints(&self) -> Vec<String> {
        let untested = self
            .routed
            .iter()
            .filter(|operation| !self.binaries.contains_key(*operation))
            .map(|operation| format!("{operation} is there, and no test uses it with success"));
        let cases = DEVIATIONS.iter().flat_map(|one| one.cases);
        let names = cases.map(Case::name);
        let stale = names
            .filter(|name| !self.deviated.contains(name))
            .map(|name| format!("nothing deviates as contract/src/deviations.rs says: {name}"));
        untested.chain(stale).collect()
    }

    /// The text of `docs/coverage.md`.
    pub fn page(&self) -> String {
        let mut page = String::from(
            "# Coverage\n\n\
             The operations of the specification: whether they are there, and which test binaries use them with \
             success,\neach exchange checked against the specification's OpenAPI files (`contract/`). \
             Made by `scripts/coverage`.\n",
        );
        let apis = [
            ("Client-server API", specification::client_server()),
            ("Server-server API", specification::server_server()),
        ];
        for (title, api) in apis {
            self.table(&mut page, title, api);
        }
        page
    }

    fn table(&self, page: &mut String, title: &str, api: &Api) {
        let mut operations: Vec<_> = api
            .operations
            .keys()
            .filter_map(|key| key.split_once(' '))
            .collect();
        operations.sort_by_key(|(method, path)| (*path, *method));
        let there = api
            .operations
            .keys()
            .filter(|key| self.routed.contains(*key));
        let (there, all) = (there.count(), operations.len());
        let _ = write!(
            page,
            "\n## {title}\n\n{there} of {all}.\n\n| operation | there | tested by |\n|---|---|---|\n"
        );
        for (method, path) in operations {
            let key = format!("{method} {path}");
            let there = if self.routed.contains(&key) {
                "yes"
            } else {
                "not yet"
            };
            let binaries = self.binaries.get(&key).into_iter().flatten();
            let binaries: Vec<&str> = binaries.map(String::as_str).collect();
            let _ = writeln!(page, "| `{key}` | {there} | {} |", binaries.join(", "));
        }
    }
}

/// Whether two pages say the same about what is there. Which tests touch an operation may hang on what servers do in
/// the background.
pub fn agree(one: &str, other: &str) -> bool {
    let there = |page: &str| -> Vec<String> {
        let lines = page.lines();
        let cells = lines.map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" | "));
        cells.collect()
    };
    there(one) == there(other)
}
