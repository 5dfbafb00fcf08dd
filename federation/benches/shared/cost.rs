//! What this process spends.

use std::{fs, time::Instant};

/// This process, at one moment.
pub struct Cost {
    at: Instant,
    cpu: f64,
    /// MiB.
    pub rss: f64,
}

/// What it has spent since.
pub struct Spent {
    /// Seconds.
    pub wall: f64,
    /// Seconds of user and system time.
    pub cpu: f64,
    /// MiB above what it had before, at most.
    pub peak: f64,
}

impl Cost {
    pub fn begin() -> Self {
        // Lets the kernel count the most memory from here on.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        Self {
            at: Instant::now(),
            cpu: cpu(),
            rss: memory("VmRSS"),
        }
    }

    pub fn end(&self) -> Spent {
        Spent {
            wall: self.at.elapsed().as_secs_f64(),
            cpu: cpu() - self.cpu,
            peak: memory("VmHWM") - self.rss,
        }
    }
}

/// User and system time of this process, in seconds.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 14 and 15 of the whole, in ticks of 10 ms.
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// A line of `/proc/self/status`, in MiB.
pub fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<f64>().unwrap() / 1024.0
}
