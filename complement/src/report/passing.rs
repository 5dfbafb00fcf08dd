//! The list of tests that pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::run::{Tally, TestId, Verdict};

const COMMIT: &str = "# suite at commit ";

/// The list: the suite's commit, and `package TestName` a line.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Passing {
    commit: String,
    pub(super) tests: BTreeSet<TestId>,
}

impl Passing {
    /// Reads the file; none is an empty list.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut list = Self::default();
        for line in text.lines() {
            if let Some(commit) = line.strip_prefix(COMMIT) {
                commit.clone_into(&mut list.commit);
            } else if !line.is_empty() && !line.starts_with('#') {
                let Some((package, test)) = line.split_once(' ') else {
                    bail!("`{line}` is not of the form `package TestName`");
                };
                list.tests.insert((package.to_owned(), test.to_owned()));
            }
        }
        Ok(list)
    }

    /// Adds what passed in at least two runs and failed in none. Nothing leaves the list by itself.
    pub(super) fn update(&mut self, results: &BTreeMap<TestId, Tally>, commit: Option<&str>) {
        if let Some(commit) = commit {
            commit.clone_into(&mut self.commit);
        }
        for (id, result) in results {
            if result.verdict == Verdict::Pass && result.passes >= 2 {
                self.tests.insert(id.clone());
            }
        }
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, self.text()).with_context(|| path.display().to_string())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# Top-level tests of Complement that pass. It only grows: a test of it that fails is a\n\
             # bug. `rhizome-complement report --update FILE…` adds to it (docs/conformance.md).\n\
             {COMMIT}{}\n",
            self.commit
        );
        for (package, test) in &self.tests {
            let _ = writeln!(text, "{package} {test}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::{merge, tests::run};
    use super::*;

    #[test]
    fn it_only_grows_and_is_read_back() {
        let mut list = Passing::parse("# suite at commit abc\n\ntests/a TestOld\n").unwrap();
        let both = || {
            run(&[
                ("run", "TestNew", ""),
                ("pass", "TestNew", ""),
                ("run", "TestOld", ""),
                ("fail", "TestOld", ""),
            ])
        };
        let once = run(&[("run", "TestOnce", ""), ("pass", "TestOnce", "")]);
        list.update(&merge(&[both(), both(), once]), Some("def"));
        let names: Vec<_> = list.tests.iter().map(|(_, test)| test.as_str()).collect();
        assert_eq!(names, ["TestNew", "TestOld"]);
        assert_eq!(list.commit, "def");
        assert_eq!(Passing::parse(&list.text()).unwrap(), list);
        assert!(Passing::parse("TestAlone\n").is_err());
    }
}
