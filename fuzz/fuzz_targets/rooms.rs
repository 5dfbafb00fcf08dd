//! Bytes as the dice of a random room: its merges and decisions are those of a naive reading of the
//! specification, and of ruma's library. The first byte chooses the room version.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../protocol/tests/it/naive/mod.rs"]
mod naive;
#[path = "../../protocol/tests/it/oracle.rs"]
mod oracle;
#[path = "../../protocol/tests/it/random.rs"]
mod random;
#[path = "../../protocol/tests/it/room.rs"]
mod room;
#[path = "../../protocol/tests/it/ruma_event.rs"]
mod ruma_event;
#[path = "../../protocol/tests/it/scenario/mod.rs"]
mod scenario;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let version = room::VERSIONS[usize::from(*first) % room::VERSIONS.len()];
    let scenario = random::scenario(version, 0, bytes);
    if scenario.play().is_err() {
        panic!("{}", scenario.shrink().tell());
    }
});
