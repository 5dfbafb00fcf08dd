//! What is said of the way from a name to addresses: the lists, `.well-known`, SRV records, DNS.

use std::net::{IpAddr, SocketAddr};

use super::finding::Finding;
use crate::{
    outbound::{Route, Srv, Target, WebError, WellKnown},
    servers::{Closed, Direction},
};

/// Whether the configuration lets a server in, or us out to it.
pub(super) fn rules(direction: Direction, closed: Option<Closed>) -> Finding {
    let way = match direction {
        Direction::In => "what it asks and sends",
        Direction::Out => "what we ask and send",
    };
    match closed {
        None => Finding::ok("lists", format!("{way} is let through")),
        Some(closed) => Finding::bad(
            "lists",
            format!("{way} isn't let through: it {}", closed.as_str()),
            "change federation.allowed_servers or federation.denied_servers (also those of federation.inbound and \
             federation.outbound), and restart the server",
        ),
    }
}

/// What a host answers to `/.well-known/matrix/server`.
pub(super) fn well_known(host: &str, answer: &Result<WellKnown, WebError>) -> Finding {
    const STEP: &str = "well-known";
    let address = format!("https://{host}/.well-known/matrix/server");
    match answer {
        Ok(WellKnown {
            server: Some(server),
            ..
        }) => Finding::ok(STEP, format!("{address} says {server}")),
        // Most common where SRV records or the usual port are used instead.
        Ok(_) | Err(WebError::Status(_)) => Finding::note(
            STEP,
            format!("there is no {address}: SRV records are asked for, then port 8448 is taken"),
            "nothing, if the server is to be found so",
        ),
        Err(WebError::Unreachable(why)) => Finding::note(
            STEP,
            format!("{address} can't be reached ({why}), which counts as if there were none"),
            "nothing, if the server is to be found by SRV records or at port 8448; else see that a web server with a valid \
             certificate is at that address",
        ),
        Err(error) => Finding::bad(
            STEP,
            format!("{address} can't be used: {error}. It counts as if there were none"),
            "let it answer 200 with JSON such as {\"m.server\": \"matrix.example.org:443\"}, or 404",
        ),
    }
}

/// The SRV records of a name.
pub(super) fn srv(name: &str, found: &Result<Vec<Srv>, String>) -> Finding {
    const STEP: &str = "srv";
    match found {
        Err(why) => Finding::note(
            STEP,
            format!("{why}; it counts as if there were none"),
            "see that the name server answers questions for SRV records, if there are to be any",
        ),
        Ok(records) if records.is_empty() => Finding::ok(STEP, format!("{name} has none")),
        Ok(records) => {
            let shown: Vec<String> = records
                .iter()
                .map(|srv| format!("{}:{}", srv.target.trim_end_matches('.'), srv.port))
                .collect();
            let what = format!("{name} leads to {}", shown.join(", "));
            if let Some(host) = name.strip_prefix("_matrix._tcp.") {
                let remedy = format!("name it _matrix-fed._tcp.{host}");
                Finding::note(STEP, format!("{what}; this name is deprecated"), remedy)
            } else {
                Finding::ok(STEP, what)
            }
        }
    }
}

/// Where a server listens, by all of that.
pub(super) fn route(route: &Result<Route, String>) -> Finding {
    const STEP: &str = "place";
    match route {
        Err(why) => Finding::bad(
            STEP,
            format!("it can't be found out where the server listens: {why}"),
            "see that the name servers that this machine asks (/etc/resolv.conf) answer",
        ),
        Ok(route) => {
            let targets: Vec<String> = route.targets.iter().map(target).collect();
            let what = format!(
                "it listens at {}, and shows a certificate for {}",
                targets.join(", "),
                route.certificate_name
            );
            Finding::ok(STEP, what)
        }
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Address(address) => address.to_string(),
        Target::Host(host, port) => format!("{host}:{port}"),
    }
}

/// The addresses of a target.
pub(super) fn addresses(of: &Target, found: &Result<Vec<SocketAddr>, String>) -> Finding {
    const STEP: &str = "dns";
    let name = target(of);
    let nowhere = "give the name an A record (IPv4) or an AAAA record (IPv6), or let .well-known or SRV records name another";
    match found {
        Err(why) => Finding::bad(STEP, format!("{name} has no address: {why}"), nowhere),
        Ok(addresses) if addresses.is_empty() => {
            Finding::bad(STEP, format!("{name} has no address"), nowhere)
        }
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Finding::ok(STEP, format!("{name} is {}", shown.join(", ")))
        }
    }
}

/// Which kinds of addresses there are.
pub(super) fn families(addresses: &[SocketAddr]) -> Option<Finding> {
    let (v4, v6): (Vec<&SocketAddr>, Vec<&SocketAddr>) =
        addresses.iter().partition(|one| one.is_ipv4());
    let lacking = match (v4.is_empty(), v6.is_empty()) {
        (true, false) => "there is no IPv4 address: servers that have IPv4 alone can't reach it",
        (false, true) => "there is no IPv6 address: servers that have IPv6 alone can't reach it",
        _ => return None,
    };
    Some(Finding::note(
        "dns",
        lacking,
        "add one, if the machine has one",
    ))
}

/// An address that we don't connect to, or that others don't. `ours`: it is our own name's.
pub(super) fn egress(address: IpAddr, ours: bool) -> Finding {
    const STEP: &str = "dns";
    if ours {
        return Finding::note(
            STEP,
            format!("{address} isn't public: from elsewhere nobody gets there"),
            "nothing, if elsewhere the name leads to a public address (check that from another network); else let its DNS records \
             name the public one",
        );
    }
    Finding::bad(
        STEP,
        format!("{address} is in a range that this server doesn't connect to"),
        "if the server is in your own network, put its range into federation.allowed_ranges; else its operator has to let its DNS \
         records name a public address",
    )
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::finding::Level;
    use super::*;

    fn known(server: &str) -> WellKnown {
        WellKnown {
            server: Some(server.try_into().unwrap()),
            max_age: None,
        }
    }

    #[test]
    fn what_a_well_known_says_counts_and_what_is_broken_is_told() {
        for (answer, level, word) in [
            (Ok(known("m.example:443")), Level::Ok, "says m.example:443"),
            (
                Err(WebError::Status(StatusCode::NOT_FOUND)),
                Level::Note,
                "port 8448",
            ),
            (
                Err(WebError::Unreachable("refused".to_owned())),
                Level::Note,
                "refused",
            ),
            (
                Err(WebError::Answer("m.server is no name".to_owned())),
                Level::Bad,
                "m.server is no name",
            ),
            (Err(WebError::Timeout), Level::Bad, "too long"),
        ] {
            let finding = well_known("a.example", &answer);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn srv_records_of_the_old_name_are_noted() {
        let records = || {
            vec![Srv {
                priority: 0,
                weight: 0,
                target: "host.example.".to_owned(),
                port: 1,
            }]
        };
        let new = srv("_matrix-fed._tcp.a.example", &Ok(records()));
        assert_eq!(new.level, Level::Ok);
        assert!(new.what.contains("host.example:1"), "{new:?}");
        let old = srv("_matrix._tcp.a.example", &Ok(records()));
        assert_eq!(old.level, Level::Note);
        assert_eq!(old.remedy, "name it _matrix-fed._tcp.a.example");
        let none = srv("_matrix._tcp.a.example", &Ok(Vec::new()));
        assert_eq!(none.level, Level::Ok);
    }

    #[test]
    fn one_kind_of_address_is_noted() {
        let of = |addresses: &[&str]| {
            let addresses: Vec<SocketAddr> =
                addresses.iter().map(|one| one.parse().unwrap()).collect();
            families(&addresses).map(|finding| finding.what)
        };
        assert_eq!(of(&["1.2.3.4:1", "[::2]:1"]), None);
        assert_eq!(of(&[]), None);
        assert!(of(&["1.2.3.4:1"]).unwrap().contains("no IPv6"));
        assert!(of(&["[::2]:1"]).unwrap().contains("no IPv4"));
    }

    #[test]
    fn who_is_shut_out_is_told_by_which_setting() {
        let finding = rules(Direction::Out, Some(Closed::NotAllowed));
        assert_eq!(finding.level, Level::Bad);
        assert!(finding.remedy.contains("federation.allowed_servers"));
        assert_eq!(rules(Direction::In, None).level, Level::Ok);
    }
}
