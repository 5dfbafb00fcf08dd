//! In which order the targets of SRV records are tried
//! ([RFC 2782](https://www.rfc-editor.org/rfc/rfc2782)): by priority, and among equals by chance, as their weights say.

use super::Srv;

/// The first `most` of these, each place once. The same records and `seed` give the same order.
pub(super) fn in_order(mut records: Vec<Srv>, seed: u64, most: usize) -> Vec<Srv> {
    // Name servers shuffle. Those that weigh nothing come first among equals, as the RFC wants it.
    records.sort_by(|a, b| {
        let key = |srv: &Srv| (srv.priority, srv.weight, srv.port);
        key(a).cmp(&key(b)).then_with(|| a.target.cmp(&b.target))
    });
    let mut ordered: Vec<Srv> = Vec::new();
    let mut draws = 0;
    while ordered.len() < most
        && let Some(priority) = records.first().map(|srv| srv.priority)
    {
        let is_equal = |srv: &&Srv| srv.priority == priority;
        let equals = records.iter().take_while(is_equal);
        let sum: u64 = equals.map(|srv| u64::from(srv.weight)).sum();
        let mut left = mixed(seed, draws) % (sum + 1);
        draws += 1;
        let drawn = records.iter().take_while(is_equal).position(|srv| {
            let weight = u64::from(srv.weight);
            let is_it = weight >= left;
            left = left.saturating_sub(weight);
            is_it
        });
        let chosen = records.remove(drawn.unwrap_or(0));
        let is_there = |other: &Srv| (&other.target, other.port) == (&chosen.target, chosen.port);
        if !ordered.iter().any(is_there) {
            ordered.push(chosen);
        }
    }
    ordered
}

/// A number that looks drawn by chance: the `step`-th of the sequence that begins at `seed` (SplitMix64).
fn mixed(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
