//! Which servers this one speaks with: the one place that decides it, by the configuration's lists and by what the operator
//! has blocked since. A pure function of names.
//!
//! Lists are read as server ACLs of rooms are: patterns with `*` and `?`, without regard to case, held against the name without
//! its port. What denies wins over what allows.

use std::collections::HashSet;

use rhizome_protocol::glob::{Glob, LONGEST, LONGEST_TEXT};
use rhizome_storage::Blocked;
use ruma::ServerName;

/// The most patterns of one list.
pub const MAX_PATTERNS: usize = 10_000;
/// The most patterns with wildcards of one list: each is held against every name that isn't found otherwise.
pub const MAX_WILD: usize = 1_000;

/// Who speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// They ask and send.
    In,
    /// We ask and send.
    Out,
}

/// Why a server isn't spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The configuration denies it.
    Denied,
    /// The configuration allows others alone.
    NotAllowed,
    /// The operator has blocked it.
    Blocked,
}

impl Closed {
    /// In words, which go on from the server's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "is denied by this server's configuration",
            Self::NotAllowed => "is not among the servers that this server's configuration allows",
            Self::Blocked => "is blocked by the operator of this server",
        }
    }
}

/// Which servers this one speaks with, by its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerRules {
    /// What holds in both directions;
    pub both: ServerLists,
    /// beside that, for what they ask and send,
    pub inbound: ServerLists,
    /// and for what we ask and send.
    pub outbound: ServerLists,
}

/// A list of those that are allowed, and one of those that are denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerLists {
    /// With no pattern: everybody.
    allowed: Patterns,
    denied: Patterns,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Patterns {
    names: HashSet<String>,
    globs: Vec<Glob>,
}

impl ServerRules {
    /// Why this server isn't spoken with; `None`: it is.
    pub fn judge(
        &self,
        direction: Direction,
        server: &ServerName,
        blocked: &Blocked,
    ) -> Option<Closed> {
        let is_blocked = || match direction {
            Direction::In => blocked.from(server),
            Direction::Out => blocked.to(server),
        };
        let configured = self.configured(direction, server);
        configured.or_else(|| is_blocked().then_some(Closed::Blocked))
    }

    /// [`ServerRules::judge`] by the configuration alone.
    pub fn configured(&self, direction: Direction, server: &ServerName) -> Option<Closed> {
        let own = match direction {
            Direction::In => &self.inbound,
            Direction::Out => &self.outbound,
        };
        let lists = [&self.both, own];
        if lists.iter().all(|one| one.is_empty()) {
            return None;
        }
        // Ports don't count, nor do capitals.
        let host = server.host().to_ascii_lowercase();
        if lists.iter().any(|one| one.denied.matches(&host)) {
            return Some(Closed::Denied);
        }
        let lets_in = |one: &&ServerLists| one.allowed.is_empty() || one.allowed.matches(&host);
        (!lists.iter().all(lets_in)).then_some(Closed::NotAllowed)
    }
}

impl ServerLists {
    /// Lists of patterns. What has a [`fault`] matches nothing.
    pub fn new<'a>(
        allowed: impl IntoIterator<Item = &'a String>,
        denied: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        Self {
            allowed: Patterns::of(allowed),
            denied: Patterns::of(denied),
        }
    }

    fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }
}

impl Patterns {
    fn of<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Self {
        let mut read = Self::default();
        for pattern in patterns {
            match Glob::parse(pattern) {
                Glob::Literal(name) => drop(read.names.insert(name.into())),
                // One that matches nothing stays: a list of what is allowed must not become empty by it.
                glob => read.globs.push(glob),
            }
        }
        read
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.globs.is_empty()
    }

    /// Whether one of them matches a host, which is in small letters.
    fn matches(&self, host: &str) -> bool {
        self.names.contains(host) || self.globs.iter().any(|glob| glob.matches(host))
    }
}

/// What is wrong with a pattern, and what to do.
pub fn fault(pattern: &str) -> Option<(&'static str, &'static str)> {
    let is_wild = is_wild(pattern);
    let beside_stars = pattern.chars().filter(|c| *c != '*').count();
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-._*?[]:".contains(c);
    if pattern.is_empty() || !pattern.chars().all(is_known) {
        return Some((
            "this is no server name",
            "write it as in user ids, with * for any characters and ? for one, such as \"*.example.org\"",
        ));
    }
    if pattern.len() > LONGEST_TEXT || (is_wild && beside_stars > LONGEST) {
        return Some((
            "no server's name is so long",
            "write 255 characters at most, or 127 beside stars",
        ));
    }
    // The colons of an IPv6 address stand in brackets.
    let after_address = pattern.rsplit_once(']').map_or(pattern, |(_, rest)| rest);
    if after_address.contains(':') {
        return Some((
            "ports don't count here, as in server ACLs of rooms",
            "leave the port out: all servers of the host are meant",
        ));
    }
    None
}

/// Whether a pattern has wildcards.
pub fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use ruma::OwnedServerName;

    use super::*;

    fn lists(allowed: &[&str], denied: &[&str]) -> ServerLists {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        ServerLists::new(&owned(allowed), &owned(denied))
    }

    fn of(rules: &ServerRules, server: &str) -> [Option<Closed>; 2] {
        let server: OwnedServerName = server.try_into().unwrap();
        [Direction::In, Direction::Out].map(|way| rules.configured(way, &server))
    }

    #[test]
    fn without_lists_everybody_is_spoken_with() {
        assert_eq!(of(&ServerRules::default(), "a.example"), [None; 2]);
    }

    #[test]
    fn names_are_held_against_patterns_as_server_acls_do() {
        let rules = ServerRules {
            both: lists(
                &["*.Example.org", "h?st", "[2001:DB8::*]"],
                &["bad.example.org"],
            ),
            ..ServerRules::default()
        };
        for open in [
            "a.example.org",
            "A.B.EXAMPLE.ORG:8448",
            "host",
            "hOst:1",
            "[2001:db8::1]:8448",
        ] {
            assert_eq!(of(&rules, open), [None; 2], "{open}");
        }
        for others in ["example.org", "hoost", "1.2.3.4", "[2001:db9::1]"] {
            assert_eq!(
                of(&rules, others),
                [Some(Closed::NotAllowed); 2],
                "{others}"
            );
        }
        for denied in ["bad.example.org", "BAD.example.org:443"] {
            assert_eq!(of(&rules, denied), [Some(Closed::Denied); 2], "{denied}");
        }
    }

    #[test]
    fn what_is_said_of_one_direction_comes_on_top() {
        let rules = ServerRules {
            both: lists(&[], &["evil.*"]),
            inbound: lists(&["*.partner.example"], &[]),
            outbound: lists(&[], &["loud.partner.example"]),
        };
        assert_eq!(of(&rules, "evil.example"), [Some(Closed::Denied); 2]);
        assert_eq!(of(&rules, "a.partner.example"), [None; 2]);
        let loud = [None, Some(Closed::Denied)];
        assert_eq!(of(&rules, "loud.partner.example"), loud);
        let other = [Some(Closed::NotAllowed), None];
        assert_eq!(of(&rules, "other.example"), other);
    }

    #[test]
    fn a_list_with_a_pattern_that_matches_nothing_allows_nobody() {
        let rules = ServerRules {
            both: lists(&[&format!("*{}", "a".repeat(200))], &[]),
            ..ServerRules::default()
        };
        assert_eq!(of(&rules, "a.example"), [Some(Closed::NotAllowed); 2]);
    }

    #[test]
    fn patterns_that_can_match_nothing_have_a_fault() {
        let long = "a".repeat(256);
        let wild = format!("*{}", "a".repeat(128));
        for bad in [
            "",
            "https://a.example",
            "a.example:8448",
            "[::1]:8448",
            "@a:b",
            "a b",
            "b\u{fc}cher.example",
            &long,
            &wild,
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
        for good in [
            "a.example",
            "*",
            "*.a-b.example",
            "h?st",
            "[2001:db8::*]",
            "1.2.3.4",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
    }
}
