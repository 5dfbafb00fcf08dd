//! What a child takes from itself.

use std::io;

use crate::Limits;

/// Takes from this process, for good: files and sockets that it hasn't opened, other processes, memory and time beyond
/// the limits, dumps of its memory, the right to gain rights. It ends when its parent does.
///
/// Not by all means: what is open stays so, and what it may read without opening anything it may read. On systems
/// other than Linux it takes nothing.
#[cfg(target_os = "linux")]
pub fn confine(limits: &Limits) -> io::Result<()> {
    use rustix::process::{
        DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    };
    let limit = |resource: Resource, soft: u64, hard: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let new = Rlimit {
            current: Some(soft.min(most)),
            maximum: Some(hard.min(most)),
        };
        setrlimit(resource, new)
    };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    let memory = limits.memory.saturating_add(SLACK);
    let address_space = mapped()?.saturating_add(memory);
    limit(Resource::As, address_space, address_space)?;
    limit(Resource::Data, memory, memory)?;
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

/// How much address space is taken already: the program, and what its allocator has laid by.
#[cfg(target_os = "linux")]
fn mapped() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc says no VmSize"))
}

/// Takes nothing: there are only the limits on what headers say, and the parent's clock.
#[cfg(not(target_os = "linux"))]
pub fn confine(_: &Limits) -> io::Result<()> {
    Ok(())
}
