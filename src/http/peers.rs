//! Who is at the other end: how many connections an address holds, and who stands behind a proxy.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use ipnet::IpNet;
use rhizome_edge::limits::{BLOCKS_AT_ONCE, block_of, site_of};

/// How many connections each address holds.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<Holder, usize>>);

/// Who holds connections: a block, or all blocks of an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Block(IpAddr),
    Site(IpAddr),
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of `peer`; `None` when it has `limit` already, or its /48 has many times that.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, limit: usize) -> Option<Place> {
        let block = Holder::Block(block_of(peer));
        let site = site_of(peer).map(Holder::Site);
        let of_site = limit.saturating_mul(usize::from(BLOCKS_AT_ONCE));
        let mut counts = self.lock();
        let held = |who: Holder| counts.get(&who).copied().unwrap_or(0);
        if held(block) >= limit || site.is_some_and(|site| held(site) >= of_site) {
            return None;
        }
        for who in [Some(block), site].into_iter().flatten() {
            *counts.entry(who).or_default() += 1;
        }
        Some(Place {
            peers: self.clone(),
            of: [Some(block), site],
        })
    }
}

/// One counted connection.
pub(super) struct Place {
    peers: Arc<Peers>,
    of: [Option<Holder>; 2],
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.lock();
        for who in self.of.into_iter().flatten() {
            if let Some(count) = counts.get_mut(&who) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&who);
                }
            }
        }
    }
}

/// The address that a request came from: through trusted proxies, what the nearest one names.
pub(super) fn real_peer(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> SocketAddr {
    if !is_in(trusted, peer.ip()) {
        return peer;
    }
    let hops = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = hops
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut real = peer;
    for hop in hops.into_iter().rev().take(16) {
        let Some(address) = address_of(hop) else {
            break;
        };
        real = SocketAddr::new(address, 0);
        if !is_in(trusted, address) {
            break;
        }
    }
    real
}

/// An address as proxies name it: some say the port as well, and put IPv6 into brackets.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|hop| hop.ip());
    hop.parse().ok().or_else(with_port).or_else(bare)
}

/// Also where one of the two is an IPv4 address that is written as one of IPv6.
pub(super) fn is_in(ranges: &[IpNet], address: IpAddr) -> bool {
    let mapped = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        address @ IpAddr::V6(_) => address,
    };
    let address = address.to_canonical();
    let has = |range: &IpNet| {
        range.contains(&address) || range.prefix_len() >= 96 && range.contains(&mapped)
    };
    ranges.iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_so_many_connections() {
        let peers = Arc::new(Peers::default());
        let enter = |address: &str| peers.enter(address.parse().unwrap(), 2);
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        let (three, four) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::3").is_some());
        drop((two, three, four));
        assert!(peers.lock().is_empty());
    }

    #[test]
    fn all_blocks_of_a_site_hold_so_many_together() {
        let peers = Arc::new(Peers::default());
        let enter = |address: String| peers.enter(address.parse().unwrap(), 2);
        let mut places: Vec<_> = (0..32)
            .map(|n| enter(format!("2001:db8:1:{:x}::{n}", n / 2)))
            .collect();
        assert!(places.iter().all(Option::is_some));
        assert!(enter("2001:db8:1:ffff::1".into()).is_none());
        assert!(enter("2001:db8:2:ffff::1".into()).is_some());
        places.pop();
        assert!(enter("2001:db8:1:ffff::1".into()).is_some());
        drop(places);
        assert!(peers.lock().is_empty());
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let trusted: Vec<IpNet> = vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
            "::ffff:198.51.100.0/120".parse().unwrap(),
        ];
        let ip = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            if !forwarded.is_empty() {
                headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            }
            real_peer(
                SocketAddr::new(peer.parse().unwrap(), 9),
                &headers,
                &trusted,
            )
            .ip()
            .to_string()
        };
        assert_eq!(ip("192.0.2.1", "8.8.8.8"), "192.0.2.1");
        assert_eq!(ip("127.0.0.1", ""), "127.0.0.1");
        assert_eq!(ip("127.0.0.1", "8.8.8.8"), "8.8.8.8");
        assert_eq!(ip("127.0.0.1", "6.6.6.6, 8.8.8.8, 10.0.0.3"), "8.8.8.8");
        assert_eq!(ip("127.0.0.1", "8.8.8.8, rubbish"), "127.0.0.1");
        assert_eq!(ip("127.0.0.1", "8.8.8.8:443, 10.0.0.3:80"), "8.8.8.8");
        assert_eq!(ip("127.0.0.1", "[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(ip("127.0.0.1", "[2001:db8::1]"), "2001:db8::1");
        assert_eq!(ip("198.51.100.1", "8.8.8.8"), "8.8.8.8");
        assert_eq!(ip("::ffff:127.0.0.1", "2001:db8::1"), "2001:db8::1");
    }
}
