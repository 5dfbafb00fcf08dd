use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

#[derive(Default)]
struct Fake {
    well_known: HashMap<&'static str, &'static str>,
    srv: HashMap<&'static str, Vec<(&'static str, u16)>>,
    asked: AtomicUsize,
}

impl Lookup for Fake {
    async fn well_known(&self, host: &str) -> WellKnown {
        self.asked.fetch_add(1, Ordering::Relaxed);
        WellKnown {
            server: self
                .well_known
                .get(host)
                .and_then(|name| (*name).try_into().ok()),
            max_age: None,
        }
    }

    async fn srv(&self, name: &str) -> Result<Vec<Srv>, String> {
        let records = self
            .srv
            .get(name.trim_end_matches('.'))
            .cloned()
            .unwrap_or_default();
        Ok(records
            .into_iter()
            .zip(0..)
            .map(|((target, port), priority)| Srv {
                priority,
                weight: 0,
                target: target.to_owned(),
                port,
            })
            .collect())
    }
}

fn describe(route: &Route) -> String {
    let targets: Vec<String> = route
        .targets
        .iter()
        .map(|target| match target {
            Target::Address(address) => address.to_string(),
            Target::Host(host, port) => format!("{host}:{port}"),
        })
        .collect();
    format!(
        "{} | {} | {}",
        targets.join(" "),
        route.host_header,
        route.certificate_name
    )
}

/// Servers of every kind that the specification has a step for.
fn servers() -> Fake {
    Fake {
        well_known: HashMap::from([
            ("wk-ip.example", "10.0.0.1"),
            ("wk-ip6-port.example", "[2001:db8::1]:444"),
            ("wk-port.example", "matrix.wk.example:443"),
            ("wk-srv.example", "hosted.example"),
            ("wk-srv-old.example", "old.example"),
            ("wk-plain.example", "plain-delegate.example"),
            ("wk-bad.example", "not a name"),
        ]),
        srv: HashMap::from([
            (
                "_matrix-fed._tcp.hosted.example",
                vec![("a.host.example.", 1000), ("b.host.example", 2000)],
            ),
            ("_matrix._tcp.hosted.example", vec![("wrong.example", 1)]),
            ("_matrix._tcp.old.example", vec![("old.host.example", 3000)]),
            (
                "_matrix-fed._tcp.srv.example",
                vec![("s.host.example", 4000)],
            ),
            (
                "_matrix._tcp.srv-old.example",
                vec![("so.host.example", 5000)],
            ),
            ("_matrix-fed._tcp.none.example", vec![(".", 0)]),
            // Explicit ports and literals never ask for SRV.
            ("_matrix-fed._tcp.port.example", vec![("wrong.example", 1)]),
        ]),
        ..Fake::default()
    }
}

/// What discovery finds of these: targets, `Host`, the certificate's name.
const FOUND: [(&str, &str); 16] = [
    // Step 1
    ("1.2.3.4", "1.2.3.4:8448 | 1.2.3.4 | 1.2.3.4"),
    ("1.2.3.4:80", "1.2.3.4:80 | 1.2.3.4:80 | 1.2.3.4"),
    (
        "[2001:db8::2]",
        "[2001:db8::2]:8448 | [2001:db8::2] | 2001:db8::2",
    ),
    (
        "[2001:db8::2]:81",
        "[2001:db8::2]:81 | [2001:db8::2]:81 | 2001:db8::2",
    ),
    // Step 2
    (
        "port.example:99",
        "port.example:99 | port.example:99 | port.example",
    ),
    // Step 3.1
    ("wk-ip.example", "10.0.0.1:8448 | 10.0.0.1 | 10.0.0.1"),
    (
        "wk-ip6-port.example",
        "[2001:db8::1]:444 | [2001:db8::1]:444 | 2001:db8::1",
    ),
    // Step 3.2
    (
        "wk-port.example",
        "matrix.wk.example:443 | matrix.wk.example:443 | matrix.wk.example",
    ),
    // Step 3.3
    (
        "wk-srv.example",
        "a.host.example:1000 b.host.example:2000 | hosted.example | hosted.example",
    ),
    // Step 3.4
    (
        "wk-srv-old.example",
        "old.host.example:3000 | old.example | old.example",
    ),
    // Step 3.5
    (
        "wk-plain.example",
        "plain-delegate.example:8448 | plain-delegate.example | plain-delegate.example",
    ),
    // An invalid answer counts as none: step 6
    (
        "wk-bad.example",
        "wk-bad.example:8448 | wk-bad.example | wk-bad.example",
    ),
    // Step 4
    (
        "srv.example",
        "s.host.example:4000 | srv.example | srv.example",
    ),
    // Step 5
    (
        "srv-old.example",
        "so.host.example:5000 | srv-old.example | srv-old.example",
    ),
    // Step 6
    (
        "plain.example",
        "plain.example:8448 | plain.example | plain.example",
    ),
    (
        "none.example",
        "none.example:8448 | none.example | none.example",
    ),
];

#[tokio::test]
async fn every_case_of_the_specification() {
    let fake = servers();
    for (name, expected) in FOUND {
        let name: OwnedServerName = name.try_into().unwrap();
        let route = resolve(&name, &fake, 1, async |host| fake.well_known(&host).await)
            .await
            .unwrap();
        assert_eq!(describe(&route), expected, "{name}");
    }
}

fn srv(priority: u16, weight: u16, target: &str) -> Srv {
    Srv {
        priority,
        weight,
        target: target.to_owned(),
        port: 1,
    }
}

#[test]
fn targets_come_by_priority_and_are_bounded() {
    let records = [
        srv(20, 9, "d"),
        srv(10, 0, "c."),
        srv(10, 0, "b"),
        srv(0, 1, "a"),
        srv(30, 0, "e"),
        srv(0, 0, "."),
        // The same place again is no other one.
        srv(20, 1, "a"),
    ];
    for seed in 0..50 {
        let mut shuffled = records.to_vec();
        shuffled.rotate_left(usize::try_from(seed % 7).unwrap());
        let told = describe(&by_srv("h", shuffled, seed));
        let places: Vec<&str> = told.split(' ').take(4).collect();
        assert_eq!((places[0], places[3]), ("a:1", "d:1"), "{told}");
        assert!(places.contains(&"b:1") && places.contains(&"c:1"), "{told}");
    }
}

#[test]
fn among_equal_priorities_weights_say_how_often_one_is_first() {
    let records = || vec![srv(1, 30, "a"), srv(1, 10, "b"), srv(1, 0, "c")];
    let first = |seed| match by_srv("h", records(), seed).targets.swap_remove(0) {
        Target::Host(host, _) => host,
        Target::Address(address) => address.to_string(),
    };
    let count = |host: &str| (0..1000).filter(|seed| first(*seed) == host).count();
    let (a, b, c) = (count("a"), count("b"), count("c"));
    assert!(a > 2 * b && b > 2 * c, "{a} {b} {c}");
    assert!(b > 100, "{b}");
    // The same chance, the same order.
    assert_eq!(by_srv("h", records(), 7), by_srv("h", records(), 7));
}

#[tokio::test]
async fn answers_are_cached_and_forgotten_routes_dont_ask_well_known_again() {
    let discovery = Discovery::new(Fake {
        well_known: HashMap::from([("a.example", "b.example:1")]),
        ..Fake::default()
    });
    for name in ["a.example", "missing.example"] {
        let name: OwnedServerName = name.try_into().unwrap();
        discovery.route(&name).await.unwrap();
        discovery.route(&name).await.unwrap();
        discovery.forget(&name);
        discovery.route(&name).await.unwrap();
    }
    let asked = || discovery.lookup.asked.load(Ordering::Relaxed);
    assert_eq!(asked(), 2);
    let name: OwnedServerName = "a.example".try_into().unwrap();
    discovery.forget_all(&name);
    discovery.route(&name).await.unwrap();
    assert_eq!(asked(), 3);
}
