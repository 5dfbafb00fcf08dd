//! What a child takes from itself.

use std::io;

use crate::Limits;

/// Takes from this process, for good: everything that can be asked of the kernel but to read and write what is open, to
/// have memory for data and to end (asking for more ends it); memory and time beyond the limits; dumps of its memory;
/// the right to gain rights; precedence before others. It ends when its parent does, and is the first to end when the
/// machine has no memory left.
///
/// What is open stays so, and what is in this process's memory may be read: the request, the file, the program. So
/// whoever takes it over can answer what he likes, and use the memory and the time that it has.
///
/// The kernel's calls are filtered on `x86_64`, `aarch64` and `riscv64`. Elsewhere on Linux, without Landlock, a child
/// could still remove and rename files and send signals as its user may, but open nothing and start nothing. On
/// other systems nothing is taken.
#[cfg(target_os = "linux")]
pub fn confine(limits: &Limits) -> io::Result<()> {
    use rustix::process::{
        DumpableBehavior, Signal, nice, set_dumpable_behavior, set_parent_process_death_signal,
    };
    // Before the process stops being its user's own in /proc. Neither is worth no picture at all.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = nice(NICE);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    let mapped = (mapped("VmSize:")?, mapped("VmData:")?);
    close_paths();
    limit(limits, mapped)?;
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))]
    super::filter::filter()?;
    Ok(())
}

/// Whoever waits for a thumbnail can wait a little longer than whoever waits for a message.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// No path leads anywhere, no address either, and signals stay within, as far as this kernel has Landlock.
#[cfg(target_os = "linux")]
fn close_paths() {
    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset,
        RulesetAttr as _, RulesetError, Scope,
    };
    let close = || -> Result<_, RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .restrict_self()
    };
    let _ = close();
}

#[cfg(target_os = "linux")]
fn limit(limits: &Limits, (space, data): (u64, u64)) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = |resource: Resource, soft: u64, hard: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let new = Rlimit {
            current: Some(soft.min(most)),
            maximum: Some(hard.min(most)),
        };
        setrlimit(resource, new)
    };
    let memory = limits.memory.saturating_add(SLACK);
    let (space, data) = (space.saturating_add(memory), data.saturating_add(memory));
    limit(Resource::As, space, space)?;
    limit(Resource::Data, data, data)?;
    let cpu = u64::from(limits.cpu);
    // At the soft limit a signal says so, which kills; at the hard one nothing is asked.
    limit(Resource::Cpu, cpu, cpu + 1)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nproc, 0, 0)?;
    limit(Resource::Nofile, 0, 0)?;
    Ok(())
}

/// What the child itself needs beside what it decodes: buffers, tables, its allocator's waste.
#[cfg(target_os = "linux")]
const SLACK: u64 = 64 << 20;

/// How much is taken already of the address space (`VmSize:`), or of that for data (`VmData:`): the program, and what its
/// allocator has laid by.
#[cfg(target_os = "linux")]
fn mapped(of: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(of));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc doesn't say how much memory is taken"))
}

/// Takes nothing: there are only the limits on what headers say, and the parent's clock.
#[cfg(not(target_os = "linux"))]
pub fn confine(_: &Limits) -> io::Result<()> {
    Ok(())
}
