//! Server access control lists: may this server take part in that room?
//!
//! The rules are those of `m.room.server_acl` (client-server API, "Server ACLs for rooms"), applied
//! to every inbound room endpoint and, per event and per room, to transactions.

use std::net::{Ipv4Addr, Ipv6Addr};

use rhizome_protocol::Object;
use ruma::ServerName;
use serde_json::Value;

/// Whether the content of a room's current `m.room.server_acl` lets `server` in.
///
/// `content` is `None` when the room has no such event. Malformed fields count as absent, as the
/// event's schema says.
pub(crate) fn allows(content: Option<&Object>, server: &ServerName) -> bool {
    // 1. No event: allow.
    let Some(content) = content else { return true };
    // The port is never considered.
    let host = server.host();
    // 2. IP literals, if they are refused.
    if content.get("allow_ip_literals") == Some(&Value::Bool(false)) && is_ip_literal(host) {
        return false;
    }
    let matches = |field: &str| {
        content
            .get(field)
            .and_then(Value::as_array)
            .is_some_and(|globs| {
                globs
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|glob| glob_matches(glob, host))
            })
    };
    // 3. The deny list wins over 4., the allow list; 5. what neither names is denied.
    !matches("deny") && matches("allow")
}

fn is_ip_literal(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<Ipv4Addr>().is_ok() || bare.parse::<Ipv6Addr>().is_ok()
}

/// Glob matching without regard to ASCII case: `*` is any run of characters, `?` exactly one.
///
/// Linear in memory and at worst quadratic in time, whatever the pattern says.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    // Where to resume when a literal fails after the last `*`: (glob index after it, text index).
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                g += 1;
                retry = Some((g, t));
            }
            Some(&c) if c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                g = after_star;
                t = from + 1;
                retry = Some((after_star, t));
            }
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;

    fn acl(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_five_rules_in_order() {
        let evil = server_name!("evil.com:8448");
        assert!(allows(None, evil));
        let all = acl(json!({ "allow": ["*"], "deny": ["EVIL.com"] }));
        assert!(!allows(Some(&all), evil));
        assert!(!allows(Some(&all), server_name!("evil.com")));
        assert!(allows(Some(&all), server_name!("good.com")));
        let nobody = acl(json!({}));
        assert!(!allows(Some(&nobody), server_name!("good.com")));
        let some = acl(json!({ "allow": ["*.example.org", "h?st"], "deny": 3 }));
        assert!(allows(Some(&some), server_name!("a.b.example.org:1")));
        assert!(!allows(Some(&some), server_name!("example.org")));
        assert!(allows(Some(&some), server_name!("host")));
        assert!(!allows(Some(&some), server_name!("hoost")));
    }

    #[test]
    fn ip_literals_only_when_allowed() {
        for ip in [
            server_name!("1.2.3.4"),
            server_name!("1.2.3.4:80"),
            server_name!("[::1]:8448"),
        ] {
            assert!(allows(Some(&acl(json!({ "allow": ["*"] }))), ip));
            assert!(allows(
                Some(&acl(json!({ "allow": ["*"], "allow_ip_literals": "no" }))),
                ip
            ));
            assert!(!allows(
                Some(&acl(json!({ "allow": ["*"], "allow_ip_literals": false }))),
                ip
            ));
        }
    }

    #[test]
    fn a_hostile_glob_is_cheap() {
        let stars = "*a".repeat(2_000);
        let name: ruma::OwnedServerName = "a".repeat(200).parse().unwrap();
        assert!(!allows(Some(&acl(json!({ "allow": [stars] }))), &name));
    }
}
