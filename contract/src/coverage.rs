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

/// A server of ours asked this of one that a test makes up.
pub(crate) fn asked(binary: &str, operation: &str) {
    write(binary, &format!("asked {operation}"));
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

/// Operations that our servers don't have, and why that is right; whether ours ask others for them.
static NOT_OURS: [(&str, &str, bool); 2] = [
    (
        "GET /_matrix/federation/v1/query/{queryType}",
        "each type has a line of its own",
        false,
    ),
    (
        "POST /_matrix/policy/v1/sign",
        "of policy servers, which ours ask",
        true,
    ),
];

/// What all test binaries saw.
#[derive(Debug, Default)]
pub struct Coverage {
    routed: BTreeSet<String>,
    /// By operation.
    binaries: BTreeMap<String, BTreeSet<String>>,
    /// The same of what our servers asked of others that were made up.
    asked: BTreeMap<String, BTreeSet<String>>,
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
                let seen = if what == "asked" {
                    &mut self.asked
                } else {
                    &mut self.binaries
                };
                seen.entry(name).or_default().insert(binary.to_owned());
            }
        }
    }

    /// What must not be: operations that no test uses with success, or sees asked for; deviations that nothing needs.
    pub fn complaints(&self) -> Vec<String> {
        let untested = self
            .routed
            .iter()
            .filter(|operation| !self.binaries.contains_key(*operation))
            .map(|operation| format!("{operation} is there, and no test uses it with success"));
        let unasked = (NOT_OURS.iter())
            .filter(|(operation, _, asked)| *asked && !self.asked.contains_key(*operation))
            .map(|(operation, ..)| {
                format!("{operation} is asked of others, and no test looks at that")
            });
        let cases = DEVIATIONS.iter().flat_map(|one| one.cases);
        let names = cases.map(Case::name);
        let stale = names
            .filter(|name| !self.deviated.contains(name))
            .map(|name| format!("nothing deviates as contract/src/deviations.rs says: {name}"));
        untested.chain(unasked).chain(stale).collect()
    }

    /// The text of `docs/coverage.md`.
    pub fn page(&self) -> String {
        let mut page = String::from(
            "# Coverage\n\n\
             The operations of the specification: whether they are there, and which test binaries use them with \
             success,\neach exchange checked against the specification's OpenAPI files (`contract/`). Requests of our \
             servers to others\nthat tests make up are checked whatever is answered. \
             Made by `scripts/coverage`.\n",
        );
        let apis = [
            ("Client-server API", specification::client_server()),
            ("Server-server API", specification::server_server()),
        ];
        for (title, api) in apis {
            self.table(&mut page, title, api);
        }
        self.asked_table(&mut page);
        page
    }

    /// What our servers ask of application services.
    fn asked_table(&self, page: &mut String) {
        let api = specification::application_service();
        let mut operations: Vec<_> = (api.operations.keys())
            .filter_map(|key| key.split_once(' '))
            .collect();
        operations.sort_by_key(|(method, path)| (*path, *method));
        let asked = |key: &str| self.asked.get(key).into_iter().flatten();
        let count = (api.operations.keys()).filter(|key| asked(key).next().is_some());
        let (count, all) = (count.count(), operations.len());
        let _ = write!(
            page,
            "\n## Application service API\n\nOf services, which ours ask: {count} of {all}.\n\n\
             | operation | asked | tested by |\n|---|---|---|\n"
        );
        for (method, path) in operations {
            let key = format!("{method} {path}");
            let binaries: Vec<&str> = asked(&key).map(String::as_str).collect();
            let there = if binaries.is_empty() {
                "not yet"
            } else {
                "yes"
            };
            let _ = writeln!(page, "| `{key}` | {there} | {} |", binaries.join(", "));
        }
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
        let not_ours = |key: &str| NOT_OURS.iter().find(|(operation, ..)| *operation == key);
        let others = (api.operations.keys()).filter(|key| not_ours(key).is_some());
        let (there, all) = (there.count(), operations.len() - others.count());
        let _ = write!(
            page,
            "\n## {title}\n\n{there} of {all}.\n\n| operation | there | tested by |\n|---|---|---|\n"
        );
        for (method, path) in operations {
            let key = format!("{method} {path}");
            let (there, seen) = match not_ours(&key) {
                _ if self.routed.contains(&key) => ("yes", &self.binaries),
                Some((_, why, _)) => (*why, &self.asked),
                None => ("not yet", &self.binaries),
            };
            let binaries = seen.get(&key).into_iter().flatten();
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
