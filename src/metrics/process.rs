//! What the system says of this process, and of the room that is left for what it keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What is known of the process; `None`: the system doesn't say.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds that processors have worked for it.
    pub(super) cpu: f64,
    /// Bytes of memory that it has now.
    pub(super) resident: Option<u64>,
    /// Files and connections that it has open, …
    pub(super) open: Option<u64>,
    /// … and may have open.
    pub(super) most_open: Option<u64>,
}

/// How much room there is where something lies.
#[derive(Debug)]
pub(super) struct Room {
    /// What lies there.
    pub(super) place: String,
    /// Bytes that this process may still write.
    pub(super) free: u64,
    /// Bytes altogether.
    pub(super) size: u64,
}

/// Looks at the process. It reads files of the system's.
pub(super) fn look() -> Process {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(cpu.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(cpu.tv_nsec).unwrap_or_default();
    Process {
        cpu: super::sheet::number(seconds) + super::sheet::number(nanos) / 1e9,
        resident: fs::read_to_string("/proc/self/status")
            .ok()
            .as_deref()
            .and_then(resident),
        open: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|files| files.count() as u64),
        most_open: getrlimit(Resource::Nofile).current,
    }
}

/// `VmRSS`, bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// How much room there is in each of these places. What can't be looked at is left out.
pub(super) fn room(places: &[(String, PathBuf)]) -> Vec<Room> {
    let each = places.iter().filter_map(|(place, path)| {
        let there = rustix::fs::statvfs(nearest(path)).ok()?;
        Some(Room {
            place: place.clone(),
            free: there.f_bavail.saturating_mul(there.f_frsize),
            size: there.f_blocks.saturating_mul(there.f_frsize),
        })
    });
    each.collect()
}

/// The path, or what is there of it: a folder may be made later.
fn nearest(path: &Path) -> &Path {
    let mut there = path.ancestors();
    let found = there.find(|path| !path.as_os_str().is_empty() && path.exists());
    found.unwrap_or(Path::new("."))
}

/// Seconds since 1970.
pub(super) fn since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_time() {
        let process = look();
        assert!(process.cpu > 0.0, "{process:?}");
        assert!(process.resident.unwrap() > 1 << 20, "{process:?}");
        assert!(process.open.unwrap() > 2, "{process:?}");
    }

    #[test]
    fn room_is_looked_for_where_something_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let later = dir.path().join("not/yet");
        let rooms = room(&[
            ("data".into(), dir.path().to_owned()),
            ("files".into(), later),
        ]);
        assert_eq!(rooms.len(), 2, "{rooms:?}");
        assert_eq!(rooms[0].size, rooms[1].size);
        assert!(rooms[0].size >= rooms[0].free && rooms[0].size > 0);
    }

    #[test]
    fn memory_is_read_as_the_system_writes_it() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(resident("VmRSS:\tmany kB\n"), None);
        assert_eq!(resident(""), None);
    }
}
