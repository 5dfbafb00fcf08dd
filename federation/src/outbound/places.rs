//! The places where one server can be reached, and which of them failed lately.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A place that failed isn't tried again before the others for so long.
const LEFT_ALONE: Duration = Duration::from_mins(5);

/// An address of a route's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The target, by its place in the route.
    pub(crate) target: usize,
    /// Where to connect to.
    pub(crate) address: SocketAddr,
}

/// The places of a route, in its order, each with when it failed last.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(Place, Option<Instant>)>);

impl Places {
    /// What is known of these is taken over.
    pub(crate) fn with(places: Vec<Place>, before: &Self) -> Self {
        let failed = |place: &Place| {
            let mut known = before.0.iter();
            let known = known.find(|(other, _)| other.address == place.address);
            known.and_then(|(_, failed)| *failed)
        };
        Self(places.into_iter().map(|it| (it, failed(&it))).collect())
    }

    /// Something was wrong with this one.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Instant) {
        for (place, failed) in &mut self.0 {
            if place.address == address {
                *failed = Some(now);
            }
        }
    }

    /// Whether there is one beside those that were tried.
    pub(crate) fn has_another(&self, tried: &[SocketAddr], at: SocketAddr) -> bool {
        let mut places = self.0.iter();
        places.any(|(place, _)| place.address != at && !tried.contains(&place.address))
    }

    /// Which to try now, the first one first. Those that failed lately come when nothing else is left.
    pub(crate) fn to_try(&self, tried: &[SocketAddr], now: Instant) -> Vec<Place> {
        let open = self.0.iter();
        let open = open.filter(|(place, _)| !tried.contains(&place.address));
        let has_failed = |failed: Option<Instant>| {
            failed.is_some_and(|at| now.saturating_duration_since(at) < LEFT_ALONE)
        };
        let (mut bad, good): (Vec<_>, Vec<_>) = open.copied().partition(|(_, at)| has_failed(*at));
        let chosen = if good.is_empty() {
            bad.sort_by_key(|(_, at)| *at);
            bad
        } else {
            good
        };
        chosen.into_iter().map(|(place, _)| place).collect()
    }
}

/// Addresses of both families in turn, IPv6 first
/// ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305#section-4)): where one family leads nowhere, the second try is of the
/// other.
pub(crate) fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut mixed = Vec::new();
    loop {
        let two = [six.next(), four.next()];
        if two == [None, None] {
            return mixed;
        }
        mixed.extend(two.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(target: usize, port: u16) -> Place {
        Place {
            target,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for (found, order) in [
            (
                addresses(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1", "[::2]:1", "[::3]:1"]),
                addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]),
            ),
            (addresses(&["1.1.1.1:1"]), addresses(&["1.1.1.1:1"])),
            (Vec::new(), Vec::new()),
        ] {
            assert_eq!(in_turn(found), order);
        }
    }

    #[test]
    fn what_failed_lately_comes_last() {
        let now = Instant::now();
        let all = [place(0, 1), place(0, 2), place(1, 3)];
        let mut places = Places::with(all.to_vec(), &Places::default());
        assert_eq!(places.to_try(&[], now), all);
        places.failed(all[1].address, now);
        places.failed(all[0].address, now);
        assert_eq!(places.to_try(&[], now), [all[2]]);
        assert!(places.has_another(&[all[0].address], all[2].address));
        // Of those that failed, the one that did so longest ago.
        let later = now + LEFT_ALONE / 2;
        places.failed(all[1].address, later);
        assert_eq!(places.to_try(&[all[2].address], later), all[..2]);
        // Looking again for the same places forgets nothing; time does.
        let places = Places::with(vec![place(0, 3), place(1, 2)], &places);
        assert_eq!(places.to_try(&[], later), [place(0, 3)]);
        assert_eq!(places.to_try(&[], later + LEFT_ALONE).len(), 2);
        let both = [all[1].address, all[2].address];
        assert_eq!(places.to_try(&both, later), []);
        assert!(!places.has_another(&both[..1], both[1]));
    }
}
