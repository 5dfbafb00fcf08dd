//! What was found, in an operator's words.

/// How many examples are told of a finding.
pub(super) const EXAMPLES: usize = 10;

/// Something that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// How much of it there is.
    pub count: u64,
    /// Some of it: ids by which operators find it. Parts may come from strangers.
    pub examples: Vec<String>,
    /// What follows from it.
    pub means: &'static str,
    /// What to do about it.
    pub next: &'static str,
}

/// What a step has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What isn't as it should be.
    pub wrong: Vec<Finding>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// With this the following steps can't be understood.
    pub is_end: bool,
}

/// A kind of finding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) what: &'static str,
    pub(super) means: &'static str,
    pub(super) next: &'static str,
}

/// What to do about what only a backup has.
pub(super) const RESTORE: &str = "Restore a backup from before it that passes this check, then run `rhizome database restored` \
     (docs/durability.md). If there was no trouble with the disk, or the memory, please report it as a bug.";

/// What to do about counts that are derived from other rows.
pub(super) const DERIVED: &str = "What it is derived from is there, so nothing is lost. Restore a backup that passes this check, \
     or please report it as a bug with these ids.";

/// What to do about rows that belong to nothing.
pub(super) const LEFT_OVER: &str =
    "It takes room and does no harm. Please report it as a bug with these ids.";

/// What is found of one kind of fault.
#[derive(Debug)]
pub(super) struct Tally {
    fault: Fault,
    count: u64,
    examples: Vec<String>,
}

impl Fault {
    pub(super) fn tally(self) -> Tally {
        Tally {
            fault: self,
            count: 0,
            examples: Vec::new(),
        }
    }

    pub(super) fn found(self, count: u64, examples: Vec<String>) -> Finding {
        Finding {
            what: self.what,
            count,
            examples,
            means: self.means,
            next: self.next,
        }
    }
}

impl Tally {
    pub(super) fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

impl Findings {
    /// With what was found of these kinds, if anything was.
    pub(super) fn of(tallies: impl IntoIterator<Item = Tally>) -> Self {
        let found = tallies.into_iter().filter(|tally| tally.count > 0);
        let found = found.map(|tally| tally.fault.found(tally.count, tally.examples));
        Self {
            wrong: found.collect(),
            ..Self::default()
        }
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.wrong.extend(other.wrong);
        self.notes.extend(other.notes);
        self.is_end |= other.is_end;
        self
    }
}
