//! What the kernel says about processes: CPU time and memory of a process with all its children.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// The numbers of `/proc/PID/stat` that are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time, the same of awaited children: in hundredths of a second.
    ticks: u64,
}

/// Reads a line of `/proc/PID/stat`.
fn parse_stat(line: &str) -> Option<Stat> {
    // The name in parentheses may hold spaces and parentheses itself.
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let mut ticks = 0;
    for index in 11..=14 {
        ticks += u64::try_from(number(index)?).unwrap_or(0);
    }
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks,
    })
}

/// Memory of processes, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Proportional set size: shared pages count in parts.
    pub pss: u64,
    /// Resident set size.
    pub rss: u64,
}

/// Reads `/proc/PID/smaps_rollup`.
fn parse_smaps(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory {
        pss: field("Pss:")?,
        rss: field("Rss:")?,
    })
}

/// All processes that run, by their id.
fn all() -> anyhow::Result<HashMap<u32, Stat>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").context("/proc can't be read")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        if let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(stat) = parse_stat(&line)
        {
            found.insert(pid, stat);
        }
    }
    Ok(found)
}

/// `root` and everything below it.
fn tree(root: u32, all: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = all.iter().filter(|(_, stat)| stat.parent == parent);
        found.extend(children.map(|(pid, _)| *pid).filter(|pid| *pid != parent));
    }
    found
}

/// CPU time that these process trees have used so far.
pub fn cpu(roots: &[u32]) -> anyhow::Result<Duration> {
    let all = all()?;
    let mut ticks = 0;
    for root in roots {
        ensure!(all.contains_key(root), "process {root} has ended");
        let members = tree(*root, &all);
        ticks += members
            .iter()
            .filter_map(|pid| all.get(pid))
            .map(|stat| stat.ticks)
            .sum::<u64>();
    }
    // Linux counts in hundredths of a second for user programs, whatever its own tick.
    Ok(Duration::from_millis(ticks * 10))
}

/// Memory that these process trees use now.
pub fn memory(roots: &[u32]) -> anyhow::Result<Memory> {
    let all = all()?;
    let mut sum = Memory::default();
    for pid in roots.iter().flat_map(|root| tree(*root, &all)) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        if let Some(memory) = text.ok().as_deref().and_then(parse_smaps) {
            sum.pss += memory.pss;
            sum.rss += memory.rss;
        }
    }
    ensure!(sum.rss > 0, "the memory of {roots:?} can't be read");
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4242 (a (strange) name) S 17 4242 4242 0 -1 4194560 900 10 0 0 \
        123 45 6 7 20 0 9 0 8812345 123456789 4000 18446744073709551615 1 1 0 0 0 0 0 0 0";

    #[test]
    fn a_stat_line() {
        let wanted = Stat {
            parent: 17,
            ticks: 123 + 45 + 6 + 7,
        };
        assert_eq!(parse_stat(LINE), Some(wanted));
        assert_eq!(parse_stat(""), None);
        assert_eq!(parse_stat("1 (init) S 0 1 1 0"), None);
        assert_eq!(parse_stat("1 (init) S x 1 1 0 -1 0 0 0 0 0 1 2 3 4"), None);
    }

    #[test]
    fn a_memory_rollup() {
        let text = "55d-7ff ---p 00000000 00:00 0    [rollup]\n\
            Rss:               12345 kB\nPss:                6789 kB\nPss_Dirty:          1 kB\n";
        let wanted = Memory {
            pss: 6789,
            rss: 12345,
        };
        assert_eq!(parse_smaps(text), Some(wanted));
        assert_eq!(parse_smaps("Rss: 1 kB\n"), None);
        assert_eq!(parse_smaps("Rss: 1 kB\nPss: many\n"), None);
    }

    #[test]
    fn grandchildren_belong_to_the_tree() {
        let stat = |parent| Stat { parent, ticks: 1 };
        let all = HashMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (4, stat(9))]);
        let mut found = tree(1, &all);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn this_process_is_there() {
        let own = std::process::id();
        assert!(cpu(&[own]).is_ok());
        let memory = memory(&[own]).unwrap();
        assert!(memory.rss >= memory.pss && memory.pss > 100);
        assert!(cpu(&[u32::MAX]).is_err());
    }
}
